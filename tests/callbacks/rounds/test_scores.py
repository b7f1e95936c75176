import numpy as np
import pytest

from callbacks.rounds.scores import Scores, mos_correlations, rank_correlations, severity_srcc
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
        found = rank_correlations({"student": student, "niqe": teacher}, VIDEOS, LADDER, truth)
        assert found["truth"] == pytest.approx({"student": 1.0, "niqe": -1.0})
        assert found["severity"] == pytest.approx({"student": 1.0, "niqe": -1.0})
        assert found["teacher"] == pytest.approx({"niqe": -1.0})

    def test_without_a_truth_there_is_no_correlation_with_it(self) -> None:
        found = rank_correlations({"student": scores_of_sources(1, 2, 3, 4)}, VIDEOS, LADDER, None)
        assert found["truth"] == {"student": None}


def test_lists_of_mos_count_by_their_number_of_videos() -> None:
    lists = [{"a": 1.0, "b": 2.0, "c": 3.0}, {"c": 70.0, "d": 30.0}, {"elsewhere": 3.0}]
    found = mos_correlations({"student": scores_of_sources(1, 2, 3, 4)}, lists)
    assert found == pytest.approx({"student": (3 * 1 + 2 * -1) / 5})
