"""A folder of rows in parts: each is there whole or not at all, and each video stands in one of them.

Scores of intervals lie in a folder beside it, in a part of the same name that is written first: an interval
counts only where its video does.
"""

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callbacks.scores.rows import Row, one_sentence
from datamodules.corpus.places import object_written_whole, open_place
from datamodules.errors import InputError

PART_ROWS = 4096

PART_SECONDS = 60.0
"""A part is written when it has this many videos or is this old, and at the end: a killed command loses no
more."""

_TEMPORARY = ".tmp"

_SETTINGS = b"vqa-lightning"


class Folder:
    """Parquet files with one schema, in a local folder or behind a URL.

    Args:
        place: folder or URL.
        schema: of each part.
        settings: what else decides what a part holds, in plain types; kept in its metadata.

    Raises:
        InputError: the place cannot be opened.
    """

    def __init__(self, place: str, schema: pa.Schema, settings: Mapping[str, Any]) -> None:
        self.place = place.rstrip("/")
        self.schema = schema.with_metadata({_SETTINGS: json.dumps(dict(settings), sort_keys=True)})
        self._files, self._root = open_place(self.place, "--output")

    def open(self) -> None:
        """Make the folder, and remove what a killed command was writing.

        Raises:
            InputError: the place is a file, or cannot be written to.
        """
        with one_sentence(self.place):
            self._files.makedirs(self._root, exist_ok=True)
            for name in self._listed():
                if name.startswith(".part-") and name.endswith(_TEMPORARY):
                    self._files.rm(f"{self._root}/{name}")
            probe = f"{self._root}/.part-probe{_TEMPORARY}"
            self._files.pipe_file(probe, b"")
            self._files.rm(probe)

    def names(self) -> list[str]:
        """Return the names of the parts, in order."""
        return sorted(name for name in self._listed() if re.fullmatch(r"part-\d+\.parquet", name))

    def _listed(self) -> list[str]:
        self._files.invalidate_cache()
        return [path.rpartition("/")[2] for path in self._files.ls(self._root, detail=False)]

    def read(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a part.

        Raises:
            InputError: it is no part of these settings.
        """
        remedy = "name another --output, or delete the folder."
        try:
            with self._files.open(f"{self._root}/{name}", "rb") as file, pq.ParquetFile(file) as part:
                written = part.schema_arrow
                # Arrow's threads would let go of Python's bytes when Python may have ended: a crash.
                table = part.read(columns, use_threads=False)
        except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
            raise InputError(f"{self.place}/{name} is no part that can be read: {remedy}") from error
        if not written.equals(self.schema, check_metadata=True):
            had, wants = (
                json.loads((one.metadata or {}).get(_SETTINGS, b"{}")) for one in (written, self.schema)
            )
            other = [
                f"{word} {had.get(word)}, not {wants[word]}" for word in wants if had.get(word) != wants[word]
            ]
            raise InputError(f"{self.place} was written with {', '.join(other) or 'other columns'}: {remedy}")
        return table

    def rows(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of all parts."""
        nothing = self.schema.empty_table()
        parts = [self.read(name, columns) for name in self.names()]
        return pa.concat_tables([nothing.select(columns or nothing.column_names), *parts])

    def write(self, name: str, table: pa.Table) -> None:
        """Write a part, whole or not at all; without a row there is none.

        Raises:
            InputError: it cannot be written.
        """
        path = f"{self._root}/{name}"
        with one_sentence(f"{self.place}/{name}"):
            if not table.num_rows:
                if self._files.exists(path):
                    self._files.rm(path)
                return
            with object_written_whole(self._files, path) as hidden, self._files.open(hidden, "wb") as file:
                pq.write_table(table.cast(self.schema), file, compression="zstd")


class VideoParts:
    """What was found of videos, scores or hashes, and where they are asked for the scores of intervals.

    Args:
        output: folder or URL.
        schema: of the videos' parts, with `path` and `status`.
        seconds: schema of the intervals' parts; None: no intervals.
        settings: as `Folder` takes them.

    Attributes:
        done: paths of the videos whose status is ok, after `resume`.

    Raises:
        InputError: the output cannot be opened.
    """

    def __init__(
        self, output: str, schema: pa.Schema, seconds: pa.Schema | None, settings: Mapping[str, Any]
    ) -> None:
        self.videos = Folder(output, schema, settings)
        beside = f"{self.videos.place}.seconds"
        self.seconds = None if seconds is None else Folder(beside, seconds, settings)
        self.done = pa.array([], pa.string())
        self._next, self._written = 0, time.monotonic()

    def resume(self) -> None:
        """Find what earlier commands have done; rows with an error go, for they are tried again.

        Raises:
            InputError: the folder is of another model or of other settings, or cannot be written to.
        """
        self.videos.open()
        names = self.videos.names()
        scored = []
        for name in names:
            part = self.videos.read(name, ["path", "status"])
            kept = part.filter(pc.equal(part["status"], "ok"))
            if kept.num_rows < part.num_rows:
                whole = self.videos.read(name)
                self.videos.write(name, whole.filter(pc.equal(whole["status"], "ok")))
            scored += kept["path"].chunks
        self.done = pa.chunked_array(scored, pa.string())
        if self.seconds is not None:
            self._drop_intervals(self.seconds)
        self._next = 1 + max((int(re.sub(r"\D", "", name)) for name in names), default=-1)

    def _drop_intervals(self, seconds: Folder) -> None:
        """Drop the intervals of videos that do not stand in the part of the same name."""
        seconds.open()
        names = set(self.videos.names())
        for name in seconds.names():
            part = seconds.read(name)
            videos = self.videos.read(name, ["path"])["path"] if name in names else self.done[:0]
            kept = part.filter(pc.is_in(part["path"], value_set=videos))
            if kept.num_rows < part.num_rows:
                seconds.write(name, kept)

    def due(self, rows: Sequence[Row]) -> bool:
        """Return whether it is time to write rows: they are many, or the last part is old."""
        return len(rows) >= PART_ROWS or time.monotonic() - self._written > PART_SECONDS

    def write(self, rows: Sequence[Row], intervals: Sequence[Row]) -> None:
        """Write a part.

        Raises:
            InputError: it cannot be written.
        """
        name = f"part-{self._next:05}.parquet"
        self._next += 1
        self._written = time.monotonic()
        if self.seconds is not None:
            self.seconds.write(name, pa.Table.from_pylist(list(intervals), self.seconds.schema))
        self.videos.write(name, pa.Table.from_pylist(list(rows), self.videos.schema))
