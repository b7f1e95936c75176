"""The BD-rate of two ladders: how much more rate one takes for the same score (Bjontegaard, VCEG-M33, 2001).

The logarithm of the rate is interpolated over the score by PCHIP, as in the common test conditions of JCT-VC
and JVET, by the package `bjontegaard`. Scores have errors: the interval comes from scores drawn with them.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from datamodules.errors import InputError

Floats = npt.NDArray[np.float64]

LEAST_POINTS = 3
"""Of a ladder: through fewer PCHIP is a straight line."""

LEAST_DRAWS = 0.9
"""Share of the draws that must have a BD-rate, lest the interval leave out those that speak against one."""


class BDRate(NamedTuple):
    """A BD-rate in per cent, below 0 where the second ladder takes less rate, and its 95 % interval.

    Attributes:
        value: of the scores as they are.
        low: lower end; NaN where too many draws have no common scores.
        high: upper end.
        common: share of the draws in which the ladders have scores in common.
        pooled: whether scores fell with the rate somewhere, and were averaged.
    """

    value: float
    low: float
    high: float
    common: float
    pooled: bool


def bd_rate(
    rates: tuple[Floats, Floats],
    scores: tuple[Floats, Floats],
    covariance: Floats,
    draws: int = 1000,
    seed: int = 0,
) -> BDRate:
    """Return the BD-rate of the second of two ladders to the first.

    Within a ladder quality does not fall with the rate. Where scores do, neighbours are averaged (isotonic
    regression), here and in every draw.

    Args:
        rates: (m,) and (n,) of the encodes of each ladder, above 0, in any unit and order.
        scores: (m,) and (n,).
        covariance: (m + n, m + n) of the errors of all scores.
        draws: of scores.
        seed: of the draws.

    Raises:
        InputError: a ladder has fewer than `LEAST_POINTS` encodes or one score alone, or the ladders have no
            scores in common.

    Example:
        >>> rates = np.array([1.0, 2.0, 4.0, 8.0])
        >>> scores = np.array([20.0, 30.0, 38.0, 44.0])
        >>> found = bd_rate((rates, rates / 2), (scores, scores), np.zeros((8, 8)))
        >>> round(found.value, 6), round(found.low, 6), found.common
        (-50.0, -50.0, 1.0)
    """
    for name, own in zip(("first", "second"), rates, strict=True):
        if len(own) < LEAST_POINTS:
            raise InputError(
                f"A BD-rate needs {LEAST_POINTS} encodes or more of a ladder; got {len(own)} of the {name}."
            )
    value, pooled = _of(rates, scores)
    if math.isnan(value):
        ranges = [f"{own.min():.1f} to {own.max():.1f}" for own in scores]
        raise InputError(
            "A BD-rate needs ladders whose scores rise with the rate and overlap; got "
            f"{ranges[0]} and {ranges[1]}."
        )
    count = len(rates[0])
    generator = np.random.default_rng(seed)
    drawn = generator.multivariate_normal(np.concatenate(scores), covariance, size=draws, method="eigh")
    found = np.array([_of(rates, (one[:count], one[count:]))[0] for one in drawn])
    common = float(np.isfinite(found).mean())
    low, high = math.nan, math.nan
    if common >= LEAST_DRAWS:
        low, high = np.nanquantile(found, [0.025, 0.975]).tolist()
    return BDRate(value, low, high, common, pooled)


def _of(rates: tuple[Floats, Floats], scores: tuple[Floats, Floats]) -> tuple[float, bool]:
    """Return the BD-rate, NaN where there is none, and whether scores were averaged."""
    import bjontegaard  # which loads pyplot

    (rate, score), (other_rate, other_score) = curves = [
        rising(*ladder) for ladder in zip(rates, scores, strict=True)
    ]
    pooled = any(len(own) < len(given) for (own, _), given in zip(curves, rates, strict=True))
    overlap = min(score[-1], other_score[-1]) - max(score[0], other_score[0])
    if min(len(score), len(other_score)) < 2 or overlap <= 0:
        return math.nan, pooled
    ladders = (rate, score, other_rate, other_score)
    found = bjontegaard.bd_rate(*ladders, method="pchip", require_matching_points=False, min_overlap=0)
    return float(found), pooled


def rising(rates: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """Return a ladder in order of rate whose scores rise: rungs of one score are one, at their mean log rate.

    Example:
        >>> rates, scores = rising(np.array([1.0, 8.0, 2.0]), np.array([20.0, 29.0, 31.0]))
        >>> rates.round(3).tolist(), scores.tolist()
        ([1.0, 4.0], [20.0, 30.0])
    """
    order = np.argsort(rates)
    found = isotonic_regression(scores[order])
    starts = found.blocks[:-1]
    lengths = np.diff(found.blocks)
    logarithms = np.add.reduceat(np.log(rates[order]), starts) / lengths
    return np.exp(logarithms), found.x[starts]
