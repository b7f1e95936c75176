"""Lists of scores as they are published: the columns of a text, JSON, Parquet or MATLAB file.

The layouts that data sets come in are known here, and so are the usual headers; what the columns mean, and
which way a score runs, is the caller's to say.
"""

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from datamodules.errors import InputError

NAME_COLUMNS = (
    "path", "name", "video", "video_name", "filename", "file", "image_id", "vid", "flickr_id", "video_list",
)  # fmt: skip
"""Headers of the column that names the video, whatever their case; the first one present is taken."""

SCORE_COLUMNS = ("score", "mos", "dmos", "mosfull", "video_score")
"""Headers of the column of scores, whatever their case; the first one present is taken."""

Floats = npt.NDArray[np.float64]

_HEADERLESS = {2: ("name", "score"), 4: ("name", "duration", "fps", "mos")}  # columns of files without header

_STRING_OR_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[\]}])')


def read_columns(
    path: Path, choose: Callable[[Sequence[str]], Mapping[str, str]], headed: bool = False
) -> dict[str, list[Any]]:
    """Read some columns of a list.

    The file is a .csv or .txt (with a header, or without one as name and score, or as name, duration, frames
    per second and score: the layout of FAST-VQA and DOVER), a .json (a list of objects, or W2S-VQA's
    `{"annotations": [...]}`), a .parquet, or a .mat of version 7 or older with one vector for each column.

    Args:
        path: the file.
        choose: given the header, says which column serves which purpose.
        headed: that the first row of a text is a header even where it ends with a number.

    Returns:
        Purpose -> values as they stand in the file, all equally many; None where a row is too short.

    Raises:
        InputError: the file cannot be read or is of another kind, or two columns differ in length.
    """
    suffix = path.suffix.lower()
    readers = {".csv": _read_text, ".txt": _read_text, ".json": _read_objects, ".mat": _read_matlab}
    try:
        if suffix in (".parquet", ".pq"):
            chosen = choose(pq.read_schema(path).names)
            table = pq.read_table(path, columns=[*dict.fromkeys(chosen.values())])
            return {purpose: table[column].to_pylist() for purpose, column in chosen.items()}
        if suffix not in readers:
            raise InputError(
                f"The list {path} has the suffix {path.suffix!r}; "
                "give a .csv, .txt, .json, .parquet or .mat file."
            )
        header, columns = readers[suffix](path, headed)
    # UnicodeDecodeError, JSON's and Arrow's are ValueErrors
    except (OSError, ValueError, csv.Error) as error:
        told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        reason = told.splitlines()[0].rstrip(".")
        raise InputError(
            f"The list {path} cannot be read ({reason}); give a CSV, JSON, Parquet or MATLAB file."
        ) from error
    chosen = choose(header)
    found = {purpose: columns(column) for purpose, column in chosen.items()}
    lengths = {column: len(found[purpose]) for purpose, column in chosen.items()}
    if len(set(lengths.values())) > 1:
        told = " and ".join(f"{length} of {column}" for column, length in lengths.items())
        raise InputError(f"The list {path} has {told}; give one value of each for every video.")
    return found


def find_column(header: Sequence[str], known: Sequence[str]) -> str | None:
    """The first of the known names, whatever its case, that the header has."""
    folded = {column.strip().lower(): column for column in reversed(header)}
    return next((folded[name] for name in known if name in folded), None)


def read_json(path: Path) -> Any:
    """Read JSON, with the trailing commas that published lists have.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no UTF-8 text or no JSON.
    """
    text = path.read_text(encoding="utf-8-sig")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return json.loads(_STRING_OR_COMMA.sub(r"\1", text))


_Columns = tuple[list[str], Callable[[str], list[Any]]]  # a header, and what gives the values of one column


def _read_text(path: Path, headed: bool) -> _Columns:
    with path.open(newline="", encoding="utf-8-sig") as file:
        # A spreadsheet writes its empty rows as commas.
        rows = [row for row in csv.reader(file, skipinitialspace=True) if any(cell.strip() for cell in row)]
    first = rows[0] if rows else []
    if not headed and len(first) in _HEADERLESS and math.isfinite(_number(first[-1])):
        header = list(_HEADERLESS[len(first)])
    else:
        header, rows = [cell.strip() for cell in first], rows[1:]

    def column(name: str) -> list[Any]:
        place = header.index(name)
        return [row[place] if place < len(row) else None for row in rows]

    return header, column


def _read_objects(path: Path, headed: bool) -> _Columns:
    rows = read_json(path)
    if isinstance(rows, dict):
        rows = rows.get("annotations")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(
            f'The list {path} is not a list of rows; write it as [{{"path": ..., "score": ...}}, ...].'
        )
    header = list(dict.fromkeys(chain.from_iterable(rows)))
    return header, lambda name: [row.get(name) for row in rows]


def _read_matlab(path: Path, headed: bool) -> _Columns:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        variables = loadmat(path, simplify_cells=True)
    except (MatReadError, NotImplementedError) as error:  # the latter for version 7.3, which is HDF5
        raise ValueError(str(error)) from error
    vectors = {name: values for name, values in variables.items() if np.ndim(values) == 1}
    return [name for name in vectors if name[:2] != "__"], lambda name: vectors[name].tolist()


def checked_names(path: Path, values: Sequence[Any], repeated: bool = False) -> list[str]:
    """The names of the videos as text, each there and, unless `repeated`, there once.

    Raises:
        InputError: the first that is not so, or there are no rows.
    """
    names = ["" if name is None else str(name).strip() for name in values]
    if not names:
        raise InputError(f"The list {path} has no rows; give one for each video.")
    if "" in names:
        raise InputError(
            f"The list {path} has a row without a name, number {names.index('') + 1}; "
            "fill it in or remove the row."
        )
    if not repeated and len(set(names)) < len(names):
        name = Counter(names).most_common(1)[0][0]
        raise InputError(f"The list {path} names {name} twice; keep one row for each video.")
    return names


def checked_scores(path: Path, names: Sequence[str], values: Sequence[Any], what: str) -> Floats:
    """The scores (n,), which may be text, each a finite number.

    Raises:
        InputError: the first that is none, by the name of its row.
    """
    scores = _numbers(values)
    wrong = np.flatnonzero(~np.isfinite(scores))
    if wrong.size:
        raise InputError(
            f"The list {path} gives {names[wrong[0]]} the {what} {values[wrong[0]]!r}; write a "
            "finite number or remove the row."
        )
    return scores


def checked_amounts(path: Path, names: Sequence[str], values: Sequence[Any], what: str) -> Floats:
    """Numbers (n,) from 0 up, which may be text; NaN where the cell is empty or says nan.

    Raises:
        InputError: the first that is something else, by the name of its row.
    """
    given = [str(value).strip().lower() not in ("none", "", "nan") for value in values]
    amounts = _numbers([value if known else None for value, known in zip(values, given, strict=True)])
    wrong = np.flatnonzero(np.array(given) & ~((amounts >= 0) & np.isfinite(amounts)))
    if wrong.size:
        raise InputError(
            f"The list {path} gives {names[wrong[0]]} the {what} {values[wrong[0]]!r}; write a "
            "number from 0 up or leave it empty."
        )
    return amounts


def _numbers(values: Sequence[Any]) -> Floats:
    """Read numbers that may be text; NaN for what is none."""
    try:
        return np.array(values, dtype=np.float64)
    except (ValueError, TypeError):
        return np.array([_number(value) for value in values])


def _number(value: Any) -> float:
    try:
        return float(value)
    except (ValueError, TypeError):
        return math.nan
