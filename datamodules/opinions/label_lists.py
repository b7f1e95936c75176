"""Lists of scores as they are published: the columns of a text, JSON, Parquet or MATLAB file.

The layouts that data sets come in are known here, and so are the usual headers. The caller says what the
columns mean and which way a score runs.
"""

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from datamodules.errors import InputError
from datamodules.files.arrays import read_arrays
from datamodules.files.tables import FAULTS, as_text, fault, json_row, unique_keys
from datamodules.names import name_of

NAME_COLUMNS = (
    "path", "name", "video", "video_name", "filename", "file", "image_id", "vid", "flickr_id", "video_list",
)  # fmt: skip
"""Headers of the column that names the video, whatever their case; the first one present is taken."""

SCORE_COLUMNS = ("score", "mos", "dmos", "mosfull", "video_score")
"""Headers of the column of scores, whatever their case; the first one present is taken."""

MOST = 1e9
"""Largest score and spread in a list: more is a slip of the pen, and its powers leave the range of floats."""

Floats = npt.NDArray[np.float64]

Headers = Mapping[str, Sequence[str]]
"""Purpose of a column -> the usual headers of such a column."""

_HEADERLESS = {2: ("name", "score"), 4: ("name", "duration", "fps", "mos")}  # columns of files without header

_STRING_OR_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[\]}])')


