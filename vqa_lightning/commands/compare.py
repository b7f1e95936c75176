"""The command `compare`: which of two score files agrees better with people, and whether that is chance.

Only videos that both files and the list have are counted, so that both models answer the same question.
"""

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from datamodules.opinions import read_opinions, read_predictions
from datamodules.opinions.predictions import join
from vqa_lightning.families import InputError
from vqa_lightning.metrics.correlation import FIGURES
from vqa_lightning.metrics.significance import Interval, compare

_LEAST = 4


def compare_models(
    first: Path,
    second: Path,
    labels: Path,
    higher_is_better: bool = True,
    first_higher_is_better: bool = True,
    second_higher_is_better: bool = True,
    draws: int = 1000,
    seed: int = 0,
) -> None:
    """Print how well two score files agree with human opinions, and the test of their difference.

    Args:
        first: scores of one model: predict's output, or any list of names and scores.
        second: scores of another model.
        labels: a list of mean opinion scores, or of raw votes.
        higher_is_better: false where a larger number in the list means a worse video.
        first_higher_is_better: false where the first model's scores are distances, such as NIQE.
        second_higher_is_better: the same of the second model's.
        draws: resamplings of the bootstrap behind the intervals; 1000 take 15 s for 7 000 videos.
        seed: of the draws.

    Raises:
        InputError: if a file cannot be read, or fewer than four videos are in all three of them.
    """
    opinions = read_opinions(labels, higher_is_better=higher_is_better)
    models = [
        read_predictions(path, rising)
        for path, rising in ((first, first_higher_is_better), (second, second_higher_is_better))
    ]
    scores = [join(model, opinions.names, labels) for model in models]
    rows = [row for row in range(len(opinions.names)) if all(row in found for found in scores)]
    if len(rows) < _LEAST:
        raise InputError(
            f"Of the {len(opinions.names)} videos of {labels} {len(rows)} have a score in both {first} and "
            f"{second}; give files that share {_LEAST} or more."
        )
    one, two = (np.array([found[row] for row in rows]) for found in scores)
    outcome = compare(one, two, opinions.mos[rows], draws=draws, seed=seed)

    table = Table("", "first", "", "second", "", title=f"Agreement with {labels.name}, {len(rows)} videos")
    for name in FIGURES:
        table.add_row(
            name.upper(),
            f"{outcome.first[name]:.3f}",
            _told(outcome.first_intervals[name]),
            f"{outcome.second[name]:.3f}",
            _told(outcome.second_intervals[name]),
        )
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
