"""Choosing videos whose histograms match a target, by mixed-integer programming (Vonikakis et al., 2017).

Candidates that lie in the same bin of every histogram, in one cell, are interchangeable. The program has one
integer variable for each cell rather than a binary variable for each video; only the draw within a cell is
chance.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
from scipy.sparse import csc_array, csr_array, eye_array, hstack, vstack

from datamodules.errors import InputError

GAP = 0.02
"""The search may stop where the sum of differences, as parts of the chosen, is so near to the best sum."""

FREE_CELLS = 2000
"""Cells that the integer program may change beside the fractional cells: enough room, seconds to solve."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Selection:
    """A choice of videos, and what is proven about it.

    Attributes:
        indices: rows of the chosen candidates, rising.
        left_out: how many candidates had a metric that is not finite, and could not be chosen.
        differences: (metrics,) summed absolute differences of each metric's histogram from the target's
            histogram, as parts of the chosen: 0 to 2.
        bound: no choice has a smaller sum of differences.
    """

    indices: npt.NDArray[np.int64]
    left_out: int
    differences: Array
    bound: float


def bin_edges(metrics: Array, target: Array | None, bins: int) -> Array:
    """Lay equally wide bins between the 1st and the 99th percentile of the target, or else the candidates.

    The first and the last bin also take the values beyond, so that one outlier does not widen all other bins.

    Args:
        metrics: (n, k) of the candidates, finite.
        target: (m, k) of the videos to be like, or None.
        bins: bins of each histogram.

    Returns:
        (k, bins - 1) inner edges, rising.
    """
    low, high = np.percentile(metrics if target is None else target, [1, 99], axis=0)
    edges: Array = np.linspace(low, high, bins + 1)[1:-1].T
    return edges


def histograms(metrics: Array, edges: Array) -> Array:
    """Return the shares (k, bins) of the videos of metrics (n, k) between inner edges (k, bins - 1)."""
    counts = [np.bincount(column, minlength=edges.shape[1] + 1) for column in _bins(metrics, edges).T]
    shares: Array = np.stack(counts) / len(metrics)
    return shares


def select(
    metrics: Array,
    count: int,
    *,
    edges: Array,
    target: Array,
    labels: Sequence[str] | None = None,
    shares: Mapping[str, float] | None = None,
    seed: int = 0,
    seconds: float = 15.0,
) -> Selection:
    """Choose the videos with the smallest sum of absolute histogram differences from the target.

    Args:
        metrics: (n, k) of the candidates; a candidate with a value that is not finite is left out.
        count: how many are chosen.
        edges: (k, bins - 1) inner edges of the histograms, as `bin_edges` lays them.
        target: (k, bins) shares wanted in each bin, rows summing to 1.
        labels: (n,) a name of each candidate, such as its source; to be given with shares.
        shares: part of the chosen that each label makes up, met within one video; labels that are not named
            share the rest, freely.
        seed: of the draw among interchangeable candidates.
        seconds: limit of the search for whole numbers, after which the best choice found is taken.

    Raises:
        InputError: fewer candidates than `count` are usable, shares are not above 0 or sum to more than 1,
            the candidates cannot fill a share, or the search found nothing in its time.
    """
    usable = np.flatnonzero(np.isfinite(metrics).all(axis=1))
    left_out = len(metrics) - len(usable)
    if not 1 <= count <= len(usable):
        raise InputError(
            f"--count must be from 1 to {len(usable)}, the candidates with metrics ({left_out} have none); "
            f"got {count}."
        )
    shares = dict(sorted((shares or {}).items()))
    place_of = {name: place for place, name in enumerate(shares)}
    group = np.array([-1 if labels is None else place_of.get(labels[int(i)], -1) for i in usable])
    limits = _counts_of_shares(shares, group, count)

    bins = _bins(metrics[usable], edges)
    cells, cell_of, sizes = np.unique(
        np.column_stack([bins, group]), axis=0, return_inverse=True, return_counts=True
    )
    generator = np.random.default_rng(seed)
    amounts, bound = _solve(
        cells[:, :-1], sizes, target * count, cells[:, -1], limits, count, generator, seconds
    )

    # In random order within each cell the first ones are the draw.
    order = generator.permutation(len(usable))
    order = order[np.argsort(cell_of[order], kind="stable")]
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    indices = np.sort(usable[order[place < np.repeat(amounts, sizes)]])
    differences = np.abs(histograms(metrics[indices], edges) - target).sum(axis=1)
    return Selection(indices, left_out, differences, bound / count)


