"""Scores that a model gave, read from predict's output or any list, and joined to other lists by name.

Rows that say they failed are left out, not refused: an output with one broken video is still an output.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.json

from datamodules.corpus import match_names
from datamodules.opinions.label_lists import (
    NAME_COLUMNS,
    SCORE_COLUMNS,
    Floats,
    checked_names,
    checked_scores,
    find_column,
    read_columns,
)
from datamodules.video import Video
from vqa_lightning.families import InputError


class Predictions(NamedTuple):
    """Scores of n videos.

    Attributes:
        path: the file they come from.
        names: of the videos, as they stand in it: in predict's output, paths.
        scores: float64 (n,); higher is better.
        model: what gave them, as the file says, else the file's stem.
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

    def choose(header: Sequence[str]) -> dict[str, str]:
        known = {"name": find_column(header, NAME_COLUMNS), "score": find_column(header, SCORE_COLUMNS)}
        if None in known.values():
            found = "the columns " + ", ".join(header) if header else "no rows"
            raise InputError(
                f"The scores {path} have {found}; they need one of {', '.join(NAME_COLUMNS)} and one of "
                f"{', '.join(SCORE_COLUMNS)}: rename the columns."
            )
        known |= {purpose: find_column(header, (purpose,)) for purpose in ("status", "model")}
        return {purpose: column for purpose, column in known.items() if column is not None}

    columns = _read_lines(path, choose) if path.suffix.lower() == ".jsonl" else read_columns(path, choose)
    names = checked_names(path, columns["name"])
    states = columns.get("status", ["ok"] * len(names))
    scored = [row for row, status in enumerate(states) if status != "error"]
    if not scored:
        raise InputError(f"The scores {path} have not one video with a score; predict again.")
    names = [names[row] for row in scored]
    scores = checked_scores(path, names, [columns["score"][row] for row in scored], "score")
    models = {str(model) for model in columns.get("model", [path.stem])}
    if len(models) > 1:
        raise InputError(
            f"The scores {path} come from {len(models)} models, {' and '.join(sorted(models)[:2])} among "
            "them; give a file of one."
        )
    sign = 1 if higher_is_better else -1
    return Predictions(path, names, sign * scores, models.pop(), len(states) - len(scored))


def _read_lines(path: Path, choose: Any) -> dict[str, list[Any]]:
    try:
        table = pa.json.read_json(path)
    except (OSError, ValueError) as error:  # Arrow's are ValueErrors
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"The scores {path} cannot be read ({reason}); give JSON objects, one a line."
        ) from error
    return {purpose: table[column].to_pylist() for purpose, column in choose(table.column_names).items()}


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
            f"Not one video of {predictions.path} ({predictions.names[0]}, ...) is among those of {path} "
            f"({names[0]}, ...); check that both speak of the same set."
        )
    return found
