"""The BD-rate: values that are known, its interval, and what it refuses."""

import math

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from datamodules.errors import InputError
from vqa_lightning.encodes.bd_rate import bd_rate, rising

RATES = np.array([500.0, 1000.0, 2000.0, 4000.0])
SCORES = np.array([31.0, 42.0, 50.0, 55.0])
EXACT = np.zeros((8, 8))


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.3])
def test_is_the_factor_between_the_rates(factor: float) -> None:
    found = bd_rate((RATES, factor * RATES), (SCORES, SCORES), EXACT)
    assert found.value == pytest.approx(100 * (factor - 1), abs=1e-9)
    assert (found.low, found.high) == pytest.approx((found.value, found.value), abs=1e-6)


def test_is_the_mean_distance_of_the_curves_where_both_have_scores() -> None:
    rates = (np.array([9487.76, 4593.60, 2486.44, 1358.24]), np.array([9787.80, 4469.00, 2451.52, 1356.24]))
    scores = (np.array([40.037, 38.615, 36.845, 34.851]), np.array([40.121, 38.651, 36.970, 34.987]))
    grid = np.linspace(34.987, 40.037, 100001)
    curves = [PchipInterpolator(q[::-1], np.log(r[::-1]))(grid) for r, q in zip(rates, scores, strict=True)]
    expected = 100 * (np.exp((curves[1] - curves[0]).mean()) - 1)
    assert bd_rate(rates, scores, EXACT, draws=2).value == pytest.approx(expected, rel=1e-3)  # of the grid


def test_turned_round_it_is_the_inverse() -> None:
    others = SCORES + np.array([2.0, -1.0, 0.5, 3.0])
    one = bd_rate((RATES, RATES), (SCORES, others), EXACT, draws=2).value
    other = bd_rate((RATES, RATES), (others, SCORES), EXACT, draws=2).value
    assert (1 + one / 100) * (1 + other / 100) == pytest.approx(1)


def test_the_order_of_the_encodes_does_not_matter() -> None:
    turned = bd_rate((RATES[::-1], RATES / 2), (SCORES[::-1], SCORES), EXACT, draws=2)
    assert turned.value == pytest.approx(-50)


def test_errors_make_the_interval_and_the_seed_fixes_it() -> None:
    def found(error: float, seed: int = 0) -> tuple[float, float]:
        one = bd_rate((RATES, 0.7 * RATES), (SCORES, SCORES), error**2 * np.eye(8), seed=seed)
        return one.low, one.high

    assert found(1.0) == found(1.0)
    assert found(1.0) != found(1.0, seed=1)
    narrow, wide = found(0.5), found(2.0)
    assert wide[0] < narrow[0] < -30 < narrow[1] < wide[1]


def test_what_all_scores_share_hardly_counts() -> None:
    shared = bd_rate((RATES, 0.7 * RATES), (SCORES, SCORES), np.ones((8, 8)))
    assert (shared.low, shared.high) == pytest.approx((-30, -30), abs=1e-6)


def test_scores_that_fall_are_averaged_and_told() -> None:
    found = bd_rate((RATES, RATES), (SCORES, np.array([31.0, 51.0, 49.0, 55.0])), EXACT, draws=2)
    assert found.pooled
    assert math.isfinite(found.value)
    rates, scores = rising(RATES, np.array([31.0, 51.0, 49.0, 55.0]))
    assert scores.tolist() == [31.0, 50.0, 55.0]
    assert rates.tolist() == pytest.approx([500.0, math.sqrt(2e6), 4000.0])


def test_without_common_scores_in_many_draws_there_is_no_interval() -> None:
    found = bd_rate((RATES, RATES), (SCORES, SCORES + 23.5), 4 * np.eye(8))
    assert math.isnan(found.low)
    assert 0 < found.common < 0.9


@pytest.mark.parametrize(
    ("count", "scores", "sentence"),
    [
        (2, SCORES[:2], "3 encodes or more of a ladder; got 2 of the second"),
        (4, SCORES + 60, "rise with the rate and overlap; got 31.0 to 55.0 and 91.0 to 115.0"),
        (4, SCORES[::-1], "rise with the rate"),
    ],
)
def test_what_has_none_is_refused(count: int, scores: np.ndarray, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        bd_rate((RATES, RATES[:count]), (SCORES, scores), np.zeros((4 + count, 4 + count)))
