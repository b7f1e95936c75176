"""The label store: every score that any annotator gave, as Parquet that any engine can read.

Parts are Hive-partitioned by round and annotator, written under a hidden name and renamed, and never edited:
an interrupted run leaves whole parts or none, ranks need no lock, and a changed setting has another
fingerprint, so that it never meets old scores.
"""

import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from datamodules.checks import check_least, check_that
from datamodules.errors import InputError
from datamodules.files import cache_folder, hidden_beside

SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("simulator", pa.string()),
        pa.field("level", pa.int16(), nullable=False),
        pa.field("draw", pa.int16(), nullable=False),
        pa.field("segment", pa.int16()),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("stderr", pa.float64()),
    ]
)
"""Columns of a part. `simulator` null: the source; `segment` null: the whole clip; `stderr` null: unknown."""

_REPEATED = pa.dictionary(pa.int32(), pa.string())

PARTITION_SCHEMA = pa.schema([("round", pa.int32()), ("annotator", _REPEATED), ("fingerprint", _REPEATED)])

READ_SCHEMA = pa.schema([*SCHEMA, *PARTITION_SCHEMA])
"""Columns that `LabelStore.read` returns; the annotator is spelt out once and not in every row."""

_KEY = ["video_id", "simulator", "level", "draw", "segment"]

_PARTITION = re.compile(r"round=(\d+)/annotator=([\w.+-]+)-([0-9a-f]+)/part-[^/]+\.parquet$", re.ASCII)

_NAME = re.compile(r"[\w.+-]+", re.ASCII)

_FINGERPRINT = re.compile(r"[0-9a-f]+")

_log = logging.getLogger(__name__)

Key = tuple[str, str | None, int]
"""What a score is about: video id, simulator (None: the source), level."""


class Annotation(NamedTuple):
    """One score of one video, or of one distorted version of it; higher is better.

    `stderr` is in the score's unit, NaN where the annotator does not know it. `draw` counts repeated draws of
    a random simulator; `segment` is None for the whole clip.
    """

    video_id: str
    simulator: str | None
    level: int
    score: float
    stderr: float
    draw: int = 0
    segment: int | None = None


def default_labels() -> Path:
    """Return the folder of scores that all runs of a user share."""
    return cache_folder() / "labels"


