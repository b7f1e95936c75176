"""What predict shows at its end: a few scores in the terminal, each video over time as a picture."""

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

from callbacks.scores.table import Row, one_sentence
from datamodules.errors import InputError
from vqa_lightning.metrics.score_plot import plot_over_time

FEW = 20
"""Videos whose scores are also printed."""


def summarise(output: Path, rows: Sequence[Row]) -> None:
    """Says how many videos were scored.

    Raises:
        InputError: not one.
    """
    failed = [row for row in rows if row["status"] == "error"]
    rank_zero_info(f"{output}: {len(rows) - len(failed)} videos scored, {len(failed)} unreadable")
    if len(failed) == len(rows):
        raise InputError(f"not one of {len(rows)} videos could be read; the first: {failed[0]['error']}")


def print_scores(rows: Sequence[Row]) -> None:
    """Prints each video's score with a bar from 0 to 100, or why it has none."""
    calibrated = "calibrated" in rows[0]
    table = Table("video", title="50: middle of the training corpus, 10: its deviation")
    table.add_column("score", justify="right")
    table.add_column("±", justify="right")
    if calibrated:
        table.add_column("calibrated", justify="right")
    table.add_column("0" + " " * 12 + "50" + " " * 12 + "100", width=30, overflow="fold")
    for row in rows:
        name = Text(Path(row["path"]).name, overflow="fold")
        if row["status"] == "error":
            reason = Text(row["error"].removeprefix(row["path"]).strip(), style="red")
            table.add_row(name, "", "", *([""] if calibrated else []), reason)
            continue
        numbers = [f"{row['score']:.1f}", f"{row['stderr']:.1f}"]
        numbers += [f"{row['calibrated']:.2f}"] if calibrated else []
        table.add_row(name, *numbers, Bar(100, 0, row["score"], width=30, color="cyan"))
    Console().print(table)


def draw_seconds(folder: Path, rows: Sequence[Row]) -> None:
    """Draws each video over time into a folder, under its name from where the paths begin to differ.

    Args:
        folder: made where it is not there.
        rows: of `SECONDS_SCHEMA`, those of a video one after the other.

    Raises:
        InputError: it cannot be written to.
    """
    parents = {os.path.dirname(os.path.abspath(row["path"])) for row in rows}
    for path, members in groupby(rows, key=lambda row: str(row["path"])):
        of_video = list(members)
        picture = folder / f"{os.path.relpath(path, os.path.commonpath(parents))}.png"
        scores, errors = (
            np.array([row[name] for row in of_video], dtype=float) for name in ("score", "stderr")
        )
        edges = np.array([row["start"] for row in of_video] + [of_video[-1]["end"]])
        with one_sentence(picture):
            picture.parent.mkdir(parents=True, exist_ok=True)
            plot_over_time(os.path.basename(path), edges, scores, errors).savefig(picture, dpi=120)
