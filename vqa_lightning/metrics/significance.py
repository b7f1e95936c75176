"""Whether one model agrees with people better than another does on the same videos.

Two answers rest on different ground: a paired bootstrap over contents, and the closed z test of Meng,
Rosenthal and Rubin, which takes every video as independent and is widened for ranks.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from datamodules.bootstrap import bootstrap_interval
from datamodules.errors import InputError
from vqa_lightning.metrics.correlation import agreement, agreement_intervals, srcc
from vqa_lightning.metrics.logistic import Floats

Interval = tuple[float, float]


class DependentTest(NamedTuple):
    """Outcome of a test of two correlations that share a variable.

    Attributes:
        z: standard normal if both correlations are equal; above 0 where the first is larger.
        p: probability of a |z| at least as large if both correlations are equal.
    """

    z: float
    p: float


def meng_test(first: float, second: float, between: float, n: int, ranks: bool = False) -> DependentTest:
    """Test two correlations that share a variable (Meng, Rosenthal and Rubin, 1992, equation 1).

    The formula is for Pearson's correlation. Fisher's z of a rank correlation varies more, by the factor
    1 + r^2 / 2 in its variance (Bonett and Wright, 2000). Without the factor equal SRCCs of .85 are told
    apart in 8 to 10 % of cases at the level of 5 %.

    Args:
        first: correlation of one model with opinions.
        second: correlation of the other model with opinions.
        between: correlation of the two models.
        n: number of videos.
        ranks: whether all three correlations are Spearman's.

    Returns:
        z 0 and p 1 where both correlations are equal; nan where a correlation is nan or perfect, or n is
        below 4.

    Example:
        >>> outcome = meng_test(0.8, 0.7, between=0.9, n=100)
        >>> round(outcome.z, 2), round(outcome.p, 4)
        (3.47, 0.0005)
    """
    if first == second and n > 3:
        return DependentTest(0.0, 1.0)
    if n < 4 or not max(abs(first), abs(second), abs(between)) < 1 or math.isnan(first + second + between):
        return DependentTest(math.nan, math.nan)
    squared = (first**2 + second**2) / 2
    f = min((1 - between) / (2 * (1 - squared)), 1.0)
    h = (1 - f * squared) / (1 - squared)
    variance = 2 * (1 - between) * h / (n - 3) * (1 + squared / 2 if ranks else 1)
    z = (math.atanh(first) - math.atanh(second)) / math.sqrt(variance)
    return DependentTest(z, 2 * float(norm.sf(abs(z))))


class Comparison(NamedTuple):
    """Two models against each other.

    Attributes:
        first: `agreement` of the first model.
        second: `agreement` of the second model.
        first_intervals: 95 % interval of each of `FIGURES` for the first model.
        second_intervals: 95 % interval of each of `FIGURES` for the second model.
        difference: SRCC of the first model minus SRCC of the second.
        difference_interval: 95 % interval of the difference, both models resampled together.
        meng: test of the two SRCCs.
    """

    first: dict[str, float]
    second: dict[str, float]
    first_intervals: dict[str, Interval]
    second_intervals: dict[str, Interval]
    difference: float
    difference_interval: Interval
    meng: DependentTest


def compare(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    mos: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two models on the videos that both have scored.

    Args:
        first: (n,) predictions of the first model, higher is better: the caller settles the sign.
        second: (n,) predictions of the second model, higher is better.
        mos: (n,) opinions, higher is better.
        groups: (n,) contents, for the intervals alone; None: every video is a content of its own.
        draws: draws of the bootstrap.
        seed: seed of the draws.

    Raises:
        InputError: lengths differ, a value is not finite, there are fewer than four videos, or a model or the
            opinions are constant.

    Example:
        >>> outcome = compare([1, 2, 3, 4, 5], [2, 1, 3, 5, 4], [1, 2, 3, 4, 5], draws=20)
        >>> round(outcome.difference, 2), outcome.first["srcc"]
        (0.2, 1.0)
    """
    arrays = [np.asarray(values, dtype=np.float64) for values in (first, second, mos)]
    one, two = (agreement(model, arrays[2]) for model in arrays[:2])
    for name, values in zip(("first model", "second model", "opinions"), arrays, strict=True):
        if len(values) < 4 or np.ptp(values) == 0:
            raise InputError(
                f"A comparison needs four videos or more, not all alike; got {len(values)} videos with "
                f"{len(np.unique(values))} different values of the {name}."
            )
    labels = np.arange(len(arrays[2])) if groups is None else groups

    def difference(first: Floats, second: Floats, mos: Floats) -> float:
        return srcc(first, mos) - srcc(second, mos)

    return Comparison(
        one,
        two,
        agreement_intervals(arrays[0], arrays[2], labels, draws=draws, seed=seed),
        agreement_intervals(arrays[1], arrays[2], labels, draws=draws, seed=seed),
        difference(*arrays),
        bootstrap_interval(difference, *arrays, groups=labels, draws=draws, seed=seed),
        meng_test(one["srcc"], two["srcc"], srcc(*arrays[:2]), len(arrays[2]), ranks=True),
    )
