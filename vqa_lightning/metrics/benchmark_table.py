"""Figures of a model on sets of human opinions: a row a set, the published averages, and how they are told.

An average counts only the sets that are there, and names the others: over fewer sets it is not the number
that was published.
"""

from collections.abc import Sequence
from typing import NamedTuple, get_args

import numpy as np
import pyarrow as pa
from rich import box
from rich.console import Console
from rich.table import Table

from datamodules.benchmark_data import NAMED
from datamodules.bootstrap import bootstrap_interval
from datamodules.opinions import BENCHMARKS
from datamodules.opinions.benchmarks import Domain
from vqa_lightning.metrics.correlation import FIGURES, agreement, agreement_intervals, srcc
from vqa_lightning.metrics.logistic import Floats

PUBLISHED = {
    "best teacher (MinimalisticVQA IX)": (0.849, 0.574),
    "same student on LSVQ's human labels": (0.851, 0.577),
    "student of one teacher": (0.849, 0.591),
    "stage 1": (0.857, 0.672),
    "stage 2": (0.860, 0.722),
    "stage 3": (0.865, 0.745),
}
"""SRCC in the two domains, weighted by number of videos, of W2S-VQA (arXiv 2505.03631)."""

PARAMETERS = 4
"""Of the logistic: through as many different scores it fits nearly anything."""

TABLE_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("set", "domain", "list")),
        *((name, pa.int64()) for name in ("n", "missing", "unreadable")),
        *((f"{name}{end}", pa.float64()) for name in FIGURES for end in ("", "_low", "_high")),
        ("plcc_raw", pa.float64()),
        ("model", pa.string()),
    ]
)
"""Of benchmarks.csv."""

Row = dict[str, str | int | float | None]


class ScoredSet(NamedTuple):
    """The videos of a set that could be scored, and what people said of them.

    Attributes:
        name: of the set.
        release: whose list of a known set it is; None where it is nobody's.
        scores: (n,) on the published scale.
        stderr: (n,) their standard errors.
        mos: (n,) opinions, higher is better.
        mos_stderr: (n,) their standard errors; NaN where not known.
        contents: of each video; versions of one content are resampled together.
        missing: number of listed videos that are not there.
        unreadable: file names of those that are there and cannot be read.
    """

    name: str
    release: str | None
    scores: Floats
    stderr: Floats
    mos: Floats
    mos_stderr: Floats
    contents: list[str]
    missing: int
    unreadable: list[str]

    @property
    def domain(self) -> Domain | None:
        """Of the published averages the one that counts the set."""
        known = BENCHMARKS.get(self.name)
        return None if known is None else known.domain

    @property
    def fits_curve(self) -> bool:
        """Whether a logistic through the scores says anything."""
        return len(np.unique(self.scores)) > PARAMETERS and bool(np.ptp(self.mos) > 0)


class SetFigures(NamedTuple):
    """How a model agrees with a set's opinions.

    Attributes:
        scored: the set.
        figures: of `agreement`; NaN where there are none.
        intervals: 95 %, of each of `FIGURES`, over contents.
    """

    scored: ScoredSet
    figures: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def set_figures(scored: ScoredSet, draws: int = 1000) -> SetFigures:
    """How well a set's scores agree with its opinions.

    Args:
        scored: the set.
        draws: of the bootstrap behind the intervals.
    """
    # NaN where a curve through so few scores would pass for an agreement.
    undefined = () if scored.fits_curve else ("plcc", "rmse")
    figures = agreement(scored.scores, scored.mos)
    intervals = agreement_intervals(scored.scores, scored.mos, scored.contents, draws=draws)
    return SetFigures(
        scored,
        figures | dict.fromkeys(undefined, np.nan),
        intervals | dict.fromkeys(undefined, (np.nan, np.nan)),
    )


class DomainAverage(NamedTuple):
    """SRCC over the sets of a domain, weighted by number of videos (METHOD section 7).

    Attributes:
        domain: which sets belong to it, as `BENCHMARKS` says.
        srcc: the average; NaN where not one set has an SRCC.
        interval: 95 %, over contents.
        n: number of videos.
        present: sets that have an SRCC.
        missing: those of the domain that do not.
    """

    domain: Domain
    srcc: float
    interval: tuple[float, float]
    n: int
    present: list[str]
    missing: list[str]


def domain_averages(sets: Sequence[SetFigures], draws: int = 1000) -> list[DomainAverage]:
    """The average of each domain over the sets that are there.

    Args:
        sets: in any order.
        draws: of the bootstrap behind the intervals.
    """
    return [_average(domain, sets, draws) for domain in get_args(Domain)]


def _average(domain: Domain, sets: Sequence[SetFigures], draws: int) -> DomainAverage:
    counted = [one.scored for one in sets if one.scored.domain == domain and np.isfinite(one.figures["srcc"])]
    present = [one.name for one in counted]
    members = [name for name, known in BENCHMARKS.items() if known.domain == domain]
    missing = [name for name in members if name not in present]
    if not counted:
        return DomainAverage(domain, np.nan, (np.nan, np.nan), 0, present, missing)
    scores = np.concatenate([one.scores for one in counted])
    mos = np.concatenate([one.mos for one in counted])
    which = np.repeat(np.arange(float(len(counted))), [len(one.mos) for one in counted])
    contents = [f"{one.name}/{content}" for one in counted for content in one.contents]

    weights = [len(one.mos) for one in counted]

    def average(scores: Floats, mos: Floats, which: Floats) -> float:
        found = [srcc(scores[which == place], mos[which == place]) for place in range(len(counted))]
        return float(np.average(found, weights=weights))

    interval = bootstrap_interval(average, scores, mos, which, groups=contents, draws=draws)
    return DomainAverage(domain, average(scores, mos, which), interval, len(mos), present, missing)


