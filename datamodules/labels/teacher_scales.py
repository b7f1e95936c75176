"""The monotone map of one teacher's scores to a scale that all teachers share, fitted without labels.

Ranks become normal scores, which makes any units comparable. A logistic of the normal scores is flat where
the scores say less, as in a saturated end or heavy tails. It goes on as a logarithm outside, so that
distorted versions worse than every source stay in order.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import norm, rankdata

Floats = npt.NDArray[np.float64]

Map = Callable[[Floats], Floats]

_KNEE = 3.0

_MIDDLES, _WIDTHS = np.linspace(-2, 2, 9), np.geomspace(0.5, 8, 5)

_BOUNDS = [(-3.0, 3.0), (float(np.log(0.5)), float(np.log(8)))]

_STARTS = 3

_BINS = 100


def normal_scores(values: Floats) -> Map:
    """Fit the monotone map of the values to Blom's normal scores, Phi^-1((rank - 3/8) / (n + 1/4)).

    Ties share their mean rank. Between the fitted values the map is linear; beyond them it goes on with one
    unit per standard deviation of the values, so that versions worse than every source stay in order.

    Args:
        values: finite, (n,), n at least 1.

    Returns:
        The map, of arrays of any shape; NaN stays NaN.

    Example:
        >>> normal_scores(np.array([3.0, 50.0, 8.0]))(np.array([8.0, 50.0, np.nan])).round(3)
        array([0.   , 0.869,   nan])
    """
    knots, index = np.unique(values, return_inverse=True)
    scores = np.empty(len(knots))
    scores[index] = norm.ppf((rankdata(values) - 3 / 8) / (len(values) + 1 / 4))
    deviation = values.std()
    slope = 1 / deviation if deviation > 0 else 0.0

    def apply(x: Floats) -> Floats:
        outside = x - np.clip(x, knots[0], knots[-1])
        return np.interp(x, knots, scores) + slope * outside

    return apply


def logistic(x: Floats, middle: float, width: float) -> Floats:
    """Evaluate the logistic 1 / (1 + exp(-z)), z = (x - middle) / width, without its saturation.

    Where |z| exceeds 3 the curve goes on as a logarithm with the slope it has there. It stays strictly
    monotone far outside the values it was fitted to, where a logistic in floating point is constant and
    versions worse than every source would tie.

    Example:
        >>> logistic(np.array([-9.0, 0.0, 9.0, 90.0]), middle=0.0, width=1.0).round(3)
        array([-0.04 ,  0.5  ,  1.04 ,  1.155])
    """
    z = (x - middle) / width
    slope = expit(_KNEE) * expit(-_KNEE)
    beyond = np.log1p(np.maximum(np.abs(z) - _KNEE, 0))
    return expit(np.clip(z, -_KNEE, _KNEE)) + np.sign(z) * slope * beyond


def fit_logistic(x: Floats, target: Floats) -> tuple[float, float] | None:
    """Find the rising logistic of x that correlates best with the target.

    Two of the four parameters of the field's logistic are a linear change of scale, which a correlation does
    not see. Middle and width are searched, from several starts, on means over equally filled bins of x.

    Args:
        x: (n,) normal scores of an annotator.
        target: (n,) what the other annotators say.

    Returns:
        Middle and width; None where the curve is no better than x itself by the Bayesian information
        criterion for its two parameters, as with few values, no agreement, or a line.
    """
    n = len(x)
    if n < 3 or x.std() == 0 or target.std() == 0:
        return None
    starts = np.linspace(0, n, min(n, _BINS), endpoint=False).astype(int)
    order = np.argsort(x, kind="stable")
    share = np.diff(starts, append=n) / n
    centres = np.add.reduceat(x[order], starts) / (share * n)
    goal = np.add.reduceat(target[order] - target.mean(), starts) / (share * n)
    spread = target.std()

    def mismatch(parameters: npt.ArrayLike) -> float:
        middle, log_width = np.asarray(parameters)
        curve = logistic(centres, middle, np.exp(log_width))
        curve -= share @ curve
        return -float((share * curve) @ goal / np.sqrt(share @ curve**2) / spread)

    grid = sorted((mismatch((m, np.log(w))), m, np.log(w)) for m in _MIDDLES for w in _WIDTHS)
    found = min(
        (minimize(mismatch, start, method="L-BFGS-B", bounds=_BOUNDS) for _, *start in grid[:_STARTS]),
        key=lambda result: float(result.fun),
    )
    unexplained = 1 - np.array([np.corrcoef(x, target)[0, 1], found.fun]) ** 2
    line, curve = n * np.log(np.maximum(unexplained, 1e-12))
    if found.fun >= 0 or line - curve < 2 * np.log(n):
        return None
    return float(found.x[0]), float(np.exp(found.x[1]))


@dataclass(frozen=True)
class TeacherScale:
    """The monotone map of one annotator's scores to the common scale.

    Args:
        ranks: the map to normal scores of the fitted sources.
        curve: middle and width of the logistic of the normal scores; None: a line.
        mean: of the curve over the fitted sources.
        deviation: of the curve over the fitted sources.
    """

    ranks: Map
    curve: tuple[float, float] | None
    mean: float
    deviation: float

    def __call__(self, scores: Floats) -> Floats:
        """Map scores of any shape; NaN stays NaN."""
        normal = self.ranks(scores)
        bent = normal if self.curve is None else logistic(normal, *self.curve)
        return (bent - self.mean) / self.deviation
