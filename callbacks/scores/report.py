"""The end of predict: a few scores in the terminal, and a picture of each video over time."""

import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from lightning_utilities.core.rank_zero import rank_zero_info
from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from callbacks.scores.rows import Row, one_sentence
from datamodules.errors import InputError
from datamodules.files import written_whole
from vqa_lightning.metrics.score_plot import plot_over_time
from vqa_lightning.pages.score_page import LeftOut, score_page

FEW = 20
"""Largest number of videos whose scores are also printed."""


def summarise(output: Path | str, rows: Sequence[Row]) -> None:
    """Print how many videos were scored."""
    failed = [row for row in rows if row["status"] == "error"]
    rank_zero_info(f"{output}: {len(rows) - len(failed)} videos scored, {len(failed)} unreadable")


def write_page(
    page: Path,
    rows: Sequence[Row],
    intervals: Sequence[Row],
    title: str,
    pictured: int = 200,
    left_out: LeftOut | None = None,
) -> str:
    """Write the page of scores, whole or not at all; the arguments are those of `score_page`.

    Returns:
        What was written, in one line.

    Raises:
        InputError: the page cannot be written.
    """
    return save_page(page, score_page(rows, intervals, title, pictured, left_out), f"{len(rows)} videos")


def save_page(page: Path, text: str, what: str) -> str:
    """Write a page, whole or not at all.

    Args:
        page: file to write.
        text: HTML; what is no UTF-8, such as a file's name, is replaced.
        what: is on it.

    Returns:
        What was written, in one line.

    Raises:
        InputError: the page cannot be written.
    """
    with one_sentence(page), written_whole(page) as hidden:
        hidden.write_text(text, encoding="utf-8", errors="replace")
    return f"{page}: {what}, {page.stat().st_size / 1e6:.1f} MB"


def require_one(rows: Sequence[Row]) -> None:
    """Refuse rows without a single score.

    Raises:
        InputError: not one video was scored.
    """
    if all(row["status"] == "error" for row in rows):
        raise InputError(f"not one of {len(rows)} videos could be read; the first: {rows[0]['error']}")


def print_scores(rows: Sequence[Row]) -> None:
    """Print each video's score with a bar from 0 to 100, or why it has none; of more than FEW, nothing."""
    if len(rows) > FEW:
        return
    numbers = {"score": ("score", ".1f"), "±": ("stderr", ".1f")}
    if "calibrated" in rows[0]:
        numbers["calibrated"] = ("calibrated", ".2f")
    table = Table("video", title="50: middle of the training corpus, 10: its deviation")
    for header in numbers:
        table.add_column(header, justify="right")
    table.add_column("0" + " " * 12 + "50" + " " * 12 + "100", width=30, overflow="fold")
    for row in rows:
        name = Text(Path(row["path"]).name, overflow="fold")
        if row["status"] == "error":
            reason = Text(row["error"].removeprefix(row["path"]).strip(), style="red")
            table.add_row(name, *[""] * len(numbers), reason)
            continue
        cells = [f"{row[column]:{places}}" for column, places in numbers.values()]
        table.add_row(name, *cells, Bar(100, 0, row["score"], width=30, color="cyan"))
    Console().print(table)


def draw_seconds(folder: Path, rows: Sequence[Row]) -> None:
    """Draw each video over time into a folder, under its name from where the paths begin to differ.

    Args:
        folder: folder of the pictures, made if it is missing.
        rows: rows of `SECONDS_SCHEMA`, the rows of a video one after the other.

    Raises:
        InputError: the folder cannot be written to.
    """
    parents = {os.path.dirname(os.path.abspath(row["path"])) for row in rows}
    for path, members in groupby(rows, key=lambda row: str(row["path"])):
        of_video = list(members)
        picture = folder / f"{os.path.relpath(path, os.path.commonpath(parents))}.png"
        columns = ("start", "score", "stderr")
        starts, scores, errors = (np.array([row[c] for row in of_video], dtype=float) for c in columns)
        edges = np.append(starts, of_video[-1]["end"])
        with one_sentence(picture):
            picture.parent.mkdir(parents=True, exist_ok=True)
            plot_over_time(os.path.basename(path), edges, scores, errors).savefig(picture, dpi=120)
