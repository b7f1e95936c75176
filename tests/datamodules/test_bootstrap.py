"""Intervals of known width, of contents that stay together, and of statistics that are not always defined."""

import math
import time

import numpy as np
import pytest

from datamodules.bootstrap import bootstrap_interval, bootstrap_of_sums
from datamodules.errors import InputError
from vqa_lightning.metrics import srcc

RANDOM = np.random.default_rng(1)


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
    with pytest.raises(InputError, match=r"arrays of \[2\] rows and 1 labels"):
        bootstrap_interval(mean, [1, 2], groups=[1])
    with pytest.raises(InputError, match=r"level must be between 0 and 1; got 1\.5"):
        bootstrap_interval(mean, [1, 2], groups=[1, 2], level=1.5)
    with pytest.raises(InputError, match=r"draws must be 1 or more; got 0"):
        bootstrap_interval(mean, [1, 2], groups=[1, 2], draws=0)


def test_sums_and_rows_draw_the_same_contents() -> None:
    """A mean by sums and by copied rows has one interval, up to the rounding of sums in another order."""
    values, groups = RANDOM.normal(size=60), RANDOM.integers(12, size=60)
    terms = np.stack([values, np.ones(60)])
    value, interval = bootstrap_of_sums(lambda sums: float(sums[0] / sums[1]), terms, groups)
    assert value == pytest.approx(values.mean(), abs=1e-12)
    assert interval == pytest.approx(bootstrap_interval(mean, values, groups=groups), abs=1e-12)
