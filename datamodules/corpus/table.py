"""The corpus: an Arrow table with one row a video, probed once per file and kept.

Rows follow the order of the input. Unreadable files stay among them with their error, so that no file that a
person listed disappears in silence. The cache knows a file by path, size and time of change.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import torch

from datamodules.corpus.listing import list_entries
from datamodules.errors import UnreadableVideo
from datamodules.files import FileCache, cache_folder
from datamodules.files.file_cache import Row
from datamodules.names import address_refused, file_of
from datamodules.processes import apart
from datamodules.video import Video, probe

_ARROW = {str: pa.string(), int: pa.int32(), float: pa.float64(), bool: pa.bool_()}

SCHEMA = pa.schema([(field.name, _ARROW[field.type]) for field in fields(Video)])  # type: ignore[index]

NAMED = 20
"""Videos with wrong time stamps that are named on the terminal."""

_log = logging.getLogger(__name__)

PROBE_VERSION = 2  # raise it when `probe` finds something else in the same file: all files are probed anew


def build_corpus(
    videos: str | Path, *, cache: Path | None = None, workers: int | None = None, progress: bool = True
) -> pa.Table:
    """Probe the videos that a folder, file, glob or manifest names.

    Args:
        videos: a folder (searched through, hidden files left out, sorted), a video, a glob, or a manifest:
            .csv, .jsonl, .json, .parquet or .txt with a column `path`, relative to the manifest's folder, and
            perhaps `content`, `split`. Each link is followed once. What is left out is told in one line.
        cache: folder of the probing cache; by default `cache_folder()`.
        workers: threads; by default as many as there are cores.
        progress: whether to show a bar on stderr while files are probed.

    Returns:
        The corpus, with SCHEMA's columns and rows in the order of the input. A file that cannot be read has
        status "error", one sentence in `error`, and no `video_id`; the file is tried again the next time. The
        same content twice gives two rows with one `video_id`.

    Raises:
        InputError: `videos` names nothing or is an address, the manifest is none (`read_manifest`) or has an
            unknown split, or the cache folder cannot be written.
    """
    entries = list_entries(str(videos))
    store = FileCache((cache or cache_folder()) / "corpus.parquet", SCHEMA, PROBE_VERSION)
    with apart(_probe) as look:
        found = store.rows(
            [entry.file for entry in entries if entry.file is not None],
            look,
            workers=workers,
            description="Reading videos",
            progress=progress,
        )
    rows = []
    for entry in entries:
        refused = UnreadableVideo(address_refused(entry.name))
        row = refused if entry.file is None else found[entry.file]
        if isinstance(row, UnreadableVideo):
            video = Video(video_id="", path=entry.name, status="error", error=str(row))
        else:
            video = Video(**row)
        content = entry.content or video.video_id
        rows.append(replace(video, path=entry.name, content=content, split=entry.split))
    _name_troubled(rows)
    return pa.Table.from_pylist([vars(row) for row in rows], schema=SCHEMA)


def _probe(path: Path) -> Row:
    return asdict(probe(path))


def _name_troubled(rows: Sequence[Video]) -> None:
    """Say of each video, up to NAMED of them, what was wrong with its time stamps."""
    remarks = [remark for row in rows if (remark := row.remark)]
    for remark in remarks[:NAMED]:
        _log.warning(remark)
    if len(remarks) > NAMED:
        _log.warning("The time stamps of %d more videos are wrong.", len(remarks) - NAMED)


def videos(corpus: pa.Table, split: str | None = None) -> list[Video]:
    """Return the readable videos in order, each `video_id` once; if a split is given, only its videos."""
    chosen = pc.equal(corpus["status"], "ok")
    if split is not None:
        chosen = pc.and_(chosen, pc.equal(corpus["split"], split))
    rows = list(all_videos(corpus.filter(chosen)))
    return list({video.video_id: video for video in reversed(rows)}.values())[::-1]


def all_videos(corpus: pa.Table) -> Iterator[Video]:
    """Yield the videos of every row, unreadable ones included."""
    # Column by column: a dictionary for each of millions of rows would take longer than the rows.
    return map(Video, *(corpus[name].to_pylist() for name in SCHEMA.names))


def measure_videos(
    corpus: pa.Table,
    store: FileCache,
    measure: Callable[[Video], Row],
    *,
    workers: int | None,
    description: str,
    progress: bool,
) -> dict[str, Row]:
    """Measure something of the readable videos of a corpus, each file once.

    Args:
        corpus: as `build_corpus` returns it.
        store: where the rows are kept.
        measure: from a video to its row; may raise UnreadableVideo.
        workers: threads; None: as many as there are cores.
        description: words beside the progress bar.
        progress: whether to show a bar on stderr while files are measured.

    Returns:
        Video id -> row, in the order of the corpus; a video that could not be measured is absent.

    Raises:
        InputError: the cache folder cannot be written.
    """
    by_path = {file_of(video.path): video for video in videos(corpus)}

    def compute(path: Path) -> Row:
        torch.set_num_threads(1)  # of this thread: videos are the parallelism
        return measure(by_path[path])

    found = store.rows(list(by_path), compute, workers=workers, description=description, progress=progress)
    return {
        by_path[path].video_id: row for path, row in found.items() if not isinstance(row, UnreadableVideo)
    }
