"""How well scores agree with a known order or with people's opinions, on the host and in float64.

Intervals resample whole contents, as `datamodules.bootstrap` does.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, rankdata

from datamodules.bootstrap import bootstrap_intervals
from datamodules.errors import InputError
from vqa_lightning.metrics.logistic import Floats, Logistic, finite_pair, fit_logistic

FIGURES = ("srcc", "krcc", "plcc", "rmse")
"""Figures of `agreement` that published tables print, in the order of the tables."""


def srcc(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Return Spearman's rank correlation; tied values share their mean rank.

    Args:
        x: (n,), any unit; NumPy, a list or a tensor on the host.
        y: (n,), any unit.

    Returns:
        From -1 to 1; nan if x or y is constant, has fewer than two values or holds a nan.

    Raises:
        InputError: x and y are not two sequences of one length.

    Example:
        >>> srcc([1, 2, 3, 4], [10, 20, 40, 30])
        0.8
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise InputError(
            f"A correlation needs two sequences of one length; got shapes {x.shape} and {y.shape}."
        )
    if len(x) < 2 or bool(np.isnan(x).any() or np.isnan(y).any()):
        return math.nan
    # The mean of ranks is (n + 1) / 2 whatever the ties.
    ranks_x, ranks_y = (rankdata(values) - (len(x) + 1) / 2 for values in (x, y))
    spread = math.sqrt(float(ranks_x @ ranks_x) * float(ranks_y @ ranks_y))
    return float(ranks_x @ ranks_y) / spread if spread > 0 else math.nan


def rank_accuracy(difference: npt.ArrayLike, order: npt.ArrayLike) -> float:
    """Return the share of pairs of known order whose score difference has the right sign; a tie counts half.

    Args:
        difference: (n,), score of the second minus score of the first.
        order: (n,), above 0 where the second is better, below 0 where it is worse; pairs with 0 are left out.

    Returns:
        From 0 to 1, chance being 0.5; nan if no pair has an order or a difference among them is nan.

    Raises:
        InputError: the shapes differ.

    Example:
        >>> rank_accuracy([0.3, 0.2, 0.0], [2, -1, 1])  # right, wrong, tie
        0.5
    """
    difference, order = np.asarray(difference, dtype=np.float64), np.asarray(order, dtype=np.float64)
    if difference.shape != order.shape:
        raise InputError(
            f"Every pair needs a difference and an order; got shapes {difference.shape} and {order.shape}."
        )
    ordered = order != 0
    if not ordered.any():
        return math.nan
    return float(np.mean(1 + np.sign(difference[ordered]) * np.sign(order[ordered])) / 2)


def agreement(
    predicted: npt.ArrayLike, mos: npt.ArrayLike, start: Logistic | None = None
) -> dict[str, float]:
    """Measure how well predictions agree with mean opinion scores, as the field reports it.

    Args:
        predicted: (n,), any unit; where lower is better SRCC, KRCC and raw PLCC are negative.
        mos: (n,), any unit.
        start: start of `fit_logistic`, for resampled data; None: a search for the global optimum.

    Returns:
        `srcc` and `krcc` (tau-b) of the raw values, where ties share their mean rank; `plcc` and `rmse`
        between opinions and predictions mapped by the four-parameter logistic, whose slope takes out the sign
        (`rmse` in the unit of opinions, over n); `plcc_raw` without any map; `n`. Through four or fewer
        distinct predictions a logistic with as many parameters fits nearly anything. All figures but `n` are
        nan for fewer than three rows, constant predictions or constant opinions.

    Raises:
        InputError: not two sequences of one length, or a value is not finite.

    Example:
        >>> found = agreement([1, 2, 3, 4, 5, 6], [1, 2, 9, 7, 8, 10])
        >>> {name: round(value, 3) for name, value in found.items()}
        {'srcc': 0.829, 'krcc': 0.733, 'plcc': 0.964, 'rmse': 0.913, 'plcc_raw': 0.866, 'n': 6.0}
    """
    x, y = finite_pair(predicted, mos)
    figures = dict.fromkeys((*FIGURES, "plcc_raw"), math.nan) | {"n": float(len(x))}
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return figures
    error = fit_logistic(x, y, start)(x) - y
    # A least-squares fit with an offset explains the squared correlation; rounding may leave it below zero.
    unexplained = float(error @ error) / (float(y.var()) * len(y))
    return figures | {
        "srcc": srcc(x, y),
        "krcc": float(kendalltau(x, y, method="asymptotic").statistic),  # the method is that of the p-value
        "plcc": math.sqrt(max(1 - unexplained, 0.0)),
        "rmse": math.sqrt(float(error @ error) / len(y)),
        "plcc_raw": float(np.corrcoef(x, y)[0, 1]),
    }


def agreement_intervals(
    predicted: npt.ArrayLike,
    mos: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Return percentile intervals of SRCC, KRCC, PLCC and RMSE by the bootstrap over groups.

    The logistic is fitted anew in every draw, from the optimum of all rows: the optimum of a draw is nearly
    the same, and a search from all starts would take twenty times as long.

    Args:
        predicted: (n,), as in `agreement`.
        mos: (n,), as in `agreement`.
        groups: (n,) the content of each video; None: every video is a content of its own.
        draws: number of resamplings; a draw takes about 7 ms for 7 000 videos.
        seed: seed of the draws.
        level: probability covered.

    Returns:
        The two ends for each of `FIGURES`; nan where the figure is undefined.

    Raises:
        InputError: as for `agreement` and `bootstrap_interval`.

    Example:
        >>> ends = agreement_intervals([1, 2, 3, 4, 5, 6], [2, 1, 3, 4, 5, 6], draws=20)
        >>> ends["srcc"][0] < 0.94 < ends["srcc"][1]
        True
    """
    x, y = finite_pair(predicted, mos)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return dict.fromkeys(FIGURES, (math.nan, math.nan))
    start = fit_logistic(x, y)

    def figures(x: Floats, y: Floats) -> Floats:
        found = agreement(x, y, start)
        return np.array([found[name] for name in FIGURES])

    labels = np.arange(len(x)) if groups is None else groups
    ends = bootstrap_intervals(figures, x, y, groups=labels, draws=draws, seed=seed, level=level)
    return {name: (low, high) for name, (low, high) in zip(FIGURES, ends.tolist(), strict=True)}
