"""Tables of scores, and the journals from which an interrupted command goes on.

Rows gather in a journal beside the output, one journal a rank, under the hash of the model that gave them. A
finished output is never lost to another model or to other videos.
"""

import glob
import json
from collections.abc import Container, Iterable, Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor

from callbacks.scores.rows import Row, json_lines, one_sentence, read_rows, write_rows
from datamodules.batches import VideoBatch
from datamodules.errors import InputError
from datamodules.names import file_of, name_of
from datamodules.video import Video

_TEXT, _NUMBER = pa.string(), pa.float64()

SCHEMA = pa.schema(
    {"path": _TEXT, "score": _NUMBER, "stderr": _NUMBER, "status": _TEXT, "error": _TEXT, "model": _TEXT}
)

SECONDS_SCHEMA = pa.schema(
    {"path": _TEXT, "start": _NUMBER, "end": _NUMBER, "score": _NUMBER, "stderr": _NUMBER, "model": _TEXT}
)

Key = tuple[Any, ...]


def seconds_beside(output: Path) -> Path:
    """Return the file of the intervals' scores, by that of the videos'.

    Example:
        >>> seconds_beside(Path("scores.csv")).name
        'scores.seconds.csv'
    """
    return output.with_name(f"{output.stem}.seconds{output.suffix}")


def outcome(score: float | None = None, stderr: float | None = None, error: str = "") -> dict[str, Any]:
    """Return the cells `score`, `stderr`, `status` and `error` of a video or an interval."""
    return {"score": score, "stderr": stderr, "status": "error" if error else "ok", "error": error}


def batch_rows(
    batch: VideoBatch, score: Tensor, stderr: Tensor, videos: Sequence[Video], model: str
) -> dict[int, Row]:
    """Return a row for each request of a batch, by the request's place.

    Args:
        batch: V readable videos, and the errors of the others.
        score: (V,) of the readable videos.
        stderr: (V,) of the readable videos.
        videos: video of every request.
        model: name and hash of the model.
    """
    read = zip(batch.rows, score.tolist(), stderr.tolist(), strict=True)
    cells = {place: {**outcome(*values), "error": videos[place].remark} for place, *values in read}
    cells |= {place: outcome(error=sentence) for place, sentence in batch.errors.items()}
    return {
        place: {"path": videos[place].path, "video_id": videos[place].video_id, **found, "model": model}
        for place, found in cells.items()
    }


def all_scored(rows: Sized, wanted: Sized, what: str = "videos") -> bool:
    """Return whether there are as many rows as wanted; where there are fewer, say how to go on."""
    if len(rows) < len(wanted):
        rank_zero_info(f"{len(rows)} of {len(wanted)} {what} scored: the same command goes on.")
    return len(rows) >= len(wanted)


