"""Agreement statistics against scipy, hand-counted cases, and intervals of known width."""

import math
import time

import numpy as np
import pytest
from scipy.stats import spearmanr

from datamodules.errors import InputError
from vqa_lightning.metrics import bootstrap_interval, rank_accuracy, srcc

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("ties", [False, True])
def test_srcc_agrees_with_scipy(ties: bool) -> None:
    for _ in range(20):
        x, y = RANDOM.normal(size=30), RANDOM.normal(size=30)
        if ties:
            x, y = x.round(), y.round()
        assert srcc(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)


def test_srcc_by_hand() -> None:
    assert srcc([1, 2, 3], [10, 100, 1000]) == 1
    assert srcc([1, 2, 3], [3, 2, 1]) == -1
    assert math.isnan(srcc([1, 1, 1], [1, 2, 3]))
    assert math.isnan(srcc([1], [1]))
    assert math.isnan(srcc([1, 2, math.nan], [1, 2, 3]))
    with pytest.raises(InputError, match=r"\(2,\) and \(3,\)"):
        srcc([1, 2], [1, 2, 3])


def test_rank_accuracy_by_hand() -> None:
    # right, wrong, tie, and one without an order
    assert rank_accuracy([0.3, 0.2, 0.0, -5.0], [2, -1, 1, 0]) == pytest.approx(0.5)
    assert rank_accuracy([-1, 2], [-0.5, 3]) == 1
    assert math.isnan(rank_accuracy([1.0], [0]))
    assert math.isnan(rank_accuracy([math.nan, 1.0], [1, 1]))
    with pytest.raises(InputError, match="for every pair"):
        rank_accuracy([1.0], [1, 2])


def mean(values: np.ndarray) -> float:
    return float(values.mean())


def test_interval_of_a_mean() -> None:
    values = RANDOM.normal(size=400)
    low, high = bootstrap_interval(mean, values, groups=np.arange(400))
    assert low < values.mean() < high
    # 2 * 1.96 deviations of the mean; 1000 draws place each end to about 7 % of it
    assert high - low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(400), rel=0.15)
    assert (low, high) == bootstrap_interval(mean, values, groups=np.arange(400))
    narrow = bootstrap_interval(mean, values, groups=np.arange(400), level=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_groups_are_kept_together() -> None:
    """Copies of a value add no information: ten of each leave the interval as wide as one of each."""
    values = RANDOM.normal(size=40)
    names = [f"content {index}" for index in range(40)]
    alone = bootstrap_interval(mean, values, groups=names)
    copies = bootstrap_interval(mean, np.repeat(values, 10), groups=np.repeat(names, 10))
    assert copies == pytest.approx(alone, abs=1e-12)
    independent = bootstrap_interval(mean, np.repeat(values, 10), groups=np.arange(400))
    assert independent[1] - independent[0] < 0.5 * (alone[1] - alone[0])


def test_srcc_interval_is_quick_and_skips_undefined_draws() -> None:
    x = np.arange(40.0)
    start = time.perf_counter()
    low, high = bootstrap_interval(srcc, x, x + RANDOM.normal(size=40) * 10, groups=np.arange(40))
    assert time.perf_counter() - start < 5  # a quarter of a second alone; a loaded machine may be slower
    assert 0.3 < low < high <= 1
    assert bootstrap_interval(srcc, [0, 1], [0, 1], groups=[0, 1]) == (1, 1)  # half of the draws are constant
    assert all(math.isnan(end) for end in bootstrap_interval(srcc, [1, 1], [1, 2], groups=[0, 1]))


def test_bad_input() -> None:
    with pytest.raises(InputError, match="a label for each of its rows"):
        bootstrap_interval(mean, [1, 2], groups=[1])
    with pytest.raises(InputError, match=r"level 1\.5"):
        bootstrap_interval(mean, [1, 2], groups=[1, 2], level=1.5)