class LabelStore:
    """Scores by round and annotator, under a local folder or any fsspec URL.

    Args:
        url: where the partitions lie, such as `runs/x/version_0/labels` or `s3://bucket/labels`; made when
            first written to.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.url = os.fspath(url)
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise InputError(
                f"The label store {self.url} cannot be opened ({error}); name a folder or a URL."
            ) from error

    def write(
        self,
        round: int,
        annotator: str,
        fingerprint: str,
        annotations: Iterable[Annotation],
        *,
        rank: int = 0,
        settings: Mapping[str, object] | None = None,
    ) -> str | None:
        """Write one part and return its path; None when there is nothing to write.

        The part's name is made of the rank and a hash of its rows: the same rows written twice are one part.

        Args:
            round: 0 for teachers, k for the student after round k.
            annotator: the annotator's name; letters, digits and `. _ + -`.
            fingerprint: lower-case hexadecimal.
            annotations: the scores.
            rank: the process that writes.
            settings: what the fingerprint stands for; kept with name, package version and time in the
                metadata.

        Raises:
            InputError: the name or fingerprint cannot be part of a path, a score is not finite, a standard
                error is negative or infinite, or the store cannot be written to.

        Example:
            >>> store = LabelStore("memory://example")
            >>> part = store.write(0, "niqe", "ab12", [Annotation("video", "jpeg", 3, 1.5, stderr=0.25)])
            >>> store.read().select(["video_id", "level", "score", "annotator"]).to_pylist()
            [{'video_id': 'video', 'level': 3, 'score': 1.5, 'annotator': 'niqe'}]
        """
        check_least("The round of a score", round, 0)
        named = _NAME.fullmatch(annotator) is not None
        check_that(named, "An annotator's name", "of letters, digits, '.', '_', '+' and '-'", repr(annotator))
        digits = _FINGERPRINT.fullmatch(fingerprint) is not None
        check_that(digits, "An annotator's fingerprint", "of hexadecimal digits", repr(fingerprint))
        table = _to_table(annotations, annotator)
        if not table.num_rows:
            return None
        digest = hashlib.sha256("".join(json.dumps(column.to_pylist()) for column in table.columns).encode())
        provenance = {
            "annotator": annotator,
            "fingerprint": fingerprint,
            "settings": dict(settings or {}),
            "version": version("vqa-lightning"),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        table = table.replace_schema_metadata({"provenance": json.dumps(provenance, default=str)})
        folder = f"{self._root}/round={round}/annotator={annotator}-{fingerprint}"
        name = f"part-{rank:05d}-{digest.hexdigest()[:16]}.parquet"
        path, hidden = f"{folder}/{name}", f"{folder}/{hidden_beside(Path(name))}"
        with self._writing():
            if self._fs.exists(path):
                return path
            self._fs.makedirs(folder, exist_ok=True)
            try:
                with self._fs.open(hidden, "wb") as file:
                    pq.write_table(table, file, compression="zstd")
                self._fs.mv(hidden, path)
            except BaseException:
                with suppress(OSError):
                    self._fs.rm(hidden)
                raise
        return path

    def require_writable(self) -> None:
        """Fail now, and not after an hour of scoring, if no part can be written.

        Raises:
            InputError: the store's folder cannot be made or written to.
        """
        probe = f"{self._root}/{hidden_beside(Path('writable'))}"
        with self._writing():
            self._fs.makedirs(self._root, exist_ok=True)
            self._fs.pipe_file(probe, b"")
            self._fs.rm(probe)

    def read(
        self, round: int | None = None, annotator: str | None = None, fingerprint: str | None = None
    ) -> pa.Table:
        """Read all scores, or those of one round, annotator name or fingerprint.

        Rows are sorted by round, annotator and key, so that they do not depend on how many ranks wrote them;
        a key that was scored twice comes once.

        Returns:
            A table with `READ_SCHEMA`; empty where nothing matches.

        Raises:
            InputError: a part is no readable Parquet file.
        """
        tables = [READ_SCHEMA.empty_table()]
        for (number, name, print_), paths in self._partitions(round, annotator, fingerprint).items():
            rows = _one_per_key(self._read_parts(paths, SCHEMA.names))
            for field, value in zip(PARTITION_SCHEMA, (number, name, print_), strict=True):
                rows = rows.append_column(field, pa.repeat(pa.scalar(value, field.type), rows.num_rows))
            tables.append(rows.cast(READ_SCHEMA))
        return pa.concat_tables(tables)

    def have(self, round: int, fingerprint: str) -> set[Key]:
        """Return the keys for which this annotator has a whole-clip score in this round."""
        keys: set[Key] = set()
        for paths in self._partitions(round, None, fingerprint).values():
            rows = self._read_parts(paths, ["video_id", "simulator", "level", "segment"])
            columns = rows.filter(pc.is_null(rows["segment"])).drop_columns("segment").columns
            keys.update(zip(*(column.to_pylist() for column in columns), strict=True))
        return keys

    def _partitions(
        self, round: int | None, annotator: str | None, fingerprint: str | None
    ) -> dict[tuple[int, str, str], list[str]]:
        self._fs.invalidate_cache()  # other ranks write while this one looks
        pattern = f"{self._root}/round={'*' if round is None else round}/annotator=*/part-*.parquet"
        found: dict[tuple[int, str, str], list[str]] = {}
        for path in sorted(self._fs.glob(pattern)):
            match = _PARTITION.search(path)
            if match is None:
                _log.warning("%s is in the label store but was not written by it; it is left out.", path)
                continue
            number, name, print_ = int(match[1]), match[2], match[3]
            if annotator in (None, name) and fingerprint in (None, print_):
                found.setdefault((number, name, print_), []).append(path)
        return dict(sorted(found.items()))

    def _read_parts(self, paths: list[str], columns: list[str]) -> pa.Table:
        try:
            parts = ds.dataset(paths, schema=SCHEMA, filesystem=self._fs, format="parquet")
            return parts.to_table(columns=columns)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(
                f"A part of the label store {self.url} cannot be read ({_first_line(error)}); remove it, "
                "and its scores are computed again."
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"The label store {self.url} cannot be written to ({error.strerror or _first_line(error)}); "
                "name another place or make room there."
            ) from error


def _to_table(annotations: Iterable[Annotation], annotator: str) -> pa.Table:
    rows = []
    for row in annotations:
        known = math.isfinite(row.score) and not (row.stderr < 0 or math.isinf(row.stderr))
        name = f"The score and stderr of video {row.video_id} by {annotator}"
        must_be = "finite, the stderr 0 or more, or NaN where unknown"
        check_that(known, name, must_be, f"{row.score} and {row.stderr}")
        rows.append({**row._asdict(), "stderr": None if math.isnan(row.stderr) else row.stderr})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _one_per_key(rows: pa.Table) -> pa.Table:
    # Sorted by score too: the order of the parts must not decide which of two scores of one key stays.
    rows = rows.sort_by([(name, "ascending") for name in [*_KEY, "score", "stderr"]]).combine_chunks()
    repeats = np.arange(len(rows)) > 0
    for name in _KEY:
        previous, column = rows[name].slice(0, max(len(rows) - 1, 0)), rows[name].slice(1)
        both_null = pc.and_(pc.is_null(previous), pc.is_null(column))
        repeats[1:] &= np.asarray(pc.or_(pc.fill_null(pc.equal(previous, column), False), both_null))
    return rows.filter(~repeats) if repeats.any() else rows


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
