"""The pair table: which clips are compared in a round, how each side is distorted, and the label."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from datamodules.errors import InputError
from datamodules.labels import LEVELS

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
        ("place_first", pa.float32()),  # the score in typical sD, comparable among pairs of a source; or null
        ("place_second", pa.float32()),
        ("levels", pa.list_(pa.float32(), len(LEVELS))),
    ]
)

PLACES = ("place_first", "place_second")
"""Columns that say where each side stands on its source's scale: two of one source differ by their margin."""

_KEY = ("first", "second", "draw_first", "draw_second", "source", "margin")
_APPLIED = ("distortions_first", "distortions_second")
"""Columns that tell an imported pair from the pairs that a round has drawn."""


def read_pairs(path: str | Path, ladder: Mapping[str, int] | None = None) -> pa.Table:
    """Read a pair table from Parquet.

    Args:
        path: as a run or `vqa-lightning pairs import` wrote it.
        ladder: simulator name -> number of levels that the pairs may name; None: any.

    Raises:
        InputError: it cannot be read or is no pair table, a label is no distribution over the levels, or a
            pair names a distortion that is not in the ladder.
    """
    try:
        with open(path, "rb") as file:  # Arrow knows names in UTF-8 alone
            table = pq.read_table(file)
        for name in PLACES:  # tables of older runs, and of pairs that were imported, have none
            if name not in table.column_names:
                table = table.append_column(name, pa.nulls(len(table), pa.float32()))
        table = table.select(PAIR_SCHEMA.names).cast(PAIR_SCHEMA)
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
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


def pair_table(source: str, **columns: object) -> pa.Table:
    """Return a table of pairs of one source, not hard, from the other columns of `PAIR_SCHEMA`.

    Margins and places that are not given are null.
    """
    count = len(columns["levels"])  # type: ignore[arg-type]
    own = {"source": pa.repeat(source, count), "hard": pa.repeat(False, count)}
    unknown = dict.fromkeys(("margin", *PLACES), pa.nulls(count, pa.float32()))
    known = unknown | columns | own
    return pa.table({name: known[name] for name in PAIR_SCHEMA.names}, schema=PAIR_SCHEMA)


def with_columns(pairs: pa.Table, **columns: object) -> pa.Table:
    """Return the pairs with some columns replaced."""
    for name, column in columns.items():
        place = PAIR_SCHEMA.get_field_index(name)
        pairs = pairs.set_column(place, PAIR_SCHEMA.field(place), pa.array(column, from_pandas=True))
    return pairs


def side_column(names: Sequence[str], simulators: npt.NDArray[Any], levels: npt.NDArray[Any]) -> pa.Array:
    """Return the distortions (n,) of one side.

    Args:
        names: of simulators.
        simulators: (n, depth) indices into `names`.
        levels: (n, depth); 0 is no distortion.
    """
    kept = levels > 0
    offsets = np.concatenate([[0], kept.sum(axis=1).cumsum()]).astype(np.int32)
    # A dictionary of the few names: a list of strings of its own for each pair would cost gigabytes.
    chosen = pa.DictionaryArray.from_arrays(simulators[kept].astype(np.int32), pa.array(names, pa.string()))
    entries = pa.StructArray.from_arrays(
        [chosen.cast(pa.string()), pa.array(levels[kept].astype(np.int64))], names=["name", "level"]
    )
    return pa.ListArray.from_arrays(pa.array(offsets), entries)


def label_column(levels: torch.Tensor) -> pa.Array:
    """Return the column `levels` of distributions (n, 5)."""
    return pa.FixedSizeListArray.from_arrays(pa.array(levels.float().flatten().numpy()), len(LEVELS))


def id_column(video_ids: Sequence[str], chosen: npt.NDArray[Any]) -> pa.Array:
    """Return the column of ids at the chosen positions."""
    return pa.array(video_ids, pa.string()).take(pa.array(chosen))


def drawn_among(pairs: pa.Table, video_ids: Collection[str], imported: pa.Table | None = None) -> pa.Array:
    """Return which pairs of a table are of two of these videos, and not imported."""
    known = pa.array(video_ids, pa.string())
    wanted = pc.and_(pc.is_in(pairs["first"], known), pc.is_in(pairs["second"], known)).to_numpy()
    if imported is not None and len(imported):
        alike = np.flatnonzero(pc.is_in(_keys(pairs), _keys(imported)))
        given = {repr(row) for row in imported.select([*_KEY, *_APPLIED]).to_pylist()}
        rows = pairs.select([*_KEY, *_APPLIED]).take(alike).to_pylist()
        wanted[[place for place, row in zip(alike, rows, strict=True) if repr(row) in given]] = False
    return pa.array(wanted)


def _keys(pairs: pa.Table) -> pa.Array:
    columns = [pc.fill_null(pairs[name].cast(pa.string()), "") for name in _KEY]
    return pc.binary_join_element_wise(*columns, " ").combine_chunks()
