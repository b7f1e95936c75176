"""The four-parameter logistic between scores and opinions, fitted to its global optimum.

Two of the four parameters enter linearly and are solved for exactly (variable projection), so that the search
has two dimensions, small enough for a grid to find every basin that matters before any is descended.
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


class Logistic(NamedTuple):
    """The curve b2 + (b1 - b2) / (1 + exp(-(x - b3) / b4)) (VQEG, FRTV Phase II, 2003).

    It rises where b1 > b2 and falls where b1 < b2, strictly over the whole real line; in floating point it is
    constant farther than about 37 b4 from b3.

    Attributes:
        b1: its limit for large x, in the unit of opinions.
        b2: its limit for small x.
        b3: its middle, in the unit of scores.
        b4: its width, above 0.
    """

    b1: float
    b2: float
    b3: float
    b4: float

    def __call__(self, x: npt.ArrayLike) -> Floats:
        """Opinions for scores of any shape."""
        z = (np.asarray(x, dtype=np.float64) - self.b3) / self.b4
        curve: Floats = self.b2 + (self.b1 - self.b2) * expit(z)
        return curve


def fit_logistic(x: npt.ArrayLike, y: npt.ArrayLike, start: Logistic | None = None) -> Logistic:
    """Find the logistic with the least squared error, rising or falling as the values do.

    Levenberg-Marquardt with Kaufman's Jacobian of the variable projection (Golub and Pereyra, 1973; Kaufman,
    1975) descends from every high peak of a grid and from the best steps. Data may ask for a limit of the
    family, a line, a step or an exponential: these get a member near it. The middle stays within 4.5 widths
    of the scores, for beyond only b1 and b2 would grow: on published predictions that costs less than 3e-7
    of PLCC.

    Args:
        x: (n,) scores, finite, any unit, n at least 3.
        y: (n,) opinions, finite, any unit.
        start: descend from this curve alone, as where resampled data have nearly the same optimum.

    Raises:
        InputError: fewer than three values, lengths that differ, or x or y constant or not finite.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 3:
        raise InputError(
            f"A logistic was asked through {x.shape} scores and {y.shape} opinions: give three or "
            "more of each."
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("A logistic was asked through values that are not finite: leave their rows out.")
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        name = "scores" if np.ptp(x) == 0 else "opinions"
        raise InputError(f"A logistic was asked through {name} that are all alike: give ones that differ.")
    centre, unit = float(x.mean()), float(x.std())
    problem = _Problem((x - centre) / unit, y - y.mean())
    near = [] if start is None else [((start.b3 - centre) / unit, math.log(start.b4 / unit))]
    b1, b2, b3, b4 = problem.best(near or problem.starts())
    return Logistic(float(y.mean()) + b1, float(y.mean()) + b2, centre + unit * b3, unit * b4)


class _Problem:
    """Standardised scores x and centred opinions y, both (n,), with what every evaluation needs of them.

    Parameters are the place, from -1 to 1 between the two farthest middles that a width allows, and the log
    width: the family's limits then lie on the sides of a box, along which a descent can go on.
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
        """Middle and width of the nearest parameters in the box."""
        place, log_width = np.clip(parameters, [-1, self.narrowest], [1, self.widest])
        width = math.exp(log_width)
        return self.centre + float(place) * (self.reach + _FAR * width), width

    def curve(self, parameters: Floats) -> tuple[Floats, Floats, float]:
        """Values of tanh, a logistic from -1 to 1; these centred; the best factor on them."""
        middle, width = self.middle(parameters)
        values = np.tanh((self.x - middle) / (2 * width))
        centred = values - values.mean()
        power = centred @ centred
        return values, centred, float(centred @ self.y / power) if power > 0 else 0.0

    def residuals(self, parameters: Floats) -> Floats:
        _, centred, factor = self.curve(parameters)
        residuals: Floats = self.y - factor * centred
        return residuals

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
        jacobian: Floats = -factor * changes.T
        return jacobian

    def best(self, starts: Sequence[tuple[float, float]]) -> tuple[float, float, float, float]:
        """b1 to b4 at the lowest bottom of the basins that the middles and log widths lie in."""
        bottoms = [
            least_squares(
                self.residuals,
                self.parameters(*start),
                jac=self.jacobian,
                method="lm",
                ftol=_TOLERANCE,
                xtol=_TOLERANCE,
                gtol=_TOLERANCE,
            )
            for start in starts
        ]
        lowest = min(bottoms, key=lambda found: float(found.cost)).x
        values, _, factor = self.curve(lowest)
        offset = -factor * float(values.mean())
        return offset + factor, offset - factor, *self.middle(lowest)

    def starts(self) -> list[tuple[float, float]]:
        """Middles and log widths of the grid's highest peaks, and of the best steps."""
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

    def _steps(self) -> list[tuple[float, float]]:
        """The best curves that are a step between two values, or a step with one value within it."""
        n, gaps, total = len(self.x), np.diff(self.x), np.cumsum(self.y)
        starts = []
        below = np.arange(1, n)
        explained = np.where(gaps > 0, total[:-1] ** 2 * (1 / below + 1 / below[::-1]), 0)
        for place, _ in _peaks(explained[:, None])[:_STEPS]:
            starts.append((self.x[place] + gaps[place] / 2, gaps[place] / 4))
        # A curve steep enough may take any level at one value, so that what lies outside it fits by its mean.
        below = np.arange(1, n - 1)
        left, right, alone = total[:-2] / below, -total[1:-1] / below[::-1], self.y[1:-1]
        share = np.divide(alone - left, right - left, out=np.zeros(n - 2), where=right != left)
        narrow = np.minimum(gaps[:-1], gaps[1:])
        explained = below * left**2 + below[::-1] * right**2 + alone**2
        explained = np.where((share > 0) & (share < 1) & (narrow > 0), explained, 0)
        for place, _ in _peaks(explained[:, None])[:_STEPS]:
            width = narrow[place] / 10
            starts.append((self.x[place + 1] - width * logit(np.clip(share[place], 0.01, 0.99)), width))
        return [(float(middle), math.log(width)) for middle, width in starts if width > 0]


def _peaks(surface: Floats) -> npt.NDArray[np.intp]:
    """Indices (k, 2) of the cells of a surface that are no lower than their neighbours, highest first."""
    around = maximum_filter(surface, size=3, mode="nearest")
    peaks = np.argwhere(surface >= around)
    highest: npt.NDArray[np.intp] = peaks[np.argsort(-surface[tuple(peaks.T)], kind="stable")]
    return highest
