"""Scores of encodes of one content, with what their errors have in common.

All encodes are judged by clips at the same places. Where such a clip is harder than another it is so in every
encode, and that part of the errors leaves the difference of two encodes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Floats = npt.NDArray[np.float64]


class Difference(NamedTuple):
    """How one encode stands to another.

    Attributes:
        value: by how much it scores higher, in the unit of the score.
        stderr: standard error of that.
    """

    value: float
    stderr: float

    @property
    def probability(self) -> float:
        """That it looks better: Phi of the difference over its standard error.

        Example:
            >>> round(Difference(2.0, 1.0).probability, 3), Difference(0.0, 0.0).probability
            (0.977, 0.5)
        """
        return float(ndtr(self.value / max(self.stderr, np.finfo(float).tiny)))


@dataclass(frozen=True)
class EncodeScores:
    """Scores of E encodes of one content, NaN where one cannot be read.

    Attributes:
        errors: (E,) why an encode cannot be read; empty where it can.
        scores: (E,) of the time that all have.
        covariance: (E, E) of the scores' errors.
        edges: (I + 1,) seconds at which intervals begin, and the end of the last interval.
        over_time: (E, I) scores of the intervals.
        covariances: (I, E, E) of their errors.
    """

    errors: tuple[str, ...]
    scores: Floats
    covariance: Floats
    edges: Floats
    over_time: Floats
    covariances: Floats

    @property
    def stderr(self) -> Floats:
        """Standard errors (E,) of the scores, each by itself."""
        return np.sqrt(np.diagonal(self.covariance))

    def difference(self, first: int, second: int) -> Difference:
        """Return by how much the second encode scores higher than the first."""
        change, error = _difference(self.scores, self.covariance, first, second)
        return Difference(float(change), float(error))

    def differences(self, first: int, second: int) -> tuple[Floats, Floats]:
        """Return by how much the second scores higher in each interval (I,), and the standard errors (I,)."""
        return _difference(self.over_time.T, self.covariances, first, second)


def _difference(scores: Floats, covariance: Floats, first: int, second: int) -> tuple[Floats, Floats]:
    """Return differences (...,) and their errors from scores (..., E) and covariances (..., E, E)."""
    own = covariance[..., first, first] + covariance[..., second, second]
    variance = own - 2 * covariance[..., first, second]
    return scores[..., second] - scores[..., first], np.sqrt(np.maximum(variance, 0))
