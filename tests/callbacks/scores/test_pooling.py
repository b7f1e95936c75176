"""Pools of a video's intervals, and what stands under `score`."""

import numpy as np
import pytest

from callbacks.scores.pooling import pooled, pooled_row, pooled_rows

ROWS = [
    {"path": "a.mp4", "start": 0.0, "end": 1.0, "score": 50.0, "stderr": 2.0},
    {"path": "a.mp4", "start": 1.0, "end": 1.5, "score": 20.0, "stderr": 5.0},
    {"path": "b.mp4", "start": 0.0, "end": 1.0, "score": None, "stderr": None},
]


def test_means_are_over_time() -> None:
    found = pooled(np.array([50.0, 20.0]), np.array([1.0, 0.5]))
    assert found["mean"] == pytest.approx(40)
    assert found["harmonic"] == pytest.approx(1.5 / (1 / 51 + 0.5 / 21) - 1)


def test_a_twentieth_of_the_time_decides_p5() -> None:
    scores = np.arange(100.0)
    assert pooled(scores, np.ones(100))["p5"] == 4
    lengths = np.ones(100)
    lengths[0] = 20  # the worst interval lasts long enough alone
    assert pooled(scores, lengths)["p5"] == 0


def test_equal_scores_have_equal_pools() -> None:
    assert set(np.round(list(pooled(np.full(7, 33.0), np.ones(7)).values()), 9)) == {33.0}


def test_scores_below_nought_have_a_harmonic_mean() -> None:
    assert pooled(np.array([-30.0, -5.0]), np.ones(2))["harmonic"] == pytest.approx(0)


def test_rows_of_a_video_become_one_with_the_errors_of_what_counts() -> None:
    found = pooled_rows(ROWS)
    assert found.keys() == {"a.mp4"}
    assert found["a.mp4"]["min"] == 20
    assert found["a.mp4"]["min_stderr"] == 5
    assert found["a.mp4"]["mean_stderr"] == pytest.approx(3)


def test_the_pool_takes_the_score_s_place() -> None:
    row = {
        "path": "a.mp4",
        "score": 41.0,
        "stderr": 1.0,
        "status": "ok",
        "error": "",
        **pooled_rows(ROWS)["a.mp4"],
    }
    found = pooled_row(row, "min")
    assert (found["score"], found["stderr"], found["whole"], found["whole_stderr"]) == (20, 5, 41, 1)
    unreadable = {"path": "b.mp4", "score": None, "stderr": None, "status": "error", "error": "broken"}
    assert pooled_row(unreadable, "p5")["error"] == "broken"
    silent = pooled_row({**row, "path": "c.mp4", "p5": None}, "p5")
    assert (silent["score"], silent["status"], silent["whole"]) == (None, "error", 41)


def test_rows_in_any_order_and_without_numbers() -> None:
    broken = {"path": "a.mp4", "start": 1.5, "end": 2.0, "score": float("nan"), "stderr": float("nan")}
    assert pooled_rows([ROWS[1], ROWS[2], broken, ROWS[0]]) == pooled_rows(ROWS)


@pytest.mark.parametrize("length", [0.1, 0.2, 0.3, 0.5, 0.7, 1.0])
def test_a_twentieth_is_a_twentieth_whatever_the_length(length: float) -> None:
    assert pooled(np.arange(20.0), np.full(20, length))["p5"] == 0
