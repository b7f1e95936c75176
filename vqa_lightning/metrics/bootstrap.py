"""Intervals by the bootstrap over groups.

Whole groups, the contents, are resampled: versions of one content rise and fall together, and counting them
as independent would make intervals too narrow.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from vqa_lightning.families import InputError

Floats = npt.NDArray[np.float64]


def bootstrap_interval(
    statistic: Callable[..., float],
    *arrays: npt.ArrayLike,
    groups: npt.ArrayLike,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """`bootstrap_intervals` of a statistic that is one number.

    Returns:
        The interval's two ends; nan twice if the statistic never is defined.
    """
    ((low, high),) = bootstrap_intervals(
        lambda *rows: np.array([statistic(*rows)]),
        *arrays,
        groups=groups,
        draws=draws,
        seed=seed,
        level=level,
    ).tolist()
    return low, high


def bootstrap_intervals(
    statistics: Callable[..., Floats],
    *arrays: npt.ArrayLike,
    groups: npt.ArrayLike,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Floats:
    """Percentile intervals of several statistics by the bootstrap over groups (Efron and Tibshirani, 1993).

    Every draw takes as many groups as there are, with replacement, and all rows of each as often as it was
    taken. Paired comparisons come from a statistic of several arrays, such as the difference of two
    correlations.

    Args:
        statistics: takes the resampled arrays in the order given and returns (k,), nan where undefined.
        *arrays: (n, ...) each, resampled together along the first axis.
        groups: (n,), what belongs together: for videos their content, any sortable labels.
        draws: number of resamplings.
        seed: of the draws; the same seed and data give the same intervals.
        level: probability covered, between 0 and 1.

    Returns:
        (k, 2), each interval's two ends over the draws where its statistic is defined; nan twice if it never
        is.

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
    order = np.argsort(group, kind="stable")
    first = np.cumsum(sizes) - sizes
    taken = np.random.default_rng(seed).integers(len(sizes), size=(draws, len(sizes)))
    values = []
    for chosen in taken:
        ends = np.cumsum(sizes[chosen])
        # each chosen group's first row, less the rows drawn before it, so that counting on gives its members
        offsets = np.repeat(first[chosen] - (ends - sizes[chosen]), sizes[chosen])
        rows = order[offsets + np.arange(ends[-1])]
        values.append(statistics(*(array[rows] for array in data)))
    tails = [(1 - level) / 2, (1 + level) / 2]
    defined = [column[~np.isnan(column)] for column in np.stack(values, axis=1)]
    return np.array([np.quantile(v, tails) if len(v) else (math.nan, math.nan) for v in defined])
