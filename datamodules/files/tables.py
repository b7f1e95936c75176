"""Arrow tables in files, column by column: a million rows need no Python object each.

A cell of CSV stays the text that it is, since only the caller knows which columns are numbers. Bytes that are
not UTF-8 are read as `names` writes them, so that a list may hold any file's name.
"""

import csv
import io
import json
import os
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from datamodules.errors import InputError, reason
from datamodules.files.whole_files import hidden_beside
from datamodules.names import name_of

BATCH = 1 << 16
"""Rows that are Python objects at a time."""

_PLACED = r"^(/|[A-Za-z][A-Za-z0-9+.-]*://)"
"""A path that means the same from any folder: an absolute path or a URL."""

_UNTYPED = pa.types.is_nested, pa.types.is_boolean
"""Columns whose cells are no texts, nor numbers that name something."""


def read_table(file: Path) -> pa.Table:
    """Read CSV, JSON lines, JSON or, by any other suffix, Parquet; a folder is one of Parquet parts.

    Returns:
        All columns. Those of CSV are text, null where a cell is empty. Columns without a name and without a
        value are left out.

    Raises:
        InputError: the file cannot be read, or names a column twice.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_json_lines, ".json": _read_json}
    try:
        if file.is_dir():
            table = pa.parquet.read_table(file)
        else:
            with file.open("rb") as stream:
                table = readers.get(file.suffix.lower(), _read_parquet)(stream)
        table.validate(full=True)  # Parquet and JSON may hold bytes that are no text
        names = table.column_names
    except FileNotFoundError as error:
        raise InputError(f"{name_of(file)} does not exist: name another file.") from error
    except FAULTS as error:
        refuse(file, error)
    spare = [
        place for place, name in enumerate(names) if not name and not table[place].null_count < len(table)
    ]
    table = table.select([place for place in range(len(names)) if place not in spare])
    if len(set(table.column_names)) < table.num_columns:
        raise InputError(f"{name_of(file)} must name each column once; got {', '.join(table.column_names)}.")
    return table


FAULTS = (OSError, ValueError, RecursionError, csv.Error, pa.ArrowException)
"""What readers raise of a damaged file: a decoder's and JSON's are ValueErrors."""


def refuse(file: Path, error: BaseException) -> NoReturn:
    """Say in one sentence that a file cannot be read, and why.

    Raises:
        InputError: always.
    """
    raise InputError(
        f"{name_of(file)} cannot be read ({fault(error)}): name another file, or mend it."
    ) from error


def fault(error: BaseException) -> str:
    """Return what one of FAULTS says, in one line."""
    return "it is nested too deeply" if isinstance(error, RecursionError) else reason(error)


def read_text(file: Path) -> str:
    """Read a file of text; bytes that are not UTF-8 become what `names` writes for them.

    Raises:
        InputError: the file cannot be read, or is UTF-16 or no text at all.
    """
    try:
        return as_text(file.read_bytes())
    except FAULTS as error:
        refuse(file, error)


def as_text(data: bytes) -> str:
    r"""Return bytes as text, without a mark of their encoding.

    Raises:
        ValueError: they are UTF-16 or no text at all.

    Example:
        >>> as_text("été ".encode() + b"\xe9")
        'été \\xe9'
    """
    if b"\0" in data:
        raise ValueError("it is no text in UTF-8")
    return data.decode("utf-8", "backslashreplace").removeprefix("\ufeff")


def _read_csv(stream: BinaryIO) -> pa.Table:
    try:
        return _parse_csv(stream)
    except ValueError:  # Arrow's, too
        stream.seek(0)
        text = as_text(stream.read())
        _check_rows(text)
        return _parse_csv(io.BytesIO(text.encode()))


def _parse_csv(stream: BinaryIO) -> pa.Table:
    head = io.TextIOWrapper(stream, newline="", encoding="utf-8-sig")
    names = next(csv.reader(head), [])
    head.detach()
    stream.seek(0)
    if not names:
        raise ValueError("it is empty")
    table = pa.csv.read_csv(
        stream,
        # A name may hold a line break.
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
        ),
    )
    return table.rename_columns([name.strip() for name in table.column_names])


def _check_rows(text: str) -> None:
    """Name the first row of CSV that has another number of cells than the header."""
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = next(rows, [])
    for number, row in enumerate((row for row in rows if row), start=1):
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} cells under {len(header)} columns")


def _read_parquet(stream: BinaryIO) -> pa.Table:
    names = pa.parquet.read_schema(stream).names
    if len(set(names)) < len(names):
        raise ValueError(f"it must name each column once, and names {', '.join(names)}")
    stream.seek(0)
    return pa.parquet.read_table(stream)


def _read_json_lines(stream: BinaryIO) -> pa.Table:
    # Not by Arrow, whose reader ends the process on some files that are not JSON lines.
    lines = [line for line in enumerate(as_text(stream.read()).split("\n")) if line[1].strip()]
    tables = [
        _of_rows([json_row(line) for line in lines[begin : begin + BATCH]], begin)
        for begin in range(0, len(lines) or 1, BATCH)
    ]
    return pa.concat_tables(tables, promote_options="permissive")


def json_row(numbered: tuple[int, str]) -> Any:
    """Return what a line of JSON lines holds; of a pair its place, from 0, and the line.

    Raises:
        ValueError: it is no JSON.
    """
    number, line = numbered
    try:
        return json.loads(line, object_pairs_hook=unique_keys)
    except ValueError as error:
        raise ValueError(f"line {number + 1}: {reason(error)}") from error


def _read_json(stream: BinaryIO) -> pa.Table:
    return _of_rows(json.loads(as_text(stream.read()), object_pairs_hook=unique_keys))


def _of_rows(rows: Any, before: int = 0) -> pa.Table:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError('it is no list of rows such as {"path": "a.mp4"}')
    names = dict.fromkeys(chain.from_iterable(rows))
    return pa.table({name: _of_cells(name, [row.get(name) for row in rows], before) for name in names})


def _of_cells(name: str, cells: list[Any], before: int) -> pa.Array:
    """Return a column of JSON below `before` rows; its texts may hold surrogates for other bytes."""
    known = [(row, cell) for row, cell in enumerate(cells, start=before + 1) if cell is not None]
    is_text = all(isinstance(cell, str) for _, cell in known[:1])
    for row, cell in known:
        if isinstance(cell, str) != is_text:
            raise ValueError(f"the column {name} is of another kind in row {row}, {cell!r}")
    try:
        return pa.array(cells)
    except UnicodeEncodeError:
        data = [cell and cell.encode("utf-8", "surrogateescape") for cell in cells]
        return pa.array([cell and cell.decode("utf-8", "backslashreplace") for cell in data])


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON.

    Raises:
        ValueError: it has a key twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"an object has the key {next(key for key in keys if keys.count(key) > 1)} twice")
    return found


def texts(table: pa.Table, name: str, file: Path | str) -> pa.ChunkedArray:
    """Return a column as text; bytes are read as `as_text` does.

    Args:
        table: of the file.
        name: of the column.
        file: for the message.

    Raises:
        InputError: its cells are lists, truths or the like.
    """
    column = table[name]
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        try:
            cells = [None if cell is None else as_text(cell) for cell in column.to_pylist()]
        except ValueError as error:
            raise InputError(
                f"The column {name} of {name_of(file)} must hold text; got other bytes."
            ) from error
        return pa.chunked_array([pa.array(cells, pa.string())])
    if any(untyped(kind) for untyped in _UNTYPED):
        raise InputError(f"The column {name} of {name_of(file)} must hold text; got {kind}.")
    try:
        if pa.types.is_floating(kind):  # whole numbers, some missing, as pandas keeps them
            column = pc.if_else(pc.is_nan(column), None, column)
        return column.cast(pa.string())
    except pa.ArrowException as error:
        raise InputError(f"The column {name} of {name_of(file)} must hold text; got {kind}.") from error


def numbers(table: pa.Table, name: str, file: Path | str) -> pa.ChunkedArray:
    """Return a column as float64, null where a cell is; the arguments are those of `texts`.

    Raises:
        InputError: a cell is no number; the message has the first such row.
    """
    column = table[name]
    try:
        if pa.types.is_boolean(column.type):
            raise pa.ArrowInvalid("truths")
        return column.cast(pa.float64())
    except pa.ArrowException as error:
        rows = enumerate(column.to_pylist(), start=1)
        row, cell = next((row, cell) for row, cell in rows if cell is not None and not _is_number(cell))
        raise InputError(
            f"The column {name} of {name_of(file)} must hold numbers; got {cell!r} in row {row}."
        ) from error


def _is_number(cell: Any) -> bool:
    try:
        pa.scalar(cell).cast(pa.float64())
    except pa.ArrowException:
        return False
    return not isinstance(cell, bool)


def write_table(file: Path, table: pa.Table) -> None:
    """Write a table as Parquet or, by the suffix .csv, as CSV, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    hidden = hidden_beside(file)
    try:
        if file.suffix.lower() == ".csv":
            # Arrow's own writer puts every text in quotes; lines shall be those that predict writes.
            with hidden.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                writer.writerow(table.column_names)
                for batch in table.to_batches(max_chunksize=BATCH):
                    writer.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))
        else:
            with hidden.open("wb") as file_of_bytes:  # Arrow knows names in UTF-8 alone
                pa.parquet.write_table(table, file_of_bytes)
        os.replace(hidden, file)
    except OSError as error:
        raise InputError(
            f"{name_of(file)} cannot be written ({error.strerror}); name another place."
        ) from error
    finally:
        hidden.unlink(missing_ok=True)


