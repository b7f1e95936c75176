import numpy as np
import pyarrow as pa
import pytest

from callbacks.rounds.probe import collapsing, judge_round, label_entropy, score_spread
from datamodules.distortions import DISTORTIONS
from datamodules.labels import Consensus, Request
from datamodules.labels.label_store import READ_SCHEMA
from datamodules.video import Video

SIMULATOR = DISTORTIONS["jpeg"]
VIDEOS = [Video(f"v{index}", f"v{index}", content=f"content {index}") for index in range(30)]
SCORES = np.array([0.0, 1.0])
PROBE = [Request(video, SIMULATOR, level) for video in VIDEOS for level in range(1, 5)]


def said_by(name: str, right: int) -> tuple[pa.Table, str]:
    """Scores that order the ladders of the first `right` videos and turn those of the others round."""
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
    return pa.Table.from_pylist(rows, schema=READ_SCHEMA), name


class TestJudgeRound:
    def test_the_first_round_is_kept_whatever_it_says(self) -> None:
        verdict = judge_round(said_by("a", 3), None, PROBE, SCORES)
        assert verdict.kept
        assert verdict.agreement.value == pytest.approx((3 - 27) / 30)

    def test_a_clear_fall_is_rejected_and_said(self) -> None:
        verdict = judge_round(said_by("b", 18), said_by("a", 30), PROBE, SCORES)
        assert not verdict.kept
        assert "-0.800" in verdict.reason

    def test_a_fall_within_its_interval_is_kept(self) -> None:
        # One content of thirty: a resample without it has no fall, as a third of the resamples.
        verdict = judge_round(said_by("b", 29), said_by("a", 30), PROBE, SCORES)
        assert verdict.kept

    def test_one_score_for_all_is_rejected(self) -> None:
        assert not judge_round(said_by("a", 30), None, PROBE, np.array([2.0, np.nan, 2.0])).kept

    def test_without_a_ladder_in_common_nothing_is_believed(self) -> None:
        verdict = judge_round(said_by("b", 30), said_by("a", 30), [], SCORES)
        assert not verdict.kept
        assert "no ladder" in verdict.reason

    def test_one_content_is_too_few_to_reject(self) -> None:
        assert judge_round(said_by("b", 0), said_by("a", 30), PROBE[:4], SCORES).kept


class TestCollapse:
    def test_scores_within_their_errors_have_no_label_entropy(self) -> None:
        names = tuple(f"v{index}" for index in range(500))
        score = np.random.default_rng(0).normal(size=500)
        clear, blurred = (Consensus(names, score, np.full(500, variance)) for variance in (0.1, 100.0))
        assert label_entropy(blurred) < 0.05 < 1.5 < label_entropy(clear) <= np.log2(5)
        # Of 500 normal draws the deviation is 1 to 3 %.
        assert score_spread(clear) == pytest.approx(1 / np.sqrt(0.1), rel=0.1)

    def test_half_of_the_largest_is_told(self) -> None:
        assert collapsing([2.0, 1.9, 0.9])
        assert not collapsing([2.0, 1.1])
        assert not collapsing([0.1])
