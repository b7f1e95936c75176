"""The four-parameter logistic between scores and opinions, fitted to its global optimum.

Two of the four parameters enter linearly and are solved for exactly (variable projection). The search then
has two dimensions, few enough for a grid to find every basin that matters before any is descended. scipy's
`curve_fit` on all four parameters misses basins from a few dozen starts, and fails at a limit of the family.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter
from scipy.optimize import least_squares
from scipy.special import expit, logit

from datamodules.errors import InputError

Floats = npt.NDArray[np.float64]

_BINS = 150  # equally filled, whose means stand for the values while the grid is searched

_MIDDLES, _WIDTHS = 33, 16

_STARTS = 12  # noise on a few dozen values makes as many basins

_STEPS = 3  # of each kind

_FAR = 4.5  # widths by which the middle may lie beyond the values: the tail there is an exponential to 1 %

_FLAT = 1e3  # widths in units of the range at which a logistic is a line to 1e-7

_STEEP = 40.0  # widths between the two values around a step at which it is one to 1e-8

_TOLERANCE = 1e-10  # relative, of the sum of squares and of the parameters

_Start = tuple[float, float]  # middle and log width


class Logistic(NamedTuple):
    """The curve b2 + (b1 - b2) / (1 + exp(-(x - b3) / b4)) (VQEG, FRTV Phase II, 2003).

    The curve rises where b1 > b2 and falls where b1 < b2, strictly over the whole real line. In floating
    point it is constant farther than about 37 b4 from b3.

    Attributes:
        b1: limit for large x, in the unit of opinions.
        b2: limit for small x, in the unit of opinions.
        b3: middle, in the unit of scores.
        b4: width, above 0, in the unit of scores.

    Example:
        >>> Logistic(b1=5, b2=1, b3=50, b4=10)([0, 50, 100]).round(2)
        array([1.03, 3.  , 4.97])
    """

    b1: float
    b2: float
    b3: float
    b4: float

    def __call__(self, x: npt.ArrayLike) -> Floats:
        """Return opinions for scores of any shape."""
        z = (np.asarray(x, dtype=np.float64) - self.b3) / self.b4
        return self.b2 + (self.b1 - self.b2) * expit(z)


def finite_pair(scores: npt.ArrayLike, opinions: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return scores and opinions (n,) as float64.

    Raises:
        InputError: not two sequences of one length, or a value is not finite.

    Example:
        >>> finite_pair([1, 2], [3, 4])
        (array([1., 2.]), array([3., 4.]))
    """
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(opinions, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise InputError(
            f"Scores and opinions must be two sequences of one length; got shapes {x.shape} and {y.shape}."
        )
    for name, values in (("Scores", x), ("Opinions", y)):
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            raise InputError(
                f"{name} must be finite; got {values[wrong[0]]} in row {wrong[0] + 1}, {len(wrong)} such "
                "in all: leave these videos out."
            )
    return x, y


def fit_logistic(x: npt.ArrayLike, y: npt.ArrayLike, start: Logistic | None = None) -> Logistic:
    """Find the logistic with the least squared error, rising or falling as the values do.

    Levenberg-Marquardt with Kaufman's Jacobian of the variable projection (Golub and Pereyra, 1973; Kaufman,
    1975) descends from every high peak of a grid and from the best steps. Where the data ask for a limit of
    the family, a line, a step or an exponential, the result is a member near the limit. The middle stays
    within 4.5 widths of the scores, for beyond only b1 and b2 would grow: on published predictions that costs
    less than 3e-7 of PLCC.

    Args:
        x: (n,) scores, finite, any unit, n at least 3.
        y: (n,) opinions, finite, any unit.
        start: descend from this curve alone, as where resampled data have nearly the same optimum.

    Raises:
        InputError: there are fewer than three values, lengths differ, or x or y is constant or not finite.

    Example:
        >>> scores = np.linspace(20, 80, 30)
        >>> curve = fit_logistic(scores, Logistic(5, 1, 50, 10)(scores))
        >>> [round(parameter, 3) for parameter in curve]
        [5.0, 1.0, 50.0, 10.0]
    """
    x, y = finite_pair(x, y)
    if len(x) < 3:
        raise InputError(f"A logistic needs three or more scores and opinions; got {len(x)}.")
    for name, values in (("scores", x), ("opinions", y)):
        if np.ptp(values) == 0:
            raise InputError(f"A logistic needs {name} that differ; got {name} that are all alike.")
    centre, unit = float(x.mean()), float(x.std())
    problem = _Problem((x - centre) / unit, y - y.mean())
    near = [] if start is None else [((start.b3 - centre) / unit, math.log(start.b4 / unit))]
    b1, b2, b3, b4 = problem.best(near or problem.starts())
    return Logistic(float(y.mean()) + b1, float(y.mean()) + b2, centre + unit * b3, unit * b4)


class _Problem:
    """Standardised scores x and centred opinions y, both (n,), with what every evaluation needs of them.

    The parameters are the place, from -1 to 1 between the two farthest middles that a width allows, and the
    log width. The limits of the family then lie on the sides of a box, along which a descent can go on.
    """

    def __init__(self, x: Floats, y: Floats) -> None:
        order = np.argsort(x, kind="stable")
        self.x, self.y = x[order], y[order]
        self.reach = float(self.x[-1] - self.x[0]) / 2
        self.centre = float(self.x[-1] + self.x[0]) / 2
        gaps = np.diff(self.x)
        self.narrowest = math.log(gaps[gaps > 0].min() / _STEEP)
        self.widest = math.log(2 * self.reach * _FLAT)

    def parameters(self, middle: float, log_width: float) -> Floats:
        return np.array([(middle - self.centre) / (self.reach + _FAR * math.exp(log_width)), log_width])

    def middle(self, parameters: Floats) -> tuple[float, float]:
        """Return middle and width of the nearest parameters in the box."""
        place, log_width = np.clip(parameters, [-1, self.narrowest], [1, self.widest])
        width = math.exp(log_width)
        return self.centre + float(place) * (self.reach + _FAR * width), width

    def curve(self, parameters: Floats) -> tuple[Floats, Floats, float]:
        """Return tanh, a logistic from -1 to 1, at x; the same centred; the best factor on the latter."""
        middle, width = self.middle(parameters)
        values = np.tanh((self.x - middle) / (2 * width))
        centred = values - values.mean()
        power = centred @ centred
        return values, centred, float(centred @ self.y / power) if power > 0 else 0.0

    def residuals(self, parameters: Floats) -> Floats:
        _, centred, factor = self.curve(parameters)
        return self.y - factor * centred

    def jacobian(self, parameters: Floats) -> Floats:
        values, centred, factor = self.curve(parameters)
        middle, width = self.middle(parameters)
        place, log_width = parameters
        steepness = (1 - values**2) / (2 * width)
        by_place = -steepness * (self.reach + _FAR * width) * (abs(place) < 1)
        inside = self.narrowest < log_width < self.widest
        by_width = -steepness * (self.x - middle + min(max(place, -1), 1) * _FAR * width) * inside
        changes = np.stack([by_place, by_width])
        changes -= changes.mean(axis=1, keepdims=True)
        power = centred @ centred
        if power > 0:
            changes -= np.outer(changes @ centred / power, centred)
        return -factor * changes.T

    def descend(self, start: _Start) -> tuple[float, Floats]:
        """Return the bottom of the basin around a start: half the sum of squares, and the parameters."""
        place, near = self.parameters(*start), _TOLERANCE
        found = least_squares(
            self.residuals, place, self.jacobian, method="lm", ftol=near, xtol=near, gtol=near
        )
        return float(found.cost), found.x

    def best(self, starts: Sequence[_Start]) -> tuple[float, float, float, float]:
        """Return b1 to b4 at the lowest bottom of the basins that the starts lie in."""
        _, lowest = min((self.descend(start) for start in starts), key=lambda bottom: bottom[0])
        values, _, factor = self.curve(lowest)
        offset = -factor * float(values.mean())
        return offset + factor, offset - factor, *self.middle(lowest)

    def starts(self) -> list[_Start]:
        """List the grid's highest peaks, and the best steps."""
        n = len(self.x)
        edges = np.linspace(0, n, min(n, _BINS), endpoint=False).astype(int)
        share = np.diff(edges, append=n) / n
        x, y = (np.add.reduceat(values, edges) / (share * n) for values in (self.x, self.y))
        narrow = max(float(np.ptp(np.quantile(self.x, [0.45, 0.55]))) / 4, math.exp(self.narrowest), 1e-6)
        widths = np.geomspace(narrow, 20 * self.reach, _WIDTHS)
        inner = np.quantile(self.x, np.linspace(0, 1, _MIDDLES))
        outer = self.reach + _FAR * widths
        middles = np.stack(
            [self.centre - outer, *np.broadcast_to(inner[:, None], (_MIDDLES, _WIDTHS)), self.centre + outer]
        )
        curves = np.tanh((x - middles[..., None]) / (2 * widths[:, None]))
        curves -= (curves @ share)[..., None]
        power = curves**2 @ share
        explained = np.divide((curves @ (share * y)) ** 2, power, out=np.zeros_like(power), where=power > 0)
        places = _peaks(explained)[:_STARTS]
        return [(float(middles[m, w]), math.log(widths[w])) for m, w in places] + self._steps()

    def _steps(self) -> list[_Start]:
        """List the best curves that are a step between two values, or one with a value within it."""
        n, gaps, total = len(self.x), np.diff(self.x), np.cumsum(self.y)
        below = np.arange(1, n)
        explained = np.where(gaps > 0, total[:-1] ** 2 * (1 / below + 1 / below[::-1]), 0)
        best = _peaks(explained[:, None])[:_STEPS, 0]
        starts = [(self.x[place] + gaps[place] / 2, gaps[place] / 4) for place in best]
        # A steep curve may take any level at one value; the values on either side are fitted by their means.
        below = np.arange(1, n - 1)
        left, right, alone = total[:-2] / below, -total[1:-1] / below[::-1], self.y[1:-1]
        share = np.divide(alone - left, right - left, out=np.zeros(n - 2), where=right != left)
        narrow = np.minimum(gaps[:-1], gaps[1:])
        explained = below * left**2 + below[::-1] * right**2 + alone**2
        explained = np.where((share > 0) & (share < 1) & (narrow > 0), explained, 0)
        for place in _peaks(explained[:, None])[:_STEPS, 0]:
            width = narrow[place] / 10
            starts.append((self.x[place + 1] - width * logit(np.clip(share[place], 0.01, 0.99)), width))
        return [(float(middle), math.log(width)) for middle, width in starts if width > 0]


def _peaks(surface: Floats) -> npt.NDArray[np.intp]:
    """Return the indices (k, 2) of the cells that are no lower than their neighbours, highest first."""
    peaks = np.argwhere(surface >= maximum_filter(surface, size=3, mode="nearest"))
    return peaks[np.argsort(-surface[tuple(peaks.T)], kind="stable")]
