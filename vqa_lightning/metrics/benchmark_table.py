"""The table of a model on sets of human opinions: rows of a file, notes, and the same in a terminal.

The averages stand beside the published averages of W2S-VQA.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from rich import box
from rich.console import Console
from rich.table import Table

from datamodules.benchmark_data import NAMED
from vqa_lightning.metrics.benchmark_figures import PARAMETERS, DomainAverage, Interval, SetFigures
from vqa_lightning.metrics.correlation import FIGURES

PUBLISHED = {
    "best teacher (MinimalisticVQA IX)": (0.849, 0.574),
    "same student on LSVQ's human labels": (0.851, 0.577),
    "student of one teacher": (0.849, 0.591),
    "stage 1": (0.857, 0.672),
    "stage 2": (0.860, 0.722),
    "stage 3": (0.865, 0.745),
}
"""SRCC in the two domains, weighted by number of videos, of W2S-VQA (arXiv 2505.03631)."""

TABLE_SCHEMA = pa.schema(
    dict.fromkeys(("set", "domain", "list"), pa.string())
    | dict.fromkeys(("n", "missing", "unreadable"), pa.int64())
    | {f"{name}{end}": pa.float64() for name in FIGURES for end in ("", "_low", "_high")}
    | {"plcc_raw": pa.float64(), "model": pa.string()}
)
"""Columns of benchmarks.csv."""

Row = dict[str, str | int | float | None]


def table_rows(sets: Sequence[SetFigures], averages: Sequence[DomainAverage], model: str) -> list[Row]:
    """Return the rows of benchmarks.csv: each set, then each average that counts a set.

    Example:
        >>> average = DomainAverage("in-domain", 0.8, (0.7, 0.9), 12, ["LIVE-VQC"], [])
        >>> table_rows([], [average], "model")[0]["srcc"]
        0.8
    """
    rows: list[Row] = []
    for scored, figures, intervals in sets:
        row: Row = {"set": scored.name, "domain": scored.domain, "list": scored.release, "model": model}
        row |= {"n": len(scored.mos), "missing": scored.missing, "unreadable": len(scored.unreadable)}
        rows.append(row | _cells({name: figures[name] for name in (*FIGURES, "plcc_raw")}, intervals))
    for average in averages:
        if average.present:
            row = {"set": f"{average.domain} average", "domain": average.domain, "model": model}
            row |= {"n": average.n} | _cells({"srcc": average.srcc}, {"srcc": average.interval})
            rows.append(row)
    return rows


def _cells(figures: dict[str, float], intervals: dict[str, Interval]) -> Row:
    cells = dict(figures)
    for name, (low, high) in intervals.items():
        cells |= {f"{name}_low": low, f"{name}_high": high}
    return {name: finite(value) for name, value in cells.items()}


def finite(value: float) -> float | None:
    """Return a number as a table holds it: None where it is not known.

    Example:
        >>> finite(0.5), finite(float("nan"))
        (0.5, None)
    """
    return value if np.isfinite(value) else None


def notes(one: SetFigures) -> list[str]:
    """Return sentences on the videos that a set's figures leave out, and on figures that are undefined.

    Example:
        >>> from vqa_lightning.metrics.benchmark_figures import ScoredSet, set_figures
        >>> none = np.array([])
        >>> empty = ScoredSet("mine", None, none, none, none, none, [], missing=0, unreadable=["a.mp4"])
        >>> notes(set_figures(empty, draws=1))
        ['1 unreadable, which no figure counts: a.mp4', '0 scored: figures need 3 videos.']
    """
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
    """Print the sets with notes on them, and the averages beside the published averages, in 80 columns.

    Example:
        >>> print_benchmarks([], [])  # doctest: +ELLIPSIS
        <BLANKLINE>
        Agreement with people...
    """
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
    table.add_row("sets", *(f"{len(one.present)} of {len(one.present + one.missing)}" for one in averages))
    table.add_row("videos", *(str(average.n) for average in averages))
    table.add_row("W2S-VQA as published, all sets:")
    for name, figures in PUBLISHED.items():
        table.add_row(f"  {name}", *(f"{value:.3f}" for value in figures))
    console.print("", table)
    for average in averages:
        if average.present and average.missing:
            console.print(f"{average.domain} lacks {', '.join(average.missing)}.", highlight=False)


def _table(title: str, first: str, *others: str) -> Table:
    """Make an empty table that leaves room for seven columns in a terminal of 80."""
    table = Table(title=title, box=box.SIMPLE_HEAD, collapse_padding=True, show_edge=False, pad_edge=False)
    table.title_justify = "left"
    table.add_column(first, overflow="fold")
    for header in others:
        table.add_column(header, justify="right")
    return table


def _cell(value: float, interval: Interval | None = None) -> str:
    """Format a figure over its interval, or a dash where it is undefined."""
    if not np.isfinite(value):
        return "-"
    places = 3 if abs(value) < 10 else 2
    told = f"{value:z.{places}f}"
    return told if interval is None else f"{told}\n" + "..".join(f"{end:z.{places - 1}f}" for end in interval)
