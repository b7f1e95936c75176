"""Rows in a file: CSV, JSON lines or Parquet by the file's suffix, written whole and read back to the bit.

A file appears under its name when it is complete, so that a half-written file is never mistaken for a
finished file.
"""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datamodules.checks import check_choice
from datamodules.errors import InputError, reason
from datamodules.files import claim, hidden_beside, numbers, read_table, texts
from datamodules.names import name_of

SUFFIXES = (".csv", ".jsonl", ".parquet")

Row = Mapping[str, Any]


def checked_output(output: str) -> Path:
    """Return the path of the file to write, refused now and not after hours.

    Raises:
        InputError: the suffix is none of SUFFIXES, the path is a folder, or its folder does not exist or
            cannot be written to.
    """
    path = Path(output)
    check_choice(f"The suffix of --output {output}", path.suffix, SUFFIXES)
    folder = path.resolve().parent
    if not folder.is_dir():
        raise InputError(f"--output {output} is in a folder that does not exist: make the folder first.")
    if path.is_dir():
        raise InputError(f"--output {output} is a folder: name a file.")
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(
            f"--output {output} is in a folder that cannot be written to ({error.strerror}): "
            "name another place."
        ) from error
    return path


def claim_output(output: Path) -> None:
    """Keep an output and its journals for this process.

    Raises:
        InputError: another process is writing it.
    """
    claim(
        output.with_name(f".{output.name}.lock"),
        f"{output} is being written by another command: wait for its end, or name another --output.",
    )


def checked_page(report: str, setting: str = "--report") -> Path:
    """Return the path of a page to write, refused now and not after hours.

    Raises:
        InputError: the suffix is not .html, or there is no such place.
    """
    check_choice(f"The suffix of {setting} {report}", Path(report).suffix, (".html",))
    return checked_place(report, setting)


def checked_place(file: str, setting: str) -> Path:
    """Return the path of a file to write, refused now and not after hours.

    Raises:
        InputError: it is a folder, or its own folder does not exist or cannot be written to.
    """
    path = Path(file)
    if path.is_dir() or not os.access(path.resolve().parent, os.W_OK):
        raise InputError(f"{setting} {file} must be a file in a folder that exists and can be written to.")
    return path


def write_rows(output: Path, rows: Sequence[Row], schema: pa.Schema) -> None:
    """Write the columns of a schema; a cell that a row lacks is empty.

    Raises:
        InputError: the file cannot be written.
    """
    table = pa.Table.from_pylist(rows, schema=schema)
    hidden = hidden_beside(output)
    with one_sentence(output):
        try:
            if output.suffix == ".parquet":
                with hidden.open("wb") as stream_of_bytes:  # Arrow knows names in UTF-8 alone
                    pq.write_table(table, stream_of_bytes)
            elif output.suffix == ".csv":
                with hidden.open("w", newline="", encoding="utf-8") as stream:
                    writer = csv.DictWriter(stream, schema.names, lineterminator="\n")
                    writer.writeheader()
                    writer.writerows(table.to_pylist())
            else:
                hidden.write_text(json_lines(table.to_pylist()), encoding="utf-8")
            os.replace(hidden, output)
        except BaseException:
            with suppress(OSError):
                hidden.unlink()
            raise


def read_rows(output: Path, schema: pa.Schema, also: Sequence[str] = ()) -> list[Row]:
    """Read the columns of a schema from a file that `write_rows` has written.

    Args:
        output: the file.
        schema: columns that it must have.
        also: names of numbers that it may have, and that are read where it has them.

    Raises:
        InputError: the file cannot be read, lacks a column, or has a row without a path or a cell that is no
            number where there must be one.
    """
    table = read_table(output)
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise InputError(
            f"{name_of(output)} must have the columns {', '.join(schema.names)}; got "
            f"{', '.join(table.column_names)}."
        )
    columns = {name: numbers(table, name, output).to_pylist() for name in also if name in table.column_names}
    for field in schema:
        if field.type == pa.float64():
            columns[field.name] = numbers(table, field.name, output).to_pylist()
        else:
            columns[field.name] = pc.fill_null(texts(table, field.name, output), "").to_pylist()
    if "" in columns["path"]:
        raise InputError(
            f"{name_of(output)} must have a path in each row; got none in row "
            f"{columns['path'].index('') + 1}."
        )
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def json_lines(rows: Iterable[Row]) -> str:
    """Return one JSON object a line."""
    return "".join(json.dumps(row) + "\n" for row in rows)


@contextmanager
def one_sentence(file: Path | str) -> Iterator[None]:
    """Turn the system's message while a file or URL is written into an InputError that names it."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{name_of(file)} cannot be written ({reason(error)}); mend that and repeat the command, which "
            "keeps what was written so far."
        ) from error
