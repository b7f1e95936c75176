"""Whether one model agrees with people better than another does on the same videos.

Two answers that rest on different ground: a paired bootstrap over contents, and the closed z test of Meng,
Rosenthal and Rubin, which takes every video as independent and is widened for ranks.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from datamodules.bootstrap import bootstrap_intervals
from datamodules.errors import InputError
from vqa_lightning.metrics.correlation import FIGURES, agreement, srcc
from vqa_lightning.metrics.logistic import Floats, fit_logistic

Interval = tuple[float, float]


class DependentTest(NamedTuple):
    """Outcome of a test of two correlations that share a variable.

    Attributes:
        z: standard normal where both correlations are equal; above 0 where the first is larger.
        p: probability of a |z| at least as large, then.
    """

    z: float
    p: float


def meng_test(first: float, second: float, between: float, n: int, ranks: bool = False) -> DependentTest:
    """The z test for correlated correlation coefficients (Meng, Rosenthal and Rubin, 1992, equation 1).

    The formula is that of Pearson's correlation. Fisher's z of a rank correlation varies more, by the factor
    1 + r^2 / 2 in its variance (Bonett and Wright, 2000): without it SRCCs of .85 that are equal are told
    apart in 8 to 10 % of cases at the level of 5 %.

    Args:
        first: correlation of one model with opinions.
        second: correlation of the other.
        between: correlation of the two models.
        n: number of videos.
        ranks: that all three are Spearman's.

    Returns:
        z 0 and p 1 where both correlations are equal; nan where one is nan or perfect, or n is below 4.
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
        first: `agreement` of one model.
        second: of the other.
        first_intervals: of each of `FIGURES`, 95 %.
        second_intervals: likewise.
        difference: SRCC of the first minus SRCC of the second.
        difference_interval: 95 %, both resampled together.
        meng: of the two SRCCs.
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
        first: (n,) predictions, higher is better: the signs of both are the caller's to settle.
        second: (n,) of the other model.
        mos: (n,) opinions, higher is better.
        groups: (n,) contents, for the intervals alone; None: every video is one of its own.
        draws: of the bootstrap.
        seed: of the draws.

    Raises:
        InputError: lengths that differ, a value that is not finite, fewer than four videos, or a model or
            opinions that are constant.
    """
    arrays = [np.asarray(values, dtype=np.float64) for values in (first, second, mos)]
    one, two = (agreement(model, arrays[2]) for model in arrays[:2])
    for name, values in zip(("first model", "second model", "opinions"), arrays, strict=True):
        if len(values) < 4 or np.ptp(values) == 0:
            raise InputError(
                f"A comparison was asked of {len(values)} videos with {len(np.unique(values))} different "
                f"values of the {name}: give four videos or more, not all alike."
            )
    starts = [fit_logistic(model, arrays[2]) for model in arrays[:2]]

    def figures(first: Floats, second: Floats, mos: Floats) -> Floats:
        drawn = [agreement(x, mos, start) for x, start in zip((first, second), starts, strict=True)]
        told = [model[name] for model in drawn for name in FIGURES]
        return np.array([*told, drawn[0]["srcc"] - drawn[1]["srcc"]])

    labels = np.arange(len(arrays[2])) if groups is None else groups
    ends = [
        (low, high)
        for low, high in bootstrap_intervals(figures, *arrays, groups=labels, draws=draws, seed=seed).tolist()
    ]
    between = srcc(arrays[0], arrays[1])
    return Comparison(
        one,
        two,
        dict(zip(FIGURES, ends[:4], strict=True)),
        dict(zip(FIGURES, ends[4:8], strict=True)),
        one["srcc"] - two["srcc"],
        ends[8],
        meng_test(one["srcc"], two["srcc"], between, len(arrays[2]), ranks=True),
    )
