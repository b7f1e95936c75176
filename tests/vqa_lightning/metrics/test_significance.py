"""The z test against published worked examples and simulation; a comparison of two models end to end."""

import math

import numpy as np
import pytest
from scipy.stats import rankdata

from datamodules.errors import InputError
from vqa_lightning.metrics.significance import compare, meng_test


def test_meng_agrees_with_published_examples() -> None:
    # Meng, Rosenthal and Rubin (1992): z 1.68, one-sided p .047
    outcome = meng_test(0.63, -0.03, -0.19, 15)
    assert outcome.z == pytest.approx(1.68, abs=0.005)
    assert outcome.p / 2 == pytest.approx(0.047, abs=0.0005)
    # Silver, Hittner and May (2006)
    outcome = meng_test(0.3, 0.4, 0.5, 100)
    assert outcome.z == pytest.approx(-1.0707, abs=5e-5)
    assert outcome.p == pytest.approx(0.2843, abs=5e-5)


@pytest.mark.parametrize("ranks", [False, True])
def test_equal_correlations_are_told_apart_as_often_as_the_level_says(ranks: bool) -> None:
    generator = np.random.default_rng(0)
    factor = np.linalg.cholesky([[1, 0.85, 0.85], [0.85, 1, 0.8], [0.85, 0.8, 1]])
    rejected = 0
    for _ in range(600):
        drawn = generator.normal(size=(200, 3)) @ factor.T
        r = np.corrcoef(rankdata(drawn, axis=0) if ranks else drawn, rowvar=False)
        rejected += meng_test(r[0, 1], r[0, 2], r[1, 2], 200, ranks=ranks).p < 0.05
    # 5 % of 600 with three binomial deviations; ranks without their factor come to 9 %
    assert 0.023 < rejected / 600 < 0.077


def test_meng_at_its_edges() -> None:
    assert meng_test(0.5, 0.5, 1.0, 20) == (0, 1)
    assert math.isnan(meng_test(0.5, 0.4, 0.5, 3).p)
    assert math.isnan(meng_test(1.0, 0.4, 0.5, 30).z)
    assert math.isnan(meng_test(math.nan, 0.4, 0.5, 30).z)


def test_compare_finds_the_better_model() -> None:
    generator = np.random.default_rng(1)
    mos = generator.normal(size=150)
    good, poor = (mos + noise * generator.normal(size=150) for noise in (0.4, 1.2))
    outcome = compare(good, poor, mos, draws=60)
    low, high = outcome.difference_interval
    assert 0 < low < outcome.difference < high
    assert outcome.difference == outcome.first["srcc"] - outcome.second["srcc"]
    assert outcome.meng.z > 3
    assert outcome.meng.p < 0.01
    for name, (low, high) in outcome.first_intervals.items():
        assert low < outcome.first[name] < high
    swapped = compare(poor, good, mos, draws=60)
    assert swapped.meng.z == pytest.approx(-outcome.meng.z)
    assert swapped.difference_interval == pytest.approx([-high for high in outcome.difference_interval[::-1]])


def test_compare_says_what_it_cannot() -> None:
    with pytest.raises(InputError, match="second model"):
        compare([1, 2, 3, 4], [1, 1, 1, 1], [1, 2, 3, 4])
    with pytest.raises(InputError, match="four videos"):
        compare([1, 2, 3], [1, 3, 2], [1, 2, 3])
    with pytest.raises(InputError, match=r"\(3,\)"):
        compare([1, 2, 3], [1, 3, 2, 4], [1, 2, 3, 4])
