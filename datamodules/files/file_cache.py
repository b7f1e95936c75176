"""A cache of rows about files in Parquet: a row holds while the file's path, size and time of change do.

Probing, metrics and hashes of a corpus go through the same loop. The loop writes as it goes, each time the
whole table in one step, so that a reader never sees half a table and an interruption loses minutes at most.
"""

import functools
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from rich.console import Console
from rich.progress import track

from datamodules.errors import InputError, UnreadableVideo, reason
from datamodules.files.claims import one_at_a_time
from datamodules.names import name_of

WRITE_SECONDS = 300.0
"""Time between two writes: a killed process loses so much work, and a large table is written rarely."""

BATCH = 1 << 13
"""Stored rows that are read at a time: memory may not hold all of them."""

Row = dict[str, Any]


class _Stamp(NamedTuple):
    """The state of a file, which must be unchanged for a cached row to hold."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class FileCache:
    """Rows about files in one Parquet file.

    Attributes:
        store: the Parquet file.
        schema: columns of a row; none of them may be called file, size, mtime_ns or version.
        version: raise it when the same file would give another row: all rows are then computed anew.
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
        """Return the row of each file, computed in threads where the cache has none.

        Threads serve, for FFmpeg and array operations work outside Python's lock and waiting for a disk costs
        no core. Processes would need a main guard and a fresh import of torch.

        Args:
            paths: the files; a path given twice counts once.
            compute: from a path to its row; may raise UnreadableVideo, which is not kept: the file is tried
                again the next time. Whatever else it raises, but InputError, is taken as that.
            workers: threads; by default as many as there are cores.
            description: words beside the progress bar.
            progress: whether to show a bar on stderr while something is computed.

        Raises:
            InputError: the cache folder cannot be written.
        """
        real_folder = functools.cache(os.path.realpath)
        stamps = {path: _stamp(path, real_folder) for path in paths}
        known = self._read({stamp.path for stamp in stamps.values() if stamp is not None})
        found: dict[Path, Row | UnreadableVideo] = {
            path: known[stamp] for path, stamp in stamps.items() if stamp is not None and stamp in known
        }
        new = [path for path in stamps if path not in found]
        fresh: dict[_Stamp, Row] = {}
        written = time.monotonic()

        try:
            with _threads(workers or os.cpu_count() or 1) as pool:
                results = track(
                    pool.map(functools.partial(attempt, compute), new),
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
        finally:  # a row that was computed before an interruption need not be computed again
            if fresh:
                self._write(fresh)
        return {path: found[path] for path in stamps}

    @property
    def _stored(self) -> pa.Schema:
        stamp = {"file": pa.string(), "size": pa.int64(), "mtime_ns": pa.int64(), "version": pa.int32()}
        return pa.schema([*self.schema, *stamp.items()])

    def _batches(self) -> Iterator[pa.Table]:
        """Yield the stored rows of this version, some at a time."""
        try:
            with pa.parquet.ParquetFile(self.store) as stored:
                if stored.schema_arrow.equals(self._stored):  # else written by another version
                    for batch in stored.iter_batches(BATCH):
                        table = pa.Table.from_batches([batch])
                        yield table.filter(pc.equal(table["version"], self.version))
        except (pa.ArrowInvalid, OSError):
            return  # absent, or damaged from outside: every row can be computed again

    def _read(self, files: Iterable[str]) -> dict[_Stamp, Row]:
        """Return the stored rows of some files."""
        wanted = pa.array(files, pa.string())
        known: dict[_Stamp, Row] = {}
        for batch in self._batches():
            for row in batch.filter(pc.is_in(batch["file"], wanted)).drop_columns("version").to_pylist():
                known[_Stamp(row.pop("file"), row.pop("size"), row.pop("mtime_ns"))] = row
        return known

    def _write(self, fresh: dict[_Stamp, Row]) -> None:
        """Add rows: read again, then replace the file in one step, while no other process does the same."""
        latest = {stamp.path: (stamp, row) for stamp, row in fresh.items()}
        rows = [
            row | {"file": path, "size": stamp.size, "mtime_ns": stamp.mtime_ns, "version": self.version}
            for path, (stamp, row) in latest.items()
        ]
        table = pa.Table.from_pylist(rows, schema=self._stored)
        folder = self.store.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (
                one_at_a_time(self.store.with_name(f".{self.store.name}.lock")),
                # A full disk must not fill with halves: what is unfinished goes with its folder.
                tempfile.TemporaryDirectory(dir=folder, prefix=f".{self.store.name}.") as place,
            ):
                with pa.parquet.ParquetWriter(Path(place, self.store.name), self._stored) as written:
                    for batch in self._batches():
                        written.write_table(batch.filter(pc.invert(pc.is_in(batch["file"], table["file"]))))
                    written.write_table(table)
                os.replace(Path(place, self.store.name), self.store)
        except OSError as error:
            raise InputError(
                f"The cache folder {folder} cannot be written ({error.strerror}); set XDG_CACHE_HOME."
            ) from error


def attempt(compute: Callable[[Path], Row], path: Path) -> Row | UnreadableVideo:
    """Return a file's row, or why there is none: whatever a library raises on one file, the others go on.

    Raises:
        InputError: `compute` did.
    """
    try:
        return compute(path)
    except InputError:
        raise
    except UnreadableVideo as error:
        return error
    except Exception as error:
        return UnreadableVideo(f"{name_of(path)} cannot be read: {reason(error)}.")


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Give a pool that forgets what it has not begun when an interruption leaves it."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _stamp(path: Path, real_folder: Callable[[str], str]) -> _Stamp | None:
    """Return the stamp of a file; None for an absent file, whose row is not kept, for the file may come.

    A file that is no link costs one question to the system: those of its folder are asked once.
    """
    folder, name = os.path.split(path)
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode) or name in ("", ".."):
            status, real = path.stat(), os.path.realpath(path)
        else:
            real = os.path.join(real_folder(folder), name)
    except (OSError, ValueError):
        return None
    return _Stamp(name_of(real), status.st_size, status.st_mtime_ns)


def cache_folder() -> Path:
    """Return the folder of files that can be made again, in $XDG_CACHE_HOME, else in ~/.cache.

    Raises:
        InputError: there is neither.
    """
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named) / "vqa-lightning"
    try:
        return Path.home() / ".cache" / "vqa-lightning"
    except RuntimeError as error:  # neither HOME nor an entry among the system's users
        raise InputError(
            "The user who runs this has no home folder for a cache: set XDG_CACHE_HOME to a folder that can "
            "be written to."
        ) from error
