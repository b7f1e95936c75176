"""Scores of a model, read from predict's output or any list, and joined to other lists by name.

Rows with the status "error" are left out, not refused: an output with one broken video is still an output.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from datamodules.corpus import match_names
from datamodules.errors import InputError
from datamodules.opinions.label_lists import (
    NAME_COLUMNS,
    SCORE_COLUMNS,
    Floats,
    checked_names,
    checked_scores,
    choose_columns,
    read_columns,
)
from datamodules.video import Video


class Predictions(NamedTuple):
    """Scores of n videos.

    Attributes:
        path: the file they come from.
        names: of the videos, as they stand in the file: paths in predict's output.
        scores: float64 (n,); higher is better.
        model: that gave the scores, as the file says, else the file's stem.
        failed: rows without a score.
    """

    path: Path
    names: list[str]
    scores: Floats
    model: str
    failed: int


def read_predictions(path: Path, higher_is_better: bool = True) -> Predictions:
    """Read predict's output (CSV, JSONL or Parquet), or a list in any layout of `label_lists.read_columns`.

    Args:
        path: the file.
        higher_is_better: False for distances such as NIQE, whose sign is turned here.

    Raises:
        InputError: the file is absent or not readable, has no column of names or scores, names a video twice,
            has a score that is no finite number or no score at all, or scores of several models.
    """
    needed = {"name": NAME_COLUMNS, "score": SCORE_COLUMNS}
    optional = {"status": ("status",), "model": ("model",)}
    columns = read_columns(path, lambda header: choose_columns(path, header, needed, optional=optional))
    names = checked_names(path, columns["name"])
    states = columns.get("status", ["ok"] * len(names))
    scored = [row for row, status in enumerate(states) if status != "error"]
    if not scored:
        raise InputError(
            f"The scores {path} must have a video with a score; got failures alone: predict again."
        )
    names = [names[row] for row in scored]
    scores = checked_scores(path, names, [columns["score"][row] for row in scored], "score")
    models = {str(model) for model in columns.get("model", [path.stem])}
    if len(models) > 1:
        raise InputError(
            f"The scores {path} must come from one model; got {len(models)} models, among them "
            f"{' and '.join(sorted(models)[:2])}."
        )
    sign = 1 if higher_is_better else -1
    return Predictions(path, names, sign * scores, models.pop(), len(states) - len(scored))


def join(predictions: Predictions, names: Sequence[str], path: Path) -> dict[int, float]:
    """Find the scores of the videos that a list names, by the rules of `match_names`.

    Args:
        predictions: of any videos.
        names: of the list, each once.
        path: the list, for relative names and for messages.

    Returns:
        Row of the list -> score; a row without one is absent.

    Raises:
        InputError: a name fits several videos or a video several names, or nothing matches.
    """
    videos = [Video(video_id="", path=name) for name in predictions.names]
    rows = match_names(names, videos, path)
    found = {
        row: float(score) for row, score in zip(rows, predictions.scores, strict=True) if row is not None
    }
    if not found:
        raise InputError(
            f"Not one video of {predictions.path} ({predictions.names[0]}, ...) is among the videos of "
            f"{path} ({names[0]}, ...); check that both speak of the same set."
        )
    return found
