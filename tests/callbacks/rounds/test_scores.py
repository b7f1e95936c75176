import numpy as np
import pytest
from scipy.stats import spearmanr

from callbacks.rounds.requests import one_a_content
from callbacks.rounds.scores import (
    Scores,
    mos_correlations,
    rank_correlations,
    rank_with_first,
    severity_srcc,
    truth_intervals,
)
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


class TestTruthIntervals:
    videos = [Video(f"{place}", f"{place}.mp4", content=f"{place // 5}") for place in range(60)]
    truth = {video.video_id: float(place) for place, video in enumerate(videos)}

    def scored(self, noise: float, seed: int) -> Scores:
        drawn = np.random.default_rng(seed).normal(0, noise, len(self.videos))
        return {
            (name, None, 0): self.truth[name] + error for name, error in zip(self.truth, drawn, strict=True)
        }

    def test_a_better_student_is_above_the_best_teacher_and_the_mean(self) -> None:
        scores = {"student": self.scored(1, 0), "a": self.scored(40, 1), "b": self.scored(80, 2)}
        found = truth_intervals(
            {**scores, "ensemble": self.scored(40, 3)}, self.videos, self.truth, ["a", "b"]
        )
        correlations = rank_correlations(scores, self.videos, LADDER, self.truth)["truth"]
        for name, srcc in correlations.items():
            assert found[name][0] == pytest.approx(srcc)
        for value, low, high in found.values():
            assert low <= value <= high
        assert found["over_best"][0] == pytest.approx(found["student"][0] - found["a"][0])
        assert found["over_best"][1] > 0
        assert found["over_ensemble"][1] > 0

    def test_versions_of_one_content_are_no_independent_videos(self) -> None:
        scores = {"student": self.scored(40, 0), "a": self.scored(40, 1), "ensemble": self.scored(40, 1)}
        alone = [Video(video.video_id, video.path, content=video.video_id) for video in self.videos]
        one = [Video(video.video_id, video.path, content="same") for video in self.videos]
        wide, none = (truth_intervals(scores, videos, self.truth, ["a"]) for videos in (alone, one))
        assert wide["student"][2] > wide["student"][1]
        assert none["student"][2] == none["student"][1]

    def test_nothing_is_known_of_fewer_than_two_videos(self) -> None:
        found = truth_intervals({"student": {}, "ensemble": {}}, self.videos, self.truth, [])
        assert np.isnan(found["over_best"]).all()


def test_ranks_of_ties_are_shared() -> None:
    rows = np.array([[1.0, 1.0, 0.0], [2.0, 1.0, 0.0], [3.0, 4.0, 0.0], [3.0, 5.0, 0.0]])
    with_second, with_constant = rank_with_first(rows)
    assert with_second == pytest.approx(spearmanr(rows[:, 0], rows[:, 1]).statistic)
    assert np.isnan(with_constant)


def test_lists_of_mos_count_by_their_number_of_videos() -> None:
    lists = [{"a": 1.0, "b": 2.0, "c": 3.0}, {"c": 70.0, "d": 30.0}, {"elsewhere": 3.0}]
    found = mos_correlations({"student": scores_of_sources(1, 2, 3, 4)}, lists)
    assert found == pytest.approx({"student": (3 * 1 + 2 * -1) / 5})


def test_a_content_of_several_chains_has_its_ladders_once() -> None:
    chains = [Video(f"{place}", f"{place}.mp4", content=f"{place // 7}") for place in range(21)]
    assert [video.video_id for video in one_a_content(chains)] == ["0", "7", "14"]
    assert one_a_content(VIDEOS) == VIDEOS  # a user's videos are contents of their own
