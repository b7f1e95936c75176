"""Whether probabilities of preference come true: binning, expected calibration error, reliability plot.

Confidence is the probability of the predicted winner, from .5 to 1: a pair and the same pair turned round
count alike.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]

BINS = 10


class Reliability(NamedTuple):
    """How often predicted winners win, by confidence, from `reliability`.

    Attributes:
        confidence: (b,) mean probability of the predicted winner in each bin that has pairs.
        accuracy: (b,) share of these pairs that it wins.
        share: (b,) share of all pairs that lie in the bin.
    """

    confidence: Floats
    accuracy: Floats
    share: Floats

    @property
    def ece(self) -> float:
        """Expected calibration error, the sum of share |accuracy - confidence| (Guo et al., ICML 2017)."""
        return float(self.share @ np.abs(self.accuracy - self.confidence))

    @property
    def mean_confidence(self) -> float:
        """Mean probability of the predicted winner."""
        return float(self.share @ self.confidence)

    @property
    def mean_accuracy(self) -> float:
        """Share of all pairs that the predicted winner wins."""
        return float(self.share @ self.accuracy)


def reliability(probability: npt.ArrayLike, outcome: npt.ArrayLike, bins: int = BINS) -> Reliability:
    """Sort pairs by the confidence of their predicted winner.

    Args:
        probability: (n,) that A beats B, n at least 1.
        outcome: (n,) whether A beats B: 1, 0, or .5 for a draw. Where the probability is .5 no winner is
            predicted, and half the pair counts as won.
        bins: number of bins of equal width over confidences from .5 to 1.

    Example:
        >>> curve = reliability([0.9, 0.9, 0.1, 0.9], [1, 1, 0, 0])
        >>> curve.confidence.round(3), curve.accuracy, round(curve.ece, 3)
        (array([0.9]), array([0.75]), 0.15)
    """
    chance, won = np.asarray(probability, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    confidence = np.maximum(chance, 1 - chance)
    right = np.where(chance == 0.5, 0.5, np.where(chance > 0.5, won, 1 - won))
    place = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
    count, sure, correct = (np.bincount(place, weights, bins) for weights in (None, confidence, right))
    filled = count > 0
    count = count[filled]
    return Reliability(sure[filled] / count, correct[filled] / count, count / count.sum())


def plot_reliability(curves: Mapping[str, Reliability]) -> Figure:
    """Draw accuracy against confidence, and below it the share of pairs at each confidence.

    Args:
        curves: curves by name, all sorted into BINS bins.

    Example:
        >>> figure = plot_reliability({"student": reliability([0.9, 0.6], [1, 0])})
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['share of predicted winners that win', 'share of pairs']
    """
    figure = Figure(figsize=(5.5, 6.5), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    upper.plot((0.5, 1), (0.5, 1), color="0.6", linestyle="--", linewidth=1)
    for name, curve in curves.items():
        upper.plot(curve.confidence, curve.accuracy, marker="o", label=f"{name}: ECE {curve.ece:.3f}")
        lower.plot(curve.confidence, curve.share, marker=".")
    upper.set(ylabel="share of predicted winners that win", xlim=(0.49, 1.01))
    upper.legend(fontsize="small", loc="lower right")
    lower.set(xlabel="probability of the predicted winner", ylabel="share of pairs", ylim=(0, None))
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return figure
