"""Output files of scores, and the journals from which an interrupted command goes on.

Rows gather in a journal beside the output, one a rank, under the hash of the model that gave them; the output
itself appears whole, at the end, so that a half-written file is never mistaken for a finished one. A finished
one is never lost to another model or to other videos.
"""

import csv
import glob
import json
import os
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.errors import InputError
from datamodules.video import Video

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("score", pa.float64()),
        ("stderr", pa.float64()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("model", pa.string()),
    ]
)

SECONDS_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("score", pa.float64()),
        ("stderr", pa.float64()),
        ("model", pa.string()),
    ]
)

SUFFIXES = (".csv", ".jsonl", ".parquet")

Row = Mapping[str, Any]

Key = tuple[Any, ...]


class ScoreTable:
    """The rows of one output: those that are known from earlier, and those to come.

    Args:
        output: file to write.
        schema: its columns.
        key: those of them that tell a row from every other, the first being `path`.

    Attributes:
        rows: what is known, by key.
    """

    def __init__(self, output: Path, schema: pa.Schema, key: Sequence[str]) -> None:
        self.output = output
        self.schema = schema
        self.key = tuple(key)
        self.rows: dict[Key, Row] = {}

    def resume(self, model: str, wanted: Mapping[Key, Video]) -> None:
        """Takes up what earlier commands with the same model have scored, of files that are still the same.

        Args:
            model: name and hash.
            wanted: the rows to come, and their videos.

        Raises:
            InputError: the output has rows of another model or that are not wanted, or is another kind of
                file.
        """
        self.folder = self.output.resolve().parent
        self.prefix = f".{self.output.name}.{model}"
        self.wanted = wanted
        self.rows = {}
        if self.output.exists():
            written = self.output.stat().st_mtime
            earlier = earlier_rows(self.output, self.schema, self.key, model, wanted)
            self.rows = {
                key: row
                for key, row in earlier.items()
                if row["score"] is not None and not _changed_since(Path(row["path"]), written)
            }
        self._read_journals()

    def _read_journals(self) -> list[Row]:
        """Takes up the journals' rows; returns those that are not wanted, or of files that have changed."""
        others = []
        for row in read_journals(self.folder, self.prefix):
            key = tuple(row[name] for name in self.key)
            if key in self.wanted and self.wanted[key].video_id == row["video_id"]:
                self.rows[key] = row
            else:
                others.append(row)
        return others

    def open(self, rank: int) -> None:
        """Opens the journal of a rank.

        Raises:
            InputError: it cannot be written to.
        """
        path = self.folder / f"{self.prefix}.{rank}"
        with one_sentence(path):
            self.journal = path.open("ab")
            # Behind a line cut short by an interruption the next would be lost too, and cut short itself.
            self.journal.truncate(path.read_bytes().rfind(b"\n") + 1)

    def append(self, rows: Sequence[Row]) -> None:
        """Adds rows with their `video_id` to the journal.

        Raises:
            InputError: it cannot be written to.
        """
        with one_sentence(Path(self.journal.name)):
            try:
                self.journal.write("".join(json.dumps(row) + "\n" for row in rows).encode())
                self.journal.flush()
            except OSError:
                with suppress(OSError):
                    self.journal.close()  # which tries once more; later it would do so out of our hands
                raise

    def close(self) -> None:
        """Closes the journal.

        Raises:
            InputError: it cannot be written to.
        """
        with one_sentence(Path(self.journal.name)):
            self.journal.close()

    def collect(self, keys: Sequence[Key]) -> list[Row]:
        """The rows that all ranks have by now, in the order of the keys."""
        self.others = self._read_journals()
        return [self.rows[key] for key in keys if key in self.rows]

    def write(self, rows: Sequence[Row], more: Sequence[pa.Field] = ()) -> None:
        """Writes the output, and removes the journals.

        Args:
            rows: all of them, in their order.
            more: columns beyond those of the schema.

        Raises:
            InputError: it cannot be written.
        """
        write_rows(self.output, pa.Table.from_pylist(rows, schema=pa.schema([*self.schema, *more])))
        for journal in _journals(self.folder, self.prefix):
            with one_sentence(journal):
                journal.unlink()
        if self.others:  # of another command that was interrupted and may still go on
            self.open(0)
            self.append(self.others)
            self.close()


