"""Screening of observers as ITU-R BT.500 describes it: an observer whose votes are too erratic is rejected.

The screening is applied once to an experiment and not again to the remaining votes, as the Recommendation
demands.
"""

import numpy as np
import numpy.typing as npt

SHARE = 0.05
"""An observer may be far from the others in this share of the videos."""

BALANCE = 0.3
"""An observer who is far on one side only has another taste and stays; below this imbalance the observer is
inconsistent."""


def screen_observers(votes: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Tell which observers' votes count.

    A vote is far above (below) if it lies at least c sample standard deviations above (below) the video's
    mean; c is 2 where the votes are normal, that is where the kurtosis m4 / m2^2 of the video's votes lies
    from 2 to 4, and sqrt(20) elsewhere. With P and Q the counts of an observer's votes far above and far
    below, the observer is rejected if (P + Q) / (number of votes cast) > 0.05 and |P - Q| / (P + Q) < 0.3
    (Recommendation ITU-R BT.500-14, screening for DSIS, DSCQS and alternative methods except SSCQE; the same
    since BT.500-11, Annex 2, 2.3.1). Where all votes on a video are equal, no vote counts as far.

    The Recommendation means the screening for few (under 20) non-expert observers. The screening sees erratic
    voters only: neither a constant bias nor votes at random on material about which all disagree lead to a
    rejection.

    Args:
        votes: (n, m), of m observers on n videos; NaN where an observer did not vote.

    Returns:
        (m,), False for rejected observers.

    Example:
        >>> votes = np.random.default_rng(4).normal(size=(100, 20))
        >>> votes[:, 3] *= 3  # an erratic observer
        >>> np.flatnonzero(~screen_observers(votes)).tolist()
        [3]
    """
    counted = ~np.isnan(votes)
    number = np.maximum(counted.sum(axis=1, keepdims=True), 1)
    off = np.where(counted, votes - np.nansum(votes, axis=1, keepdims=True) / number, 0.0)
    square = (off**2).sum(axis=1, keepdims=True)
    fourth = (off**4).sum(axis=1, keepdims=True)
    normal = (2 * square**2 <= number * fourth) & (number * fourth <= 4 * square**2)
    limit = np.where(normal, 2, np.sqrt(20)) * np.sqrt(square / np.maximum(number - 1, 1))
    disagreed = counted & (square > 0)
    above = (disagreed & (off >= limit)).sum(axis=0)
    below = (disagreed & (off <= -limit)).sum(axis=0)
    far = above + below
    often = far > SHARE * counted.sum(axis=0)
    kept: npt.NDArray[np.bool_] = ~(often & (np.abs(above - below) < BALANCE * far))
    return kept