def moved_paths(paths: pa.ChunkedArray, folder: str) -> pa.ChunkedArray:
    """Return paths as they are seen from elsewhere.

    Args:
        paths: of files; an absolute path or a URL stays what it is.
        folder: that relative paths begin in.

    Example:
        >>> moved_paths(pa.chunked_array([["a.mp4", "/b.mp4", "s3://c/d.mp4"]]), "videos").to_pylist()
        ['videos/a.mp4', '/b.mp4', 's3://c/d.mp4']
    """
    placed = pc.match_substring_regex(paths, _PLACED)
    return pc.if_else(placed, paths, pc.binary_join_element_wise(folder, paths, "/"))


def absolute_paths(paths: pa.ChunkedArray, folder: Path) -> pa.ChunkedArray:
    """Return one text for each file, however its path was written; symbolic links are not followed.

    Args:
        paths: of files.
        folder: that relative paths begin in.

    Example:
        >>> paths = pa.chunked_array([["a/./b.mp4", "a//c/../b.mp4", "/videos/a/b.mp4"]])
        >>> set(absolute_paths(paths, Path("/videos")).to_pylist())
        {'/videos/a/b.mp4'}
    """
    found = moved_paths(paths, name_of(os.path.abspath(folder)))
    for pattern, shorter in ((r"([^:])//+", r"\1/"), (r"/(\./)+", "/")):
        found = pc.replace_substring_regex(found, pattern, shorter)
    while pc.any(pc.match_substring_regex(found, up := r"/[^/]+/\.\./")).as_py():
        found = pc.replace_substring_regex(found, up, "/")
    return found