def _changed_since(path: Path, moment: float) -> bool:
    """Whether a file's content or place has changed since; a copy keeps its old time of writing."""
    try:
        status = path.stat()
    except OSError:
        return True
    return max(status.st_mtime, status.st_ctime) > moment


def checked_output(output: str) -> Path:
    """The file to write, refused now and not after hours.

    Raises:
        InputError: its suffix is none of SUFFIXES, it is a folder itself, or its folder does not exist or
            cannot be written to.
    """
    path = Path(output)
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"--output {output} has the suffix {path.suffix!r}: use one of {', '.join(SUFFIXES)}."
        )
    folder = path.resolve().parent
    if not folder.is_dir():
        raise InputError(f"--output {output} is in a folder that does not exist: make it first.")
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


def earlier_rows(
    output: Path, schema: pa.Schema, key: Sequence[str], model: str, wanted: Container[Key]
) -> dict[Key, Row]:
    """The rows of an output that exists, refused where writing it again would lose one.

    Args:
        output: the file.
        schema: columns that it must have.
        key: those of them that tell a row from every other.
        model: name and hash that all rows must bear.
        wanted: keys of the rows to come.

    Returns:
        Key -> row.

    Raises:
        InputError: it is another kind of file, another model's, or has rows that are not wanted.
    """
    try:
        rows = read_rows(output, schema)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(
            f"{output} exists and is no table of scores: name another --output, or delete the file."
        ) from error
    for row in rows:
        if row["model"] != model:
            raise InputError(
                f"{output} was written with {row['model']}, not with {model}: name another --output, or "
                "delete the file."
            )
    found = {tuple(row[name] for name in key): row for row in rows}
    for one in found:
        if one not in wanted:
            raise InputError(
                f"{output} has rows that this command would not write again, such as that of "
                f"{' '.join(map(str, one))}: name another --output, or delete the file."
            )
    return found


def read_rows(output: Path, schema: pa.Schema) -> list[Row]:
    """Reads the columns of a schema from what `write_rows` has written, by its suffix."""
    if output.suffix == ".parquet":
        table: list[Row] = pq.read_table(output).select(schema.names).cast(schema).to_pylist()
        return table
    with output.open(newline="") as stream:
        rows = list(csv.DictReader(stream) if output.suffix == ".csv" else map(json.loads, stream))
    return [{field.name: _value(row[field.name], field.type) for field in schema} for row in rows]


def _value(cell: Any, kind: pa.DataType) -> Any:
    if kind == pa.float64():
        return None if cell in (None, "") else float(cell)
    return cell


def read_journals(folder: Path, prefix: str) -> Iterator[Row]:
    """The rows in journals; a last line cut short by an interruption is left out."""
    for journal in _journals(folder, prefix):
        for line in journal.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)


def _journals(folder: Path, prefix: str) -> list[Path]:
    return sorted(folder.glob(f"{glob.escape(prefix)}.*"))


def write_rows(output: Path, table: pa.Table) -> None:
    """Writes a table by the output's suffix, under a temporary name first.

    Raises:
        InputError: the output cannot be written.
    """
    hidden = output.with_name(f".{output.name}.tmp")
    with one_sentence(output):
        try:
            if output.suffix == ".parquet":
                pq.write_table(table, hidden)
            elif output.suffix == ".csv":
                with hidden.open("w", newline="") as stream:
                    writer = csv.DictWriter(stream, table.column_names, lineterminator="\n")
                    writer.writeheader()
                    writer.writerows(table.to_pylist())
            else:
                hidden.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
            os.replace(hidden, output)
        except BaseException:
            with suppress(OSError):
                hidden.unlink()
            raise


@contextmanager
def one_sentence(file: Path) -> Iterator[None]:
    """Turns what the system says while a file is written into an InputError that names the file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0].rstrip(".")
        raise InputError(
            f"{file} cannot be written ({reason}); mend that and repeat the command, which keeps the scores "
            "written so far."
        ) from error
