"""The command `agreement`: which of two score files agrees better with people, and whether that is chance.

Only videos that both files and the list have are counted, so that both models answer the same question.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.table import Table

from datamodules.errors import InputError
from datamodules.opinions import read_opinions, read_predictions
from datamodules.opinions.predictions import join
from vqa_lightning.metrics.correlation import FIGURES
from vqa_lightning.metrics.significance import Interval, compare

_LEAST = 4


def compare_models(
    first: Path,
    second: Path,
    labels: Path,
    lower_is_better: tuple[Literal["first", "second", "labels"], ...] = (),
    draws: int = 1000,
    seed: int = 0,
) -> None:
    """Print how well two score files agree with human opinions, and the test of their difference.

    Args:
        first: scores of one model: predict's output, or any list of names and scores.
        second: scores of another model.
        labels: a list of mean opinion scores, or of raw votes.
        lower_is_better: those of the three files in which a larger number means a worse video, such as
            [second] where the second model's scores are distances.
        draws: resamplings of the bootstrap behind the intervals; 1000 take 15 s for 7 000 videos.
        seed: of the draws.

    Raises:
        InputError: a file cannot be read, or fewer than four videos are in all three files.
    """
    opinions = read_opinions(labels, higher_is_better="labels" not in lower_is_better)
    models = [
        read_predictions(first, "first" not in lower_is_better),
        read_predictions(second, "second" not in lower_is_better),
    ]
    scores = [join(model, opinions.names, labels) for model in models]
    rows = [row for row in range(len(opinions.names)) if all(row in found for found in scores)]
    if len(rows) < _LEAST:
        raise InputError(
            f"{first}, {second} and {labels} must share {_LEAST} videos or more; got {len(rows)} of the "
            f"{len(opinions.names)} in the list."
        )
    one, two = (np.array([found[row] for row in rows]) for found in scores)
    outcome = compare(one, two, opinions.mos[rows], draws=draws, seed=seed)

    table = Table("", "first", "", "second", "", title=f"Agreement with {labels.name}, {len(rows)} videos")
    sides = ((outcome.first, outcome.first_intervals), (outcome.second, outcome.second_intervals))
    for name in FIGURES:
        cells = [(f"{values[name]:.3f}", _told(intervals[name])) for values, intervals in sides]
        table.add_row(name.upper(), *cells[0], *cells[1])
    table.add_row("raw PLCC", f"{outcome.first['plcc_raw']:.3f}", "", f"{outcome.second['plcc_raw']:.3f}", "")
    console = Console()
    console.print(table)
    for word, model, found in zip(("first", "second"), models, scores, strict=True):
        failed = f", {model.failed} rows without a score" if model.failed else ""
        unlisted = len(model.names) - len(found)
        console.print(
            f"{word}: {model.model} ({model.path.name}{failed}, {unlisted} not on the list)", highlight=False
        )
    console.print(
        f"SRCC of the first less that of the second: {outcome.difference:+.3f} "
        f"{_told(outcome.difference_interval)}; Meng's z {outcome.meng.z:.2f}, p {outcome.meng.p:.2g}",
        highlight=False,
    )
    console.print(
        "(95 % intervals over videos; PLCC and RMSE after the four-parameter logistic)", highlight=False
    )


def _told(interval: Interval) -> str:
    return f"[{interval[0]:.3f}, {interval[1]:.3f}]"
