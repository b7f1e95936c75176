"""What a judge's scores of versions of real clips are worth: order on ladders, and agreement across contents.

Order on a ladder is what a user sees first, and says nothing of a scale; agreement with VMAF over all
versions of all contents is the scale. Every figure of several contents has its interval over contents.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from carry_over_fidelity import Row
from rich.table import Table

from datamodules.bootstrap import bootstrap_interval
from vqa_lightning.metrics import rank_accuracy, srcc

Floats = npt.NDArray[np.float64]

LEAST_GAP = 5.0
"""VMAF by which a pair must differ to count as ordered; six are a just noticeable difference to Netflix."""


class Estimate(NamedTuple):
    """A figure with the two ends of its 95 % interval over contents; NaN where it is undefined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return `.65 [.58 .72]`, or a dash."""
        if math.isnan(self.value):
            return "-"
        return f"{short(self.value)} [{short(self.low)} {short(self.high)}]"


@dataclass(frozen=True)
class Figures:
    """What a judge is worth.

    Attributes:
        ladders: share of pairs of levels in order on each ladder, the mean over contents; a tie counts half.
        mean: of the ladders.
        srcc_vmaf: SRCC with VMAF over all versions of all contents.
        srcc_ssim: the same with SSIM.
        within: share in order of the pairs of one content whose VMAF differs by more than `LEAST_GAP`.
        across: the same of pairs of different contents.
        versions: that have a score.
        missing: that have none, and are left out.
    """

    ladders: Mapping[str, float]
    mean: Estimate
    srcc_vmaf: Estimate
    srcc_ssim: Estimate
    within: Estimate
    across: Estimate
    versions: int
    missing: int

    @property
    def least(self) -> tuple[str, float]:
        """The ladder with the least share, and its share."""
        return min(self.ladders.items(), key=lambda item: item[1], default=("", math.nan))

    def plain(self) -> dict[str, Any]:
        """Return the figures as JSON takes them, None where one is undefined."""
        names = ("mean", "srcc_vmaf", "srcc_ssim", "within", "across")
        found = {
            name: dict(zip(("value", "low", "high"), map(_known, getattr(self, name)), strict=True))
            for name in names
        }
        ladders = {name: _known(value) for name, value in self.ladders.items()}
        least = {"ladder": self.least[0], "value": _known(self.least[1])}
        return {
            "ladders": ladders,
            "least": least,
            **found,
            "versions": self.versions,
            "missing": self.missing,
        }


def figures(given: Floats, rows: Sequence[Row], draws: int = 1000) -> Figures:
    """Measure a judge.

    Args:
        given: (n,) its scores, higher better, NaN where it has none.
        rows: the n versions.
        draws: of the bootstrap.

    Raises:
        InputError: there is no row.
    """
    kept = np.flatnonzero(~np.isnan(given))
    chosen, values = [rows[place] for place in kept], given[kept]
    clips = np.array([row.clip for row in chosen])
    names, shares = ladder_shares(values, chosen)
    by_content = np.unique(clips)

    def estimate(statistic: Callable[..., float], *arrays: npt.ArrayLike, groups: npt.ArrayLike) -> Estimate:
        value = statistic(*map(np.asarray, arrays)) if len(np.asarray(groups)) else math.nan
        if math.isnan(value):
            return Estimate(math.nan, math.nan, math.nan)
        return Estimate(value, *bootstrap_interval(statistic, *arrays, groups=groups, draws=draws))

    vmaf = np.array([math.nan if row.vmaf is None else row.vmaf for row in chosen])
    ssim = np.array([row.ssim for row in chosen])
    right, counted = _pair_counts(values, vmaf, clips)
    places = np.arange(len(by_content))

    def within(drawn: npt.NDArray[np.int64]) -> float:
        return _share(right[drawn, drawn].sum(), counted[drawn, drawn].sum())

    def across(drawn: npt.NDArray[np.int64]) -> float:
        times = np.bincount(drawn, minlength=len(by_content)).astype(np.float64)
        apart = [matrix - np.diag(matrix.diagonal()) for matrix in (right, counted)]
        return _share(*(float(times @ matrix @ times) for matrix in apart))

    return Figures(
        ladders={name: float(np.nanmean(column)) for name, column in zip(names, shares.T, strict=True)},
        mean=estimate(_mean_of_ladders, shares, groups=by_content),
        srcc_vmaf=estimate(srcc, values, vmaf, groups=clips),
        srcc_ssim=estimate(srcc, values, ssim, groups=clips),
        within=estimate(within, places, groups=by_content),
        across=estimate(across, places, groups=by_content),
        versions=len(kept),
        missing=len(rows) - len(kept),
    )


def ladder_shares(given: Floats, rows: Sequence[Row]) -> tuple[list[str], Floats]:
    """Return the ladders' names, and the share of pairs in order (contents, ladders), NaN where one has none.

    Contents are sorted by name. The source is level 0 of each ladder; chains are no ladder.
    """
    names = list(dict.fromkeys(row.ladder for row in rows if row.ladder not in ("source", "chain")))
    clips = sorted({row.clip for row in rows})
    ladders: dict[tuple[str, str], dict[int, float]] = {}
    for row, value in zip(rows, given.tolist(), strict=True):
        for name in names if row.ladder == "source" else [row.ladder]:
            ladders.setdefault((row.clip, name), {})[row.level] = value
    shares = np.full((len(clips), len(names)), math.nan)
    for place, clip in enumerate(clips):
        for column, name in enumerate(names):
            levels = ladders.get((clip, name), {})
            pairs = list(combinations(sorted(levels), 2))
            difference = [levels[milder] - levels[harsher] for milder, harsher in pairs]
            shares[place, column] = rank_accuracy(difference, np.ones(len(pairs)))
    return names, shares


def short(value: float) -> str:
    """Return a figure with two digits and without the nought before the point.

    Example:
        >>> short(0.654), short(-0.1), short(1.0)
        ('.65', '-.10', '1.00')
    """
    return f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 0.995 else f"{value:.2f}"


def ladder_table(found: Mapping[str, Figures]) -> Table:
    """Return pair accuracy by ladder, one row a judge."""
    table = Table(
        title="Pairs of levels in order, by ladder", title_justify="left", padding=(0, 0, 0, 1), box=None
    )
    table.add_column("judge", overflow="fold", width=21)
    names = list(dict.fromkeys(name for one in found.values() for name in one.ladders))
    for name in names:
        table.add_column(name, justify="right")
    for judge, one in found.items():
        table.add_row(judge, *(short(one.ladders[name]) if name in one.ladders else "-" for name in names))
    return table


def agreement_tables(found: Mapping[str, Figures]) -> tuple[Table, Table]:
    """Return the mean and the least of the ladders with SRCC, and the shares of pairs that VMAF orders."""
    first, second = (Table(title_justify="left", padding=(0, 0, 0, 1), box=None) for _ in range(2))
    first.title = "Ladders, and SRCC over all versions of all contents"
    second.title = f"Pairs in order whose VMAF differs by more than {LEAST_GAP:g}"
    for table, columns in (
        (first, ("ladders", "least", "SRCC VMAF", "SRCC SSIM")),
        (second, ("within a content", "across contents", "versions", "missing")),
    ):
        table.add_column("judge", overflow="fold", width=21)
        for column in columns:
            table.add_column(column, justify="right", no_wrap=True)
    for judge, one in found.items():
        name, least = one.least
        worst = f"{name} {short(least)}" if name else "-"
        first.add_row(judge, str(one.mean), worst, str(one.srcc_vmaf), str(one.srcc_ssim))
        second.add_row(judge, str(one.within), str(one.across), str(one.versions), str(one.missing))
    return first, second


def _mean_of_ladders(shares: Floats) -> float:
    """Return the mean over ladders of the mean over contents."""
    known = ~np.isnan(shares)
    counts = known.sum(axis=0)
    if not counts.all() or not counts.size:
        return math.nan
    return float((np.where(known, shares, 0).sum(axis=0) / counts).mean())


def _pair_counts(given: Floats, vmaf: Floats, clips: npt.NDArray[np.str_]) -> tuple[Floats, Floats]:
    """Return how many ordered pairs of each two contents (n, n) are right, and how many there are."""
    _, group = np.unique(clips, return_inverse=True)
    members = [np.flatnonzero(group == number) for number in range(group.max(initial=-1) + 1)]
    right, counted = np.zeros((2, len(members), len(members)))
    for one, first in enumerate(members):
        for other, second in enumerate(members):
            gap = vmaf[first, None] - vmaf[None, second]
            ordered = gap > LEAST_GAP  # never where VMAF is unknown
            order = np.sign(given[first, None] - given[None, second])
            right[one, other] = ((1 + order) / 2)[ordered].sum()
            counted[one, other] = ordered.sum()
    return right, counted


def _share(right: float, counted: float) -> float:
    return right / counted if counted else math.nan


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
