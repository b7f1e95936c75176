import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from callbacks.rounds.report import (
    Scores,
    human_figures,
    pair_counts,
    print_report,
    print_teachers,
    rank_correlations,
    severity_srcc,
    write_report,
)
from datamodules.labels import Consensus, Labelling
from datamodules.pairs import PAIR_SCHEMA
from datamodules.pairs.drawing import evaluation_pairs
from datamodules.pairs.scored import teacher_pairs
from datamodules.video import Video

VIDEOS = [Video(video_id=name, path=f"{name}.mp4", content=name) for name in "abcd"]
LADDER = {"blur": 2, "noise": 2}


def scores_of_sources(*values: float) -> Scores:
    return {(video.video_id, None, 0): value for video, value in zip(VIDEOS, values, strict=True)}


class TestSeveritySrcc:
    def test_is_the_mean_over_the_ladders_that_were_scored(self) -> None:
        falls = {("a", None, 0): 3.0, ("a", "blur", 1): 2.0, ("a", "blur", 2): 1.0}
        rises = {("a", "noise", 1): 4.0, ("a", "noise", 2): 5.0}
        assert severity_srcc(falls, VIDEOS[0], LADDER) == pytest.approx(1)
        assert severity_srcc({**falls, **rises}, VIDEOS[0], LADDER) == pytest.approx(0)
        assert np.isnan(severity_srcc(falls, VIDEOS[1], LADDER))


class TestRankCorrelations:
    def test_against_truth_and_teachers(self) -> None:
        student = {**scores_of_sources(1, 2, 3, 4), ("a", "blur", 1): 0.5, ("a", "blur", 2): 0.1}
        teacher = {**scores_of_sources(4, 3, 2, 1), ("a", "blur", 1): 4.5, ("a", "blur", 2): 5.0}
        truth = dict(zip("abcd", (0.1, 0.2, 0.3, 0.4), strict=True))
        row = rank_correlations({"student": student, "niqe": teacher}, VIDEOS, LADDER, truth)
        assert row == pytest.approx(
            {
                "truth_srcc_student": 1.0,
                "truth_srcc_niqe": -1.0,
                "severity_srcc_student": 1.0,
                "severity_srcc_niqe": -1.0,
                "teacher_srcc_niqe": -1.0,
            }
        )

    def test_without_a_truth_the_cells_are_empty(self) -> None:
        ladder = {("a", "blur", 1): 0.5, ("a", "blur", 2): 0.1}
        row = rank_correlations(
            {"student": {**scores_of_sources(1, 2, 3, 4), **ladder}}, VIDEOS, LADDER, None
        )
        assert row["truth_srcc_student"] == ""


class TestPrintReport:
    def test_fits_eighty_columns_and_leaves_open_what_was_not_measured(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        figures = {
            "rank_accuracy": 0.75,
            "probe": 0.5,
            "truth_srcc_student": 0.25,
            "teacher_srcc_niqe": np.nan,
        }
        times = {"seconds": 10.0, "annotation_seconds": 2.0}
        row = {
            "round": 1,
            "pairs_synthetic": 48,
            **figures,
            **times,
            "flipped": np.nan,
            "verdict": "rejected",
        }
        print_report([row], ["niqe"])
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        assert ["1", "48", "0.750", "0.500!", "-", "-", "+0.25", "10"] in [line.split() for line in lines]


class TestPrintTeachers:
    @pytest.mark.parametrize("verdict", ["sound", "noise"])
    def test_fits_eighty_columns_and_says_what_noise_is(
        self, verdict: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        agreement = {"agreement": 0.3, "low": -0.02, "high": 0.52, "with": "order", "weight": 1.0}
        print_teachers([{"teacher": "artefacts", **agreement, "verdict": verdict}])
        printed = capsys.readouterr().out
        assert max(map(len, printed.splitlines())) <= 80
        assert ("may be chance" in " ".join(printed.split())) == (verdict == "noise")


class TestHumanFigures:
    def test_lists_count_by_their_number_of_videos(self) -> None:
        scores = {"student": scores_of_sources(1, 2, 3, 4)}
        lists = [{"a": 1.0, "b": 2.0, "c": 3.0}, {"c": 70.0, "d": 30.0}, {"elsewhere": 3.0}]
        row = human_figures(PAIR_SCHEMA.empty_table(), scores, lists)
        assert row["mos_srcc_student"] == pytest.approx((3 * 1 + 2 * -1) / 5)

    def test_there_are_none_without_a_list(self) -> None:
        assert human_figures(PAIR_SCHEMA.empty_table(), {"student": scores_of_sources(1, 2, 3, 4)}, []) == {}


def test_pair_counts_add_up() -> None:
    consensus = Consensus(tuple("abcd"), np.arange(4.0), np.ones(4))
    scored = teacher_pairs(np.random.default_rng(0), consensus, 5, draws=8, labelling=Labelling())
    pairs = pa.concat_tables([evaluation_pairs(list("abcd"), LADDER, 7, seed=0), scored])
    assert pair_counts(pairs) == {
        "pairs_synthetic": 7,
        "pairs_teacher": 5,
        "pairs_reference": 0,
        "pairs_hard": 0,
    }


def test_the_report_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "rounds.csv"
    write_report(file, [{"round": 0, "rank_accuracy": 0.5, "seconds": 1.25}])
    write_report(file, [{"round": 0, "rank_accuracy": 0.75, "seconds": 2.0}])
    with file.open() as stream:
        assert list(csv.DictReader(stream)) == [{"round": "0", "rank_accuracy": "0.750000", "seconds": "2.0"}]
    assert list(tmp_path.iterdir()) == [file]