def read_columns(
    path: Path, choose: Callable[[Sequence[str]], Mapping[str, str]], headed: bool = False
) -> dict[str, list[Any]]:
    """Read some columns of a list.

    The file is a .csv or .txt (with a header, or without a header as name and score, or as name, duration,
    frames per second and score: the layout of FAST-VQA and DOVER), a .json (a list of objects, or W2S-VQA's
    `{"annotations": [...]}`), a .jsonl with one object a line, a .parquet, or a .mat of version 7 or older
    with one vector for each column.

    Args:
        path: the file.
        choose: given the header, says which column serves which purpose; most often `choose_columns`.
        headed: that the first row of a text is a header even where it ends with a number.

    Returns:
        Purpose -> values as they stand in the file, all equally many; None where a row is too short.

    Raises:
        InputError: the file cannot be read or is of another kind, or two columns differ in length.
    """
    readers = {
        ".csv": _read_text, ".txt": _read_text, ".json": _read_objects, ".jsonl": _read_objects,
        ".parquet": _read_parquet, ".pq": _read_parquet, ".mat": _read_matlab,
    }  # fmt: skip
    if path.suffix.lower() not in readers:
        raise InputError(
            f"The list {path} must be a .csv, .txt, .json, .jsonl, .parquet or .mat file; got the suffix "
            f"{path.suffix!r}."
        )
    try:
        header, column = readers[path.suffix.lower()](path, headed)
        chosen = choose(header)
        twice = next((name for name in chosen.values() if list(header).count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"it has the column {twice} more than once")
        found = {purpose: column(name) for purpose, name in chosen.items()}
    except FAULTS as error:
        raise InputError(
            f"The list {name_of(path)} cannot be read ({fault(error)}); give a CSV, JSON, Parquet or MATLAB "
            "file."
        ) from error
    if len({len(values) for values in found.values()}) > 1:
        told = " and ".join(f"{len(values)} of {chosen[purpose]}" for purpose, values in found.items())
        raise InputError(f"The list {path} must have one value of each column for every video; got {told}.")
    return found


def choose_columns(
    path: Path,
    header: Sequence[str],
    needed: Headers,
    named: Mapping[str, str | None] = MappingProxyType({}),
    optional: Headers = MappingProxyType({}),
) -> dict[str, str]:
    """Find the column for each purpose: the column that the user named, else the first of the usual headers.

    Args:
        path: the file, for the message.
        header: of the file.
        needed: without a column for one of these purposes the list is of no use.
        named: purpose -> the header that the user gave by the setting PURPOSE_column; None: not given.
        optional: purposes that may have no column.

    Returns:
        Purpose -> column, for all needed purposes and for the optional purposes that have a column.

    Raises:
        InputError: a needed column is not there.

    Example:
        >>> usual = {"name": ("path", "name"), "score": ("score", "mos")}
        >>> choose_columns(Path("list.csv"), ["Name", "MOS"], usual)
        {'name': 'Name', 'score': 'MOS'}
    """
    chosen = {purpose: named.get(purpose) or find_column(header, usual) for purpose, usual in needed.items()}
    if not set(chosen.values()) <= set(header):
        usual_ones = {purpose: f"one of the columns {', '.join(usual)}" for purpose, usual in needed.items()}
        given = {purpose: f"the column {column!r}" for purpose, column in named.items() if column}
        got = f"the columns {', '.join(header)}" if header else "no rows"
        settings = " and ".join(f"{purpose}_column" for purpose in named)
        remedy = f"say which columns they are by {settings}" if named else "rename the columns"
        wanted = " and ".join((usual_ones | given).values())
        raise InputError(f"The list {path} must have {wanted}; got {got}: {remedy}.")
    chosen |= {purpose: find_column(header, usual) for purpose, usual in optional.items()}
    return {purpose: column for purpose, column in chosen.items() if column is not None}


def find_column(header: Sequence[str], usual: Sequence[str]) -> str | None:
    """Return the first of the usual names, whatever its case, that the header has.

    Example:
        >>> find_column(["Score", "MOS"], ("mos", "score"))
        'MOS'
    """
    folded = {column.strip().lower(): column for column in reversed(header)}
    return next((folded[name] for name in usual if name in folded), None)


def read_json(path: Path) -> Any:
    """Read JSON, with the trailing commas that published lists have.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no UTF-8 text or no JSON.
    """
    text = as_text(path.read_bytes())
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except json.JSONDecodeError:
        return json.loads(_STRING_OR_COMMA.sub(r"\1", text), object_pairs_hook=unique_keys)


_Columns = tuple[list[str], Callable[[str], list[Any]]]  # a header, and what gives the values of one column


def _read_text(path: Path, headed: bool) -> _Columns:
    text = io.StringIO(as_text(path.read_bytes()), newline="")
    # A spreadsheet writes its empty rows as commas.
    rows = [row for row in csv.reader(text, skipinitialspace=True) if any(cell.strip() for cell in row)]
    first = rows[0] if rows else []
    if not headed and len(first) in _HEADERLESS and math.isfinite(_number(first[-1])):
        header = list(_HEADERLESS[len(first)])
    else:
        header, rows = [cell.strip() for cell in first], rows[1:]
    for number, row in enumerate(rows, start=1):
        if any(cell.strip() for cell in row[len(header) :]):  # an unquoted comma moves the cells behind it
            raise ValueError(f"row {number} has {len(row)} cells under {len(header)} columns")

    def column(name: str) -> list[Any]:
        place = header.index(name)
        return [row[place] if place < len(row) else None for row in rows]

    return header, column


def _read_objects(path: Path, headed: bool) -> _Columns:
    if path.suffix.lower() == ".jsonl":
        lines = as_text(path.read_bytes()).split("\n")
        rows = [json_row(numbered) for numbered in enumerate(lines) if numbered[1].strip()]
    else:
        rows = read_json(path)
    if isinstance(rows, dict):
        rows = rows.get("annotations")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(
            f'The list {path} is not a list of rows; write it as [{{"path": ..., "score": ...}}, ...].'
        )
    header = list(dict.fromkeys(chain.from_iterable(rows)))
    return header, lambda name: [row.get(name) for row in rows]


def _read_parquet(path: Path, headed: bool) -> _Columns:
    with path.open("rb") as file:  # Arrow knows names in UTF-8 alone
        table = pq.read_table(file)
    return table.column_names, lambda name: table[name].to_pylist()


def _read_matlab(path: Path, headed: bool) -> _Columns:
    vectors = {name: values for name, values in read_arrays(path).items() if np.ndim(values) == 1}
    return list(vectors), lambda name: vectors[name].tolist()


def checked_names(path: Path, values: Sequence[Any], repeated: bool = False) -> list[str]:
    """Return the names of the videos as text, none of them empty and, unless `repeated`, none twice.

    Raises:
        InputError: a name is empty or stands there twice, or there are no rows.
    """
    names = [_name(path, row, value) for row, value in enumerate(values, start=1)]
    if not names:
        raise InputError(f"The list {path} must have a row for each video; got no rows.")
    blank = next((row for row, name in enumerate(names, start=1) if not name.strip()), None)
    if blank is not None:
        raise InputError(
            f"The list {path} has a row without a name, number {blank}; write the name or remove the row."
        )
    if not repeated and len(set(names)) < len(names):
        name = Counter(names).most_common(1)[0][0]
        raise InputError(f"The list {path} names {name} twice; keep one row for each video.")
    return names


def _name(path: Path, row: int, value: Any) -> str:
    """Return a name as text: spaces around it stay, for a file's name may have them."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return as_text(value)
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise InputError(f"The names in the list {path} must be text; got {value!r} in row {row}.")
    return str(value)


def checked_scores(path: Path, names: Sequence[str], values: Sequence[Any], what: str) -> Floats:
    """Return the scores (n,), which may be text, each a finite number and none beyond MOST.

    Raises:
        InputError: a score is no such number; the message has the name of its row.
    """
    scores = _numbers(values)
    _check_cells(np.isfinite(scores), path, names, values, (what, "a finite number"))
    _check_cells(np.abs(scores) <= MOST, path, names, values, (what, f"from -{MOST:g} to {MOST:g}"))
    return scores


def checked_amounts(path: Path, names: Sequence[str], values: Sequence[Any] | None, what: str) -> Floats:
    """Return numbers (n,) from 0 up, which may be text; NaN where a cell is empty or nan, or has no column.

    Raises:
        InputError: a cell holds something else; the message has the name of its row.
    """
    values = [None] * len(names) if values is None else values
    given = [str(value).strip().lower() not in ("none", "", "nan") for value in values]
    amounts = _numbers([value if known else None for value, known in zip(values, given, strict=True)])
    fine = ~np.array(given) | ((amounts >= 0) & np.isfinite(amounts))
    _check_cells(fine, path, names, values, (what, "0 or more, or empty"))
    _check_cells(~(amounts > MOST), path, names, values, (what, f"at most {MOST:g}"))
    return amounts


def _check_cells(
    fine: npt.NDArray[np.bool_],
    path: Path,
    names: Sequence[str],
    values: Sequence[Any],
    rule: tuple[str, str],
) -> None:
    """Check that all cells are fine; the rule is what they are and what they must be."""
    if not fine.all():
        row = int(fine.argmin())
        raise InputError(
            f"The {rule[0]} of {names[row]} in the list {path} must be {rule[1]}; got {values[row]!r}: "
            "correct it or remove the row."
        )


def _numbers(values: Sequence[Any]) -> Floats:
    """Read numbers that may be text; NaN for values that are no numbers."""
    kinds = set(map(type, values))
    if kinds <= {float}:
        return np.array(values, dtype=np.float64)
    return np.array([_number(value) for value in values], dtype=np.float64)


def _number(value: Any) -> float:
    """Read one number; what Python takes for one and a list does not mean so, a truth or 1_0, is none."""
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        return math.nan
    try:
        return float(value)
    except (ValueError, TypeError, OverflowError):
        return math.nan
