"""The corpus: an Arrow table with one row a video, probed once per file and kept.

Rows follow the order of the input. Unreadable files stay among them with their error, so that no file that a
person listed disappears in silence. The cache knows a file by path, size and time of change.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields, replace
from glob import glob, has_magic
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
import torch

from datamodules.errors import InputError, UnreadableVideo
from datamodules.files import FileCache, cache_folder
from datamodules.files.file_cache import Row
from datamodules.video import Video, probe

SPLITS = ("train", "select", "report")

SUFFIXES = frozenset((
    ".3gp", ".asf", ".avi", ".flv", ".h264", ".h265", ".hevc", ".ivf", ".m2ts", ".m4v", ".mkv", ".mov",
    ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".obu", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m",
))  # fmt: skip

_ARROW = {str: pa.string(), int: pa.int32(), float: pa.float64(), bool: pa.bool_()}

SCHEMA = pa.schema([(field.name, _ARROW[field.type]) for field in fields(Video)])  # type: ignore[index]

NAMED = 20
"""Videos with wrong time stamps that are named on the terminal."""

_log = logging.getLogger(__name__)

PROBE_VERSION = 2  # raise it when `probe` finds something else in the same file: all files are probed anew


class _Entry(NamedTuple):
    """A video that the input names, with the manifest's own columns."""

    path: Path
    content: str = ""
    split: str = ""


def build_corpus(
    videos: str | Path, *, cache: Path | None = None, workers: int | None = None, progress: bool = True
) -> pa.Table:
    """Probe the videos that a folder, file, glob or manifest names.

    Args:
        videos: a folder (searched through, hidden files left out, sorted), a video, a glob, or a manifest:
            .csv or .parquet with a column `path`, relative to the manifest's folder, and perhaps `content`,
            `split`.
        cache: folder of the probing cache; by default `cache_folder()`.
        workers: threads; by default as many as there are cores.
        progress: whether to show a bar on stderr while files are probed.

    Returns:
        The corpus, with SCHEMA's columns and rows in the order of the input. A file that cannot be read has
        status "error", one sentence in `error`, and no `video_id`; the file is tried again the next time. The
        same content twice gives two rows with one `video_id`.

    Raises:
        InputError: `videos` names nothing, the manifest lacks `path` or has an unknown split, or the cache
            folder cannot be written.
    """
    entries = _entries(str(videos))
    store = FileCache((cache or cache_folder()) / "corpus.parquet", SCHEMA, PROBE_VERSION)
    found = store.rows(
        [entry.path for entry in entries],
        lambda path: asdict(probe(path)),
        workers=workers,
        description="Reading videos",
        progress=progress,
    )
    rows = []
    for entry in entries:
        row = found[entry.path]
        if isinstance(row, UnreadableVideo):
            video = Video(video_id="", path=str(entry.path), status="error", error=str(row))
        else:
            video = Video(**row)
        content = entry.content or video.video_id
        rows.append(replace(video, path=str(entry.path), content=content, split=entry.split))
    _name_troubled(rows)
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA)


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
    by_path = {Path(video.path): video for video in videos(corpus)}

    def compute(path: Path) -> Row:
        torch.set_num_threads(1)  # of this thread: videos are the parallelism
        return measure(by_path[path])

    found = store.rows(list(by_path), compute, workers=workers, description=description, progress=progress)
    return {
        by_path[path].video_id: row for path, row in found.items() if not isinstance(row, UnreadableVideo)
    }


def named_paths(videos: str) -> list[Path]:
    """Return the files that a folder, file, glob or manifest names, as `build_corpus` takes it, in order.

    Raises:
        InputError: `videos` names nothing, or the manifest is none.
    """
    return [entry.path for entry in _entries(videos)]


def _entries(videos: str) -> list[_Entry]:
    place = Path(videos).expanduser()
    if place.is_dir():
        # os.walk and not rglob, for hidden folders need not be entered.
        paths = []
        for folder, subfolders, names in os.walk(place):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            names = [name for name in names if Path(name).suffix.lower() in SUFFIXES and name[0] != "."]
            paths += [Path(folder, name) for name in names]
        if not paths:
            raise InputError(
                f"The folder {videos} holds no videos; give a folder with .mp4, .mkv or other video files."
            )
        return [_Entry(path) for path in sorted(paths)]
    if place.is_file():
        return _manifest(place) if place.suffix.lower() in (".csv", ".parquet") else [_Entry(place)]
    if has_magic(videos):
        matches = sorted(Path(match) for match in glob(str(place), recursive=True))
        entries = [_Entry(path) for path in matches if path.is_file()]
        if not entries:
            raise InputError(f"No file matches {videos}; check the pattern, and quote it from the shell.")
        return entries
    raise InputError(
        f"{videos} does not exist; give a folder, a video, a glob or a manifest (.csv, .parquet)."
    )


def read_manifest(path: Path) -> pa.Table:
    """Read a manifest with all its columns; `path`, `content` and `split` as text.

    Raises:
        InputError: it cannot be read, has no column `path` or no rows.
    """
    try:
        if path.suffix.lower() == ".csv":
            # As text: a content called 007 is not the number 7.
            texts = dict.fromkeys(("path", "content", "split"), pa.string())
            table = pa.csv.read_csv(path, convert_options=pa.csv.ConvertOptions(column_types=texts))
        else:
            table = pa.parquet.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"The manifest {path} cannot be read: {str(error).splitlines()[0]}.") from error
    if "path" not in table.column_names:
        raise InputError(
            f"The manifest {path} must have a column path; got the columns {', '.join(table.column_names)}."
        )
    if not table.num_rows:
        raise InputError(f"The manifest {path} must have a row for each video; got no rows.")
    return table


def _manifest(path: Path) -> list[_Entry]:
    table = read_manifest(path)
    blank = pa.array([""] * table.num_rows)
    columns = [
        (table[name] if name in table.column_names else blank).cast(pa.string()).fill_null("").to_pylist()
        for name in ("path", "content", "split")
    ]
    entries = [_Entry(path.parent / name, *rest) for name, *rest in zip(*columns, strict=True)]
    for entry in entries:
        if entry.split not in ("", *SPLITS):
            raise InputError(
                f"The split of {entry.path.name} in the manifest {path} must be {', '.join(SPLITS)} or "
                f"empty; got {entry.split!r}."
            )
    return entries
