"""The pair table: which clips are compared in a round, how each side is distorted, and the label."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from datamodules.labels import LEVELS
from vqa_lightning.families import InputError

SOURCES = ("synthetic", "teacher", "reference", "human")
"""Where a label comes from; `teacher` is the round's annotator, the student included."""

_SIDE = pa.list_(pa.struct([("name", pa.string()), ("level", pa.int64())]))

PAIR_SCHEMA = pa.schema(
    [
        ("first", pa.string()),  # video_id
        ("second", pa.string()),
        ("draw_first", pa.int64()),
        ("draw_second", pa.int64()),
        ("distortions_first", _SIDE),
        ("distortions_second", _SIDE),
        ("source", pa.string()),
        ("hard", pa.bool_()),
        ("margin", pa.float32()),  # D / sD where the label comes from scores, else null
        ("levels", pa.list_(pa.float32(), len(LEVELS))),
    ]
)


def read_pairs(path: str | Path, ladder: Mapping[str, int] | None = None) -> pa.Table:
    """Reads a pair table from Parquet.

    Args:
        path: as a run or `vqa-lightning pairs import` wrote it.
        ladder: simulator name -> number of levels that the pairs may name; None: any.

    Raises:
        InputError: it cannot be read or is no pair table, a label is no distribution over the levels, or a
            pair names a distortion that is not in the ladder.
    """
    try:
        table = pq.read_table(path).cast(PAIR_SCHEMA)
    except (OSError, pa.ArrowInvalid, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"The pairs {path} cannot be read ({reason}): give a Parquet of a run's pairs folder, or one "
            "that `vqa-lightning pairs import` wrote."
        ) from error
    labels = (
        table["levels"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, len(LEVELS))
    )
    if len(labels) != len(table) or not (
        (labels >= 0).all() and np.allclose(labels.sum(axis=1), 1, atol=1e-3)
    ):
        raise InputError(
            f"The pairs {path} have levels that are no distribution: write {len(LEVELS)} numbers from 0 up "
            "whose sum is 1 in every row."
        )
    if ladder is None:
        return table
    for side in ("distortions_first", "distortions_second"):
        used = pa.Table.from_struct_array(table[side].combine_chunks().flatten())
        for name, level in set(zip(*(column.to_pylist() for column in used.columns), strict=True)):
            if not 1 <= level <= ladder.get(name, 0):
                raise InputError(
                    f"The pairs {path} name {name} at level {level}, which data.simulators does not have: "
                    "add the simulator, or leave those pairs out."
                )
    return table


def pair_table(columns: Mapping[str, object]) -> pa.Table:
    """Return a pair table of these columns."""
    return pa.table(dict(columns), schema=PAIR_SCHEMA)


def side_column(names: Sequence[str], simulators: npt.NDArray[Any], levels: npt.NDArray[Any]) -> pa.Array:
    """The distortions (n,) of one side from indices into `names` and levels, both (n, depth); 0 is none."""
    kept = levels > 0
    offsets = np.concatenate([[0], kept.sum(axis=1).cumsum()]).astype(np.int32)
    # A dictionary of the few names: a list of strings of its own for each pair would cost gigabytes.
    chosen = pa.DictionaryArray.from_arrays(simulators[kept].astype(np.int32), pa.array(names, pa.string()))
    entries = pa.StructArray.from_arrays(
        [chosen.cast(pa.string()), pa.array(levels[kept].astype(np.int64))], names=["name", "level"]
    )
    return pa.ListArray.from_arrays(pa.array(offsets), entries)


def label_column(levels: torch.Tensor) -> pa.Array:
    """The column `levels` of distributions (n, 5)."""
    return pa.FixedSizeListArray.from_arrays(pa.array(levels.float().flatten().numpy()), len(LEVELS))


def id_column(video_ids: Sequence[str], chosen: npt.NDArray[Any]) -> pa.Array:
    """Return the column of ids at the chosen positions."""
    return pa.array(video_ids, pa.string()).take(pa.array(chosen))