def _bins(metrics: Array, edges: Array) -> npt.NDArray[np.int64]:
    """Return the bin (n, k) of each value; a value on an edge is in the bin above."""
    return np.column_stack(
        [np.searchsorted(inner, column, side="right") for inner, column in zip(edges, metrics.T, strict=True)]
    )


def _counts_of_shares(
    shares: Mapping[str, float], group: npt.NDArray[np.int64], count: int
) -> list[tuple[int, int]]:
    """Return the fewest and the most videos of each label: its share of the count, rounded down and up."""
    if any(not 0 < share <= 1 for share in shares.values()) or sum(shares.values()) > 1 + 1e-9:
        raise InputError(f"--shares must be numbers above 0, at most 1 in all; got {dict(shares)}.")
    wanted = []
    for index, (name, share) in enumerate(shares.items()):
        fewest, most = math.floor(share * count + 1e-9), math.ceil(share * count - 1e-9)
        available = int((group == index).sum())
        if available < fewest:
            raise InputError(
                f"--shares asks for {fewest} videos of {name!r}, but the candidates have {available}; lower "
                "this share or --count."
            )
        wanted.append((fewest, min(most, available)))
    others = int((group == -1).sum())
    lacking = count - sum(most for _, most in wanted) - others
    if lacking > 0:
        raise InputError(
            f"--shares {dict(shares)} leave {lacking} of {count} videos that no candidate can fill; "
            "let the shares sum to 1, or lower --count."
        )
    return wanted


def _solve(
    cells: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    wanted: Array,
    group: npt.NDArray[np.int64],
    limits: Sequence[tuple[int, int]],
    count: int,
    generator: np.random.Generator,
    seconds: float,
) -> tuple[npt.NDArray[np.int64], float]:
    """Find how many to take from each cell, and a bound below the sum of absolute differences of counts.

    The relaxation to real numbers gives the bound. It is fractional for some cells only, fewer than there are
    constraints. The fractional cells, with some cells drawn at random, make a small integer program; all
    other cells stay as in the relaxation.
    """
    number, k = cells.shape
    rows = (cells + wanted.shape[1] * np.arange(k)).ravel()
    in_bin = csc_array((np.ones(rows.size), (rows, np.repeat(np.arange(number), k))), (wanted.size, number))
    in_group = np.stack([np.ones(number), *(group == index for index in range(len(limits)))])
    totals = np.array([(count, count), *limits], dtype=np.float64)

    def program(free: npt.NDArray[np.bool_], fixed: Array, seconds: float | None) -> OptimizeResult:
        """Find amounts x of the free cells with the least sum of the excess u and the lack v of all bins.

        For every bin the sum of its cells' x, less u, plus v, is the wanted count; `totals` (low, high) bound
        the sum of each group. The cost has `count` added, for the gap at which HiGHS stops is relative and
        the least cost may be 0. Without a limit of seconds the amounts are real numbers.
        """
        cells, bins, whole = int(free.sum()), wanted.size, seconds is not None
        unit = eye_array(bins)
        of_groups = csr_array(np.pad(in_group[:, free], ((0, 0), (0, 2 * bins + 1))))
        of_bins = hstack([in_bin[:, free], -unit, unit, csr_array((bins, 1))])
        lacking = wanted.ravel() - in_bin @ fixed
        left = totals - (in_group @ fixed)[:, None]
        found = milp(
            np.concatenate([np.zeros(cells), np.ones(2 * bins), [count]]),
            integrality=np.concatenate([np.full(cells, int(whole)), np.zeros(2 * bins + 1)]),
            bounds=Bounds(
                np.concatenate([np.zeros(cells + 2 * bins), [1]]),
                np.concatenate([sizes[free], np.full(2 * bins, np.inf), [1]]),
            ),
            constraints=LinearConstraint(
                vstack([of_bins, of_groups], format="csr"),
                np.concatenate([lacking, left[:, 0]]),
                np.concatenate([lacking, left[:, 1]]),
            ),
            options={"time_limit": math.inf if seconds is None else seconds, "mip_rel_gap": GAP},
        )
        if found.x is None:
            raise InputError("No choice was found in time; give fewer candidates or fewer --bins.")
        return found

    relaxed = program(np.full(number, True), np.zeros(number), None)
    amounts = relaxed.x[:number]
    free = np.abs(amounts - np.rint(amounts)) > 1e-6
    free[generator.permutation(number)[:FREE_CELLS]] = True
    fixed = np.where(free, 0, np.rint(amounts))
    fixed[free] = np.rint(program(free, fixed, seconds).x[: free.sum()])
    return fixed.astype(np.int64), max(relaxed.fun - count, 0.0)