@dataclass
class ScoreTable:
    """The rows of one output: the rows known from earlier commands, and the rows to come.

    Args:
        output: file to write.
        schema: columns of the output.
        key: columns that tell a row from every other row, the first being `path`.

    Attributes:
        rows: known rows, by key.
        wanted: videos of the rows to come, by key.
    """

    output: Path
    schema: pa.Schema
    key: Sequence[str]
    rows: dict[Key, Row] = field(default_factory=dict, init=False)
    wanted: Mapping[Key, Video] = field(default_factory=dict, init=False)

    def resume(self, model: str, wanted: Mapping[Key, Video]) -> None:
        """Take up the scores of earlier commands with the same model, of files that are still the same.

        Args:
            model: name and hash.
            wanted: videos of the rows to come, by key.

        Raises:
            InputError: the output has rows of another model or rows that are not wanted, or is another kind
                of file.
        """
        self.prefix = self.output.resolve().with_name(f".{self.output.name}.{model}")
        self.wanted = wanted
        self.rows = {}
        if self.output.exists():
            written = self.output.stat().st_mtime
            for key, row in earlier_rows(self.output, self.schema, self.key, model, wanted).items():
                if row["score"] is not None and not _changed_since(file_of(row["path"]), written):
                    self.rows[key] = row
        self._read_journals()

    @property
    def _journals(self) -> list[Path]:
        return sorted(self.prefix.parent.glob(f"{glob.escape(self.prefix.name)}.*"))

    def _read_journals(self) -> list[Row]:
        """Take up the journals' rows; return the rows that are not wanted, or of files that have changed."""
        others = []
        lines = [
            line for path in self._journals for line in path.read_text("utf-8").splitlines(keepends=True)
        ]
        for row in (json.loads(line) for line in lines if line.endswith("\n")):  # an interruption cuts lines
            key = tuple(row[name] for name in self.key)
            if key in self.wanted and self.wanted[key].video_id == row["video_id"]:
                self.rows[key] = row
            else:
                others.append(row)
        return others

    def open(self, rank: int) -> None:
        """Open the journal of a rank.

        Raises:
            InputError: the journal cannot be written to.
        """
        path = self.prefix.with_name(f"{self.prefix.name}.{rank}")
        with one_sentence(path):
            self.journal = path.open("ab")
            # Behind a line cut short by an interruption the next line would be lost too.
            self.journal.truncate(path.read_bytes().rfind(b"\n") + 1)

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows with their `video_id` to the journal.

        Raises:
            InputError: the journal cannot be written to.
        """
        with one_sentence(Path(self.journal.name)):
            try:
                self.journal.write(json_lines(rows).encode())
                self.journal.flush()
            except OSError:
                with suppress(OSError):
                    self.journal.close()  # closing tries once more; later it would do so out of our hands
                raise

    def close(self) -> None:
        """Close the journal.

        Raises:
            InputError: the journal cannot be written to.
        """
        with one_sentence(Path(self.journal.name)):
            self.journal.close()

    def collect(self, keys: Iterable[Key]) -> list[Row]:
        """Return the rows that all ranks have by now, in the order of the keys."""
        self.others = self._read_journals()
        return [self.rows[key] for key in keys if key in self.rows]

    def write(self, rows: Sequence[Row], more: Sequence[pa.Field] = ()) -> None:
        """Write the output, and remove the journals.

        Args:
            rows: all rows, in order.
            more: columns beyond the columns of the schema.

        Raises:
            InputError: the output cannot be written.
        """
        write_rows(self.output, rows, pa.schema([*self.schema, *more]))
        for journal in self._journals:
            with one_sentence(journal):
                journal.unlink()
        if self.others:  # of another command that was interrupted and may still go on
            self.open(0)
            self.append(self.others)
            self.close()


def _of_the_whole(row: Row) -> Row:
    """Return a row with the score of the whole video, where a pool over time stood in its place."""
    return {**row, "score": row["whole"], "stderr": row["whole_stderr"]} if "whole" in row else row


def _changed_since(path: Path, moment: float) -> bool:
    """Return whether a file's content or place has changed; a copy keeps its old time of writing."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return True
    return max(status.st_mtime, status.st_ctime) > moment


def earlier_rows(
    output: Path, schema: pa.Schema, key: Sequence[str], model: str, wanted: Container[Key]
) -> dict[Key, Row]:
    """Read the rows of an output that exists; refuse an output of which a row would be lost.

    Args:
        output: the file.
        schema: columns that it must have.
        key: columns that tell a row from every other row.
        model: name and hash that all rows must bear.
        wanted: keys of the rows to come.

    Returns:
        The rows, by key.

    Raises:
        InputError: the file is of another kind or of another model, or has rows that are not wanted.
    """
    remedy = "name another --output, or delete the file."
    try:
        rows = [_of_the_whole(row) for row in read_rows(output, schema, ("whole", "whole_stderr"))]
    except InputError as error:
        told = str(error).rstrip(".")
        raise InputError(f"{name_of(output)} exists and is no table of scores ({told}): {remedy}") from error
    found = {tuple(row[name] for name in key): row for row in rows}
    for one, row in found.items():
        if row["model"] != model:
            raise InputError(f"{output} was written with {row['model']}, not with {model}: {remedy}")
        if one not in wanted:
            raise InputError(
                f"{output} has rows that this command would not write again, such as that of "
                f"{' '.join(map(str, one))}: {remedy}"
            )
    return found
