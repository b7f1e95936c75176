"""From the scores of a video's intervals to one number: what a viewer remembers is not always the mean."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from callbacks.scores.rows import Row
from datamodules.checks import is_number

Floats = npt.NDArray[np.float64]

Pool = Literal["mean", "harmonic", "p5", "min"]
POOLS = get_args(Pool)


def pooled(scores: Floats, lengths: Floats) -> dict[str, float]:
    """Return every pool of a video's intervals.

    Args:
        scores: (n,), n at least 1.
        lengths: (n,) of the intervals, in seconds, above 0: the last may be shorter than the others.

    Returns:
        `mean` and `harmonic`, weighted by length; `p5`, the score that the worst twentieth of the time is
        below or at; `min`. The harmonic mean is that of VMAF's tools, of scores plus 1 and less 1 at the end,
        and takes scores below 0 as 0.

    Example:
        >>> found = pooled(np.array([60.0, 20.0]), np.array([1.0, 1.0]))
        >>> {name: round(value, 1) for name, value in found.items()}
        {'mean': 40.0, 'harmonic': 30.2, 'p5': 20.0, 'min': 20.0}
    """
    order = np.argsort(scores)
    passed = np.cumsum(lengths[order]) / lengths.sum()
    worst = order[np.searchsorted(passed, 0.05 - 1e-9)]
    harmonic = lengths.sum() / (lengths / (scores.clip(min=0) + 1)).sum() - 1
    return {
        "mean": float(np.average(scores, weights=lengths)),
        "harmonic": float(harmonic),
        "p5": float(scores[worst]),
        "min": float(scores.min()),
    }


def pooled_row(row: Row, pool: Pool) -> Row:
    """Return a row with a pool over time under `score`, and what stood there under `whole`.

    A video without a single interval that can be read has no score.
    """
    whole = {"whole": row["score"], "whole_stderr": row["stderr"]}
    if row["status"] == "ok" and row.get(pool) is None:
        whole |= {"status": "error", "error": f"{row['path']} has no interval that can be scored."}
    return {**row, "score": row.get(pool), "stderr": row.get(f"{pool}_stderr"), **whole}


def pooled_rows(seconds: Sequence[Row]) -> Mapping[str, Mapping[str, float]]:
    """Return path -> pools, and the standard error of each as `mean_stderr` and so on.

    Errors of one video's intervals are taken as one: what the model does not know of a content it does not
    know in any of its seconds. The error of a mean is the mean of the errors, that of `p5` and `min` the
    interval's own.

    Args:
        seconds: rows of `SECONDS_SCHEMA`; those without a score do not count.
    """
    by_path: dict[str, list[Row]] = {}
    for row in seconds:
        if is_number(row["score"]):
            by_path.setdefault(str(row["path"]), []).append(row)
    found: dict[str, Mapping[str, float]] = {}
    for path, own in by_path.items():
        columns = ("score", "stderr", "start", "end")
        scores, errors, starts, ends = (np.array([row[c] for row in own], dtype=float) for c in columns)
        lengths = ends - starts
        values = pooled(scores, lengths)
        mean = float(np.average(errors, weights=lengths))
        at = {name: float(errors[np.flatnonzero(scores == values[name])[0]]) for name in ("p5", "min")}
        doubt = {"mean": mean, "harmonic": mean, **at}
        found[path] = {**values, **{f"{name}_stderr": value for name, value in doubt.items()}}
    return found
