"""Pairs on which two scores disagree most: group maximum differentiation (gMAD).

The pairs of one bin share no video, so that one odd clip cannot fill a list by itself. Where the defender's
gap is bounded too, the exact greedy order would take a search after each pair: candidates from overlapping
windows come within a few per cent of its total gap with a fixed number of sorts.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

Indices = npt.NDArray[np.intp]

PASSES = 4
"""Times that candidates are found anew in a bin: each gives a quarter of the pairs, the widest first."""

GRIDS = 4
"""Divisions of the defender's scale into cells as wide as the gap, each shifted by a quarter of one."""


def gmad_pairs(
    attacker: Floats, defender: Floats, count: int, bins: int = 5, gap: float | None = None
) -> Indices:
    """Find pairs that the defender scores alike and the attacker does not (Ma et al., CVPR 2016, TPAMI 2018).

    Videos are cut into equally filled bins by the defender's score. A bin's pairs are found greedily, the
    attacker's widest gap first: without a bound on the defender's gap they are what the attacker scores
    lowest and highest, then what comes next from either end, and so on. O(n log n).

    Args:
        attacker: (n,) scores, any unit.
        defender: (n,) scores of the same videos, any unit.
        count: how many pairs at most.
        bins: number of bins; more of them make the defender's scores in a pair more alike.
        gap: how far apart the defender may score the videos of a pair, in standard deviations of its n
            scores, above 0; None: any two of a bin.

    Returns:
        (k, 2) indices, the one the attacker scores lower first: all bins' first pairs, the largest gap of the
        attacker first, then their second ones; k may be below `count`, for pairs without a gap are left out.
    """
    bound = np.inf if gap is None or not len(defender) else gap * float(np.std(defender))
    found = []
    for members in np.array_split(np.argsort(defender, kind="stable"), bins):
        low, high = _match(attacker[members], defender[members], bound, count)
        order = np.argsort(attacker[members[low]] - attacker[members[high]], kind="stable")
        found.append(np.stack([np.arange(len(order)), members[low[order]], members[high[order]]]))
    place, low, high = np.concatenate(found, axis=1)
    order = np.lexsort((attacker[low] - attacker[high], place))[:count]
    return np.stack([low[order], high[order]], axis=1)


def _match(attacker: Floats, defender: Floats, bound: float, count: int) -> tuple[Indices, Indices]:
    """At most `count` pairs (low, high) of one bin, whose videos are in the order of the defender."""
    free = np.arange(len(attacker))
    if len(free) < 2 or defender[-1] - defender[0] <= bound:
        low, high = _opposites(np.argsort(attacker, kind="stable"), np.zeros(len(free), dtype=np.intp))
        kept = np.flatnonzero(attacker[high] > attacker[low])[:count]
        return low[kept], high[kept]
    quota = -(-min(count, len(free) // 2) // PASSES)
    found: list[tuple[int, int]] = []
    while len(found) < count and len(free) > 1:
        low, high = _candidates(attacker[free], defender[free], bound)
        unused = np.ones(len(free), dtype=bool)
        taken = list(_disjoint(low, high, unused, min(quota, count - len(found))))
        if not taken:
            break
        found += [(int(free[one]), int(free[other])) for one, other in taken]
        free = free[unused]
    low, high = np.array(found, dtype=np.intp).reshape(-1, 2).T
    return low, high


def _disjoint(
    low: Indices, high: Indices, unused: npt.NDArray[np.bool_], count: int
) -> Iterator[tuple[int, int]]:
    """Yield the first `count` pairs that share no video, and mark their videos as used."""
    free = unused.tolist()
    for one, other in zip(low.tolist(), high.tolist(), strict=True):
        if not count:
            return
        if free[one] and free[other]:
            free[one] = free[other] = unused[one] = unused[other] = False
            count -= 1
            yield one, other


def _candidates(attacker: Floats, defender: Floats, bound: float) -> tuple[Indices, Indices]:
    """Pairs (low, high) within the bound, the attacker's widest gap first; defender in rising order.

    For each video those of the next ones within the bound that the attacker scores highest and lowest, and
    the last of them; and opposites in the cells of each grid.
    """
    n = len(attacker)
    by_attacker = np.argsort(attacker, kind="stable")
    rank = np.empty(n, dtype=np.intp)
    rank[by_attacker] = np.arange(n)
    here = np.arange(n)
    end = np.searchsorted(defender, defender + bound, side="right")
    best, worst = by_attacker[_largest(rank, end)], by_attacker[n - 1 - _largest(n - 1 - rank, end)]
    pairs = [(here, best), (worst, here), (here, end - 1), (end - 1, here)]
    for grid in range(GRIDS):
        cell = np.floor((defender - defender[0]) / bound + grid / GRIDS)
        number = np.cumsum(np.concatenate([[False], cell[1:] != cell[:-1]]))
        pairs.append(_opposites(np.argsort(number * n + rank), number))
    low, high = (np.concatenate(side) for side in zip(*pairs, strict=True))
    wide = attacker[high] - attacker[low]
    allowed = np.flatnonzero((wide > 0) & (np.abs(defender[high] - defender[low]) <= bound))
    order = allowed[np.argsort(-wide[allowed], kind="stable")]
    return low[order], high[order]


def _opposites(order: Indices, cell: Indices) -> tuple[Indices, Indices]:
    """In each cell the first with the last, the second with the last but one, and so on.

    Args:
        order: (n,) the videos, cell by cell and in a cell by the attacker's score.
        cell: (n,) the number of each place's cell, rising from 0.
    """
    size = np.bincount(cell)
    start = np.cumsum(size) - size
    place = np.arange(len(order))
    mirrored = 2 * start[cell] + size[cell] - 1 - place
    first = place < mirrored
    return order[first], order[mirrored[first]]


def _largest(values: Indices, end: Indices) -> Indices:
    """Return the largest of values[i : end[i]] for each i, from maxima over runs of powers of two."""
    runs = [values]
    while 2 ** len(runs) <= len(values):
        step = 2 ** (len(runs) - 1)
        longer = runs[-1].copy()
        np.maximum(longer[:-step], runs[-1][step:], out=longer[:-step])
        runs.append(longer)
    here = np.arange(len(values))
    power = np.frexp(end - here)[1] - 1
    table = np.stack(runs)
    return np.asarray(np.maximum(table[power, here], table[power, end - 2**power]))