def table_rows(sets: Sequence[SetFigures], averages: Sequence[DomainAverage], model: str) -> list[Row]:
    """Rows of benchmarks.csv: each set, then each average of which there is one."""
    rows: list[Row] = []
    for scored, figures, intervals in sets:
        row: Row = {"set": scored.name, "domain": scored.domain, "list": scored.release, "model": model}
        row |= {"n": len(scored.mos), "missing": scored.missing, "unreadable": len(scored.unreadable)}
        row |= {name: finite(figures[name]) for name in (*FIGURES, "plcc_raw")}
        for name, (low, high) in intervals.items():
            row |= {f"{name}_low": finite(low), f"{name}_high": finite(high)}
        rows.append(row)
    for average in averages:
        if average.present:
            low, high = average.interval
            row = {"set": f"{average.domain} average", "domain": average.domain, "model": model}
            row |= {"n": average.n, "srcc": average.srcc, "srcc_low": finite(low), "srcc_high": finite(high)}
            rows.append(row)
    return rows


def finite(value: float) -> float | None:
    """A number as a table holds it: None where it is not known."""
    return value if np.isfinite(value) else None


def notes(one: SetFigures) -> list[str]:
    """Sentences on what a set's figures leave out, and why it has fewer than others."""
    scored, n = one.scored, len(one.scored.mos)
    told = []
    if scored.unreadable:
        names = ", ".join(scored.unreadable[:NAMED]) + (", ..." if len(scored.unreadable) > NAMED else "")
        told.append(f"{len(scored.unreadable)} unreadable, which no figure counts: {names}")
    different = len(np.unique(scored.scores))
    if n < 3:
        told.append(f"{n} scored: figures need 3 videos.")
    elif np.ptp(scored.mos) == 0:
        told.append(f"all {n} opinions are {scored.mos[0]:g}: there is no order to agree with.")
    elif different == 1:
        told.append(f"all {n} scores are {scored.scores[0]:g}: the model tells no video from another.")
    elif not scored.fits_curve:
        told.append(
            f"{different} different scores: a curve needs more than {PARAMETERS}, so no PLCC and RMSE."
        )
    return told


def print_benchmarks(sets: Sequence[SetFigures], averages: Sequence[DomainAverage]) -> None:
    """Prints the sets, what is to be said of them, and the averages beside those published, in 80 columns."""
    console = Console()
    table = _table("Agreement with people", "set", "n", "SRCC", "KRCC", "PLCC", "RMSE", "raw\nPLCC")
    for scored, figures, intervals in sets:
        cells = [_cell(figures[name], intervals[name]) for name in FIGURES]
        table.add_row(scored.name, str(len(scored.mos)), *cells, _cell(figures["plcc_raw"]))
    console.print("", table)
    console.print(
        "95 % intervals over contents; PLCC and RMSE after the four-parameter logistic", highlight=False
    )
    for one in sets:
        for note in notes(one):
            console.print(f"{one.scored.name}: {note}", markup=False, highlight=False)
    if any(average.present for average in averages):
        _print_averages(console, averages)


def _print_averages(console: Console, averages: Sequence[DomainAverage]) -> None:
    table = _table("SRCC, weighted by number of videos", "", *(average.domain for average in averages))
    table.add_row("this model", *(_cell(average.srcc, average.interval) for average in averages))
    counts = [f"{len(average.present)} of {len(average.present + average.missing)}" for average in averages]
    table.add_row("sets", *counts)
    table.add_row("videos", *(str(average.n) for average in averages))
    table.add_row("W2S-VQA as published, all sets:")
    for name, figures in PUBLISHED.items():
        table.add_row(f"  {name}", *(f"{value:.3f}" for value in figures))
    console.print("", table)
    for average in averages:
        if average.present and average.missing:
            console.print(f"{average.domain} lacks {', '.join(average.missing)}.", highlight=False)


def _table(title: str, first: str, *others: str) -> Table:
    """An empty table that leaves room for seven columns in a terminal of 80."""
    table = Table(title=title, box=box.SIMPLE_HEAD, collapse_padding=True, show_edge=False, pad_edge=False)
    table.title_justify = "left"
    table.add_column(first, overflow="fold")
    for header in others:
        table.add_column(header, justify="right")
    return table


def _cell(value: float, interval: tuple[float, float] | None = None) -> str:
    """A figure over its interval; a dash for what is not defined."""
    if not np.isfinite(value):
        return "-"
    places = 3 if abs(value) < 10 else 2
    told = f"{value:z.{places}f}"
    return told if interval is None else f"{told}\n" + "..".join(f"{end:z.{places - 1}f}" for end in interval)
