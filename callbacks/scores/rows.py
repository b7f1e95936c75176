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
import pyarrow.parquet as pq

from datamodules.checks import check_choice
from datamodules.errors import InputError
from datamodules.files import claim, hidden_beside

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
                pq.write_table(table, hidden)
            elif output.suffix == ".csv":
                with hidden.open("w", newline="") as stream:
                    writer = csv.DictWriter(stream, schema.names, lineterminator="\n")
                    writer.writeheader()
                    writer.writerows(table.to_pylist())
            else:
                hidden.write_text(json_lines(table.to_pylist()))
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
        OSError, ValueError, KeyError, TypeError, csv.Error: the file is another kind of file.
    """
    if output.suffix == ".parquet":
        rows = pq.read_table(output).to_pylist()
    else:
        with output.open(newline="") as stream:
            rows = list(csv.DictReader(stream) if output.suffix == ".csv" else map(json.loads, stream))
    fields = [*schema, *(pa.field(name, pa.float64()) for name in also if rows and name in rows[0])]
    return [{field.name: _typed(row[field.name], field.type) for field in fields} for row in rows]


def _typed(cell: Any, kind: pa.DataType) -> Any:
    if kind == pa.float64():
        return None if cell in (None, "") else float(cell)
    return cell


def json_lines(rows: Iterable[Row]) -> str:
    """Return one JSON object a line."""
    return "".join(json.dumps(row) + "\n" for row in rows)


@contextmanager
def one_sentence(file: Path | str) -> Iterator[None]:
    """Turn the system's message while a file or URL is written into an InputError that names it."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0].rstrip(".")
        raise InputError(
            f"{file} cannot be written ({reason}); mend that and repeat the command, which keeps the scores "
            "written so far."
        ) from error
