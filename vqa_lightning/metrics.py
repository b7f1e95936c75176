"""How well scores agree with a known order or a known truth, on the host and in float64.

Intervals resample whole groups, the contents: versions of one content rise and fall together, and counting
them as independent would make every interval too narrow.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from datamodules.errors import InputError


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


def bootstrap_interval(
    statistic: Callable[..., float],
    *arrays: npt.ArrayLike,
    groups: npt.ArrayLike,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of a statistic by the bootstrap over groups (Efron and Tibshirani, 1993).

    Every draw takes as many groups as there are, with replacement, and all rows of each as often as it was
    taken. Paired comparisons come from a statistic of several arrays, such as the difference of two
    correlations.

    Args:
        statistic: takes the resampled arrays in the order given and returns one number, nan where undefined.
        *arrays: (n, ...) each, resampled together along the first axis.
        groups: (n,), what belongs together: for videos their content, any sortable labels.
        draws: number of resamplings.
        seed: of the draws; the same seed and data give the same interval.
        level: probability covered, between 0 and 1.

    Returns:
        The interval's two ends over the draws where the statistic is defined; nan twice if it never is.

    Raises:
        InputError: no array, lengths that differ, no rows, or draws or level out of range.
    """
    data = [np.asarray(array) for array in arrays]
    labels = np.asarray(groups)
    if not data or any(len(array) != len(labels) for array in data) or len(labels) == 0:
        raise InputError(
            f"A bootstrap was asked of {[len(array) for array in data]} rows in {len(labels)} group labels: "
            "give at least one array and a label for each of its rows."
        )
    if draws < 1 or not 0 < level < 1:
        raise InputError(
            f"A bootstrap has {draws} draws and level {level}: give draws of 1 or more and a level in (0, 1)."
        )
    _, group, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(sizes)[:-1])
    taken = np.random.default_rng(seed).integers(len(members), size=(draws, len(members)))
    values = np.empty(draws)
    for draw, chosen in enumerate(taken):
        rows = np.concatenate([members[index] for index in chosen])
        values[draw] = statistic(*(array[rows] for array in data))
    defined = values[~np.isnan(values)]
    if len(defined) == 0:
        return math.nan, math.nan
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
