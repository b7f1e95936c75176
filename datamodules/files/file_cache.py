"""What is found out about a file, once: Parquet rows that hold while its path, size and time of change do.

Probing, metrics and hashes of a corpus go through the same loop. It writes as it goes, each time the whole
table in one step, so that a reader never sees half of it and an interruption loses minutes at most.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet
from rich.console import Console
from rich.progress import track

from datamodules.errors import UnreadableVideo
from vqa_lightning.families import InputError

WRITE_SECONDS = 300.0
"""What a killed process can lose, against writing a large table over and over."""

Row = dict[str, Any]


class _Stamp(NamedTuple):
    """What must be unchanged for a cached row to hold."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class FileCache:
    """Rows about files in one Parquet file.

    Attributes:
        store: the Parquet file.
        schema: columns of a row; none of them may be called file, size, mtime_ns or version.
        version: to be raised when the same file would give another row: all is then computed anew.
    """

    store: Path
    schema: pa.Schema
    version: int

    def rows(
        self,
        paths: Sequence[Path],
        compute: Callable[[Path], Row],
        *,
        workers: int | None = None,
        description: str = "",
        progress: bool = True,
    ) -> dict[Path, Row | UnreadableVideo]:
        """Give the row of each file, computed in threads where the cache has none.

        Threads, for FFmpeg and array operations work outside Python's lock, waiting for a disk costs no core,
        and they need neither a main guard nor a fresh import of torch, as processes would.

        Args:
            paths: the files; a path given twice counts once.
            compute: from a path to its row; may raise UnreadableVideo, which is not kept but tried again the
                next time.
            workers: threads; by default as many as there are cores.
            description: words beside the progress bar.
            progress: whether to show a bar on stderr while something is computed.

        Raises:
            InputError: if the cache folder cannot be written.
        """
        known = self._read()
        stamps = {path: _stamp(path) for path in paths}
        found: dict[Path, Row | UnreadableVideo] = {}
        new: list[Path] = []
        for path, stamp in stamps.items():
            if stamp is not None and stamp in known:
                found[path] = known[stamp]
            else:
                new.append(path)
        fresh: dict[_Stamp, Row] = {}
        written = time.monotonic()

        def attempt(path: Path) -> Row | UnreadableVideo:
            try:
                return compute(path)
            except UnreadableVideo as error:
                return error

        try:
            with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
                results = track(
                    pool.map(attempt, new),
                    description,
                    total=len(new),
                    console=Console(stderr=True),
                    disable=not (progress and new),
                    transient=True,
                )
                for path, result in zip(new, results, strict=True):
                    found[path] = result
                    stamp = stamps[path]
                    if stamp is not None and not isinstance(result, UnreadableVideo):
                        fresh[stamp] = result
                    if fresh and time.monotonic() - written > WRITE_SECONDS:
                        self._write(fresh)
                        fresh, written = {}, time.monotonic()
        finally:  # what was computed before an interruption need not be computed again
            if fresh:
                self._write(fresh)
        return {path: found[path] for path in stamps}

    @property
    def _stored(self) -> pa.Schema:
        stamp = [
            ("file", pa.string()),
            ("size", pa.int64()),
            ("mtime_ns", pa.int64()),
            ("version", pa.int32()),
        ]
        return pa.schema([*self.schema, *stamp])

    def _read(self) -> dict[_Stamp, Row]:
        if not self.store.is_file():
            return {}
        try:
            table = pa.parquet.read_table(self.store)
        except (pa.ArrowInvalid, OSError):
            return {}  # damaged from outside: everything in it can be computed again
        if not table.schema.equals(self._stored):
            return {}  # written by another version
        known = {}
        for row in table.to_pylist():
            stamp = _Stamp(row.pop("file"), row.pop("size"), row.pop("mtime_ns"))
            if row.pop("version") == self.version:
                known[stamp] = row
        return known

    def _write(self, fresh: dict[_Stamp, Row]) -> None:
        """Add rows: read again, then replace the file in one step.

        Of two processes that write at once the later one may miss the other's newest rows; those are computed
        again.
        """
        latest = {stamp.path: (stamp, row) for stamp, row in (self._read() | fresh).items()}
        rows = [
            row | {"file": path, "size": stamp.size, "mtime_ns": stamp.mtime_ns, "version": self.version}
            for path, (stamp, row) in latest.items()
        ]
        table = pa.Table.from_pylist(rows, schema=self._stored)
        temporary = None
        try:
            self.store.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.store.parent, prefix=f".{self.store.name}.")
            os.close(handle)
            pa.parquet.write_table(table, temporary)
            os.replace(temporary, self.store)
        except OSError as error:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)  # a full disk must not fill with halves
            raise InputError(
                f"The cache folder {self.store.parent} cannot be written ({error.strerror}); "
                "set XDG_CACHE_HOME."
            ) from error


def _stamp(path: Path) -> _Stamp | None:
    """None for a file that is not there: such a row is not kept, for the file may come."""
    try:
        status = path.stat()
    except OSError:
        return None
    return _Stamp(str(path.resolve()), status.st_size, status.st_mtime_ns)


def cache_folder() -> Path:
    """The folder of what can be made again: $XDG_CACHE_HOME/vqa-lightning, else ~/.cache/vqa-lightning."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vqa-lightning"
