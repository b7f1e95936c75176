"""How well scores agree with a known order or with what people said, on the host and in float64.

Intervals resample whole groups, the contents: versions of one content rise and fall together, and counting
them as independent would make every interval too narrow.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, rankdata

from datamodules.bootstrap import bootstrap_intervals
from datamodules.errors import InputError
from vqa_lightning.metrics.logistic import Floats, Logistic, fit_logistic

FIGURES = ("srcc", "krcc", "plcc", "rmse")
"""What `agreement` says of a model and published tables print, in their order."""


def srcc(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Spearman's rank correlation, tied values sharing their mean rank.

    Args:
        x: (n,), any unit; NumPy, a list or a tensor on the host.
        y: (n,), any unit.

    Returns:
        From -1 to 1; nan if x or y is constant, has fewer than two values or holds a nan.

    Raises:
        InputError: x and y are not two sequences of one length.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise InputError(
            f"A correlation was asked of shapes {x.shape} and {y.shape}: give two of one length."
        )
    if len(x) < 2 or bool(np.isnan(x).any() or np.isnan(y).any()):
        return math.nan
    # ranks have the mean (n + 1) / 2 whatever the ties
    ranks_x, ranks_y = (rankdata(values) - (len(x) + 1) / 2 for values in (x, y))
    spread = math.sqrt(float(ranks_x @ ranks_x) * float(ranks_y @ ranks_y))
    return float(ranks_x @ ranks_y) / spread if spread > 0 else math.nan


def rank_accuracy(difference: npt.ArrayLike, order: npt.ArrayLike) -> float:
    """Share of the pairs with a known order whose score difference has the right sign; a tie counts half.

    Args:
        difference: (n,), score of the second minus score of the first.
        order: (n,), above 0 where the second is better, below 0 where it is worse; pairs with 0 are left out.

    Returns:
        From 0 to 1, chance being 0.5; nan if no pair has an order or a difference among them is nan.

    Raises:
        InputError: the shapes differ.
    """
    difference, order = np.asarray(difference, dtype=np.float64), np.asarray(order, dtype=np.float64)
    if difference.shape != order.shape:
        raise InputError(
            f"Differences have the shape {difference.shape}, orders {order.shape}: give both for every pair."
        )
    ordered = order != 0
    if not ordered.any():
        return math.nan
    return float(np.mean(1 + np.sign(difference[ordered]) * np.sign(order[ordered])) / 2)


def agreement(
    predicted: npt.ArrayLike, mos: npt.ArrayLike, start: Logistic | None = None
) -> dict[str, float]:
    """How well predictions agree with mean opinion scores, as the field reports it.

    Args:
        predicted: (n,), any unit; where lower is better SRCC, KRCC and raw PLCC are negative.
        mos: (n,), any unit.
        start: where `fit_logistic` starts, for resampled data; None: it searches for the global optimum.

    Returns:
        `srcc` and `krcc` (tau-b), both of the raw values, ties sharing their mean rank; `plcc` and `rmse`
        between opinions and predictions mapped by the four-parameter logistic, whose slope takes the sign
        out of them (`rmse` in the unit of opinions, over n); `plcc_raw` without any map; `n`. Through four
        or fewer distinct predictions a logistic with as many parameters fits nearly anything. All but `n`
        are nan where fewer than three rows, constant predictions or constant opinions leave nothing to agree.

    Raises:
        InputError: not two sequences of one length, or a value that is not finite.
    """
    x, y = _finite_pair(predicted, mos)
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


def _finite_pair(predicted: npt.ArrayLike, mos: npt.ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(predicted, dtype=np.float64), np.asarray(mos, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise InputError(
            f"Agreement was asked of predictions {x.shape} with opinions {y.shape}: give two of one length."
        )
    for name, values in (("predictions", x), ("opinions", y)):
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            raise InputError(
                f"The {name} hold {values[wrong[0]]} in row {wrong[0] + 1}, {len(wrong)} such in all: leave "
                "these videos out."
            )
    return x, y


def agreement_intervals(
    predicted: npt.ArrayLike,
    mos: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of SRCC, KRCC, PLCC and RMSE by the bootstrap over groups.

    The logistic is fitted anew in every draw, starting from the optimum of all rows: a draw has nearly the
    same one, and a search from all starts would take twenty times as long.

    Args:
        predicted: (n,), as in `agreement`.
        mos: (n,), as in `agreement`.
        groups: (n,), as in `bootstrap_interval`; None: every video is a content of its own.
        draws: number of resamplings; about 7 ms each for 7 000 videos.
        seed: of the draws.
        level: probability covered.

    Returns:
        For each of `FIGURES` the two ends; nan where it is undefined.

    Raises:
        InputError: as `agreement` and `bootstrap_interval` do.
    """
    x, y = _finite_pair(predicted, mos)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return dict.fromkeys(FIGURES, (math.nan, math.nan))
    start = fit_logistic(x, y)

    def figures(x: Floats, y: Floats) -> Floats:
        found = agreement(x, y, start)
        return np.array([found[name] for name in FIGURES])

    labels = np.arange(len(x)) if groups is None else groups
    ends = bootstrap_intervals(figures, x, y, groups=labels, draws=draws, seed=seed, level=level)
    return {name: (low, high) for name, (low, high) in zip(FIGURES, ends.tolist(), strict=True)}
