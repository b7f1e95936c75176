from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from callbacks.rounds.judging import (
    judge_student,
    label_entropy,
    rounds_without_rise,
    score_spread,
    signs_of_collapse,
)
from callbacks.rounds.labels import StudentScores
from callbacks.rounds.rows import RoundRow
from datamodules.distortions import DISTORTIONS
from datamodules.labels import Consensus, Request
from datamodules.labels.label_store import READ_SCHEMA
from datamodules.labels.references import CIRCUITS
from datamodules.video import Video
from vqa_lightning.scoring import ErrorModel

SIMULATOR = DISTORTIONS["jpeg"]
VIDEOS = [Video(f"v{index}", f"v{index}", content=f"content {index}") for index in range(30)]
SCORES = np.array([0.0, 1.0])
PROBE = [Request(video, SIMULATOR, level) for video in VIDEOS for level in range(1, 5)]


def said_by(name: str, right: int, train: np.ndarray = SCORES) -> StudentScores:
    """Scores that order the ladders of the first `right` videos and turn the ladders of the others round."""
    rows = [
        {
            "video_id": video.video_id,
            "simulator": SIMULATOR.identity if level else None,
            "level": level,
            "draw": 0,
            "score": float(-level if index < right else level),
            "round": 1,
            "annotator": "student",
            "fingerprint": name,
        }
        for index, video in enumerate(VIDEOS)
        for level in range(5)
    ]
    table = pa.Table.from_pylist(rows, schema=READ_SCHEMA)
    return StudentScores(1, table, name, ErrorModel(1, 0), train, Consensus((), np.empty(0), np.empty(0)))


def row_of(label_entropy: float, probe: float = 0.0) -> RoundRow:
    return RoundRow(0, {}, 0, 0, 0, 0, {}, (probe, 0, 0), "kept", label_entropy, 1.0, 0)


class TestJudgeStudent:
    def test_the_first_round_is_kept_whatever_it_says(self) -> None:
        verdict = judge_student(said_by("a", 3), None, PROBE, {}, [])
        assert verdict.kept
        assert verdict.agreement.value == pytest.approx((3 - 27) / 30)

    def test_a_clear_fall_is_rejected_and_said(self) -> None:
        verdict = judge_student(said_by("b", 18), said_by("a", 30), PROBE, {}, [])
        assert not verdict.kept
        assert "-0.800" in verdict.reason

    def test_a_fall_within_its_interval_is_kept(self) -> None:
        # One content of thirty: a resample without it has no fall, as a third of the resamples.
        verdict = judge_student(said_by("b", 29), said_by("a", 30), PROBE, {}, [])
        assert verdict.kept

    def test_one_score_for_all_is_rejected(self) -> None:
        assert not judge_student(said_by("a", 30, np.array([2.0, np.nan, 2.0])), None, PROBE, {}, []).kept

    def test_without_a_ladder_in_common_nothing_is_believed(self) -> None:
        verdict = judge_student(said_by("b", 30), said_by("a", 30), [], {}, [])
        assert not verdict.kept
        assert "no ladder" in verdict.reason

    def test_one_content_is_too_few_to_reject(self) -> None:
        assert judge_student(said_by("b", 0), said_by("a", 30), PROBE[:4], {}, []).kept


class TestCollapse:
    def test_scores_within_their_errors_have_no_label_entropy(self) -> None:
        names = tuple(f"v{index}" for index in range(500))
        score = np.random.default_rng(0).normal(size=500)
        clear, blurred = (Consensus(names, score, np.full(500, variance)) for variance in (0.1, 100.0))
        assert label_entropy(blurred) < 0.05 < 1.5 < label_entropy(clear) <= np.log2(5)
        # Of 500 normal draws the deviation is 1 to 3 %.
        assert score_spread(clear) == pytest.approx(1 / np.sqrt(0.1), rel=0.1)

    def test_a_figure_below_half_of_its_largest_is_told(self) -> None:
        (sign,) = signs_of_collapse([row_of(2.0), row_of(1.9), row_of(0.9)])
        assert "label_entropy is 0.90 after 2.00" in sign
        assert not signs_of_collapse([row_of(2.0), row_of(1.1)])
        assert not signs_of_collapse([row_of(0.1)])


def test_rounds_are_counted_from_the_first_best_one() -> None:
    assert rounds_without_rise([row_of(1, probe) for probe in (0.1, 0.3, np.nan, 0.3)]) == 2


class TestAcrossContents:
    SOURCES = [Video(f"s{n}", f"s{n}.mp4", content=f"s{n}") for n in range(12)]
    REFERENCES = [Request(source, CIRCUITS, level) for source in SOURCES for level in (1, 2, 3)]
    KNOWN = {request.key: float(index) for index, request in enumerate(REFERENCES)}

    def student(self, name: str, errors: float) -> StudentScores:
        """Right about every ladder, and about the scale but for some noise."""
        noise = np.random.default_rng(0).standard_normal(len(self.REFERENCES)) * errors
        found = said_by(name, 30)
        rows = [
            {
                "video_id": request.key[0],
                "simulator": request.key[1],
                "level": request.level,
                "draw": 0,
                "score": self.KNOWN[request.key] + float(noise[index]),
                "round": 1,
                "annotator": "student",
                "fingerprint": name,
            }
            for index, request in enumerate(self.REFERENCES)
        ]
        table = pa.concat_tables([found.table, pa.Table.from_pylist(rows, schema=READ_SCHEMA)])
        return replace(found, table=table)

    def test_agreement_is_the_rank_correlation_with_the_metric(self) -> None:
        verdict = judge_student(self.student("a", 0), None, PROBE, self.KNOWN, self.REFERENCES)
        assert verdict.across.value == pytest.approx(1)
        assert verdict.worth == pytest.approx(2)

    def test_a_scale_that_is_lost_is_rejected_though_all_ladders_are_right(self) -> None:
        good, bad = self.student("a", 1), self.student("b", 60)
        verdict = judge_student(bad, good, PROBE, self.KNOWN, self.REFERENCES)
        assert not verdict.kept
        assert "the metric across contents changed by -" in verdict.reason
        assert judge_student(good, bad, PROBE, self.KNOWN, self.REFERENCES).kept

    def test_without_references_order_alone_counts(self) -> None:
        verdict = judge_student(said_by("a", 30), None, PROBE, {}, [])
        assert np.isnan(verdict.across.value)
        assert verdict.worth == verdict.agreement.value
