"""Near-duplicates of more videos than one machine reads, as stages of Ray Data: hashes, then what they share.

Tasks hash files by `datamodules.corpus.duplicates`; then tasks compare all videos in a band of bits each. The
groups are those of one machine.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from callbacks.scores.rows import Row, claim_output
from callbacks.scores.table import outcome
from datamodules.corpus.duplicates import (
    FRAMES,
    HASH_VERSION,
    HASHES,
    bands,
    connected,
    hash_file,
    links_in_band,
    unpacked_hashes,
)
from datamodules.errors import UnreadableVideo
from datamodules.files import moved_paths
from datamodules.files.file_cache import attempt
from datamodules.names import is_url, name_of
from datamodules.processes import END
from vqa_lightning.ray.engine import connected as connected_to_ray
from vqa_lightning.ray.engine import in_blocks
from vqa_lightning.ray.parts import VideoParts
from vqa_lightning.ray.pipeline import require_ray
from vqa_lightning.ray.stages import within_reach

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.data import Dataset

Groups = npt.NDArray[np.int32]

Arrays = tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]
"""As `group_hashes` takes them."""

FIELDS = pa.schema([("path", pa.string()), ("status", pa.string()), ("error", pa.string()), *HASHES])

TASK_BYTES = 100
"""Of memory for each video, in a task that compares: measured."""

LINKS = pa.schema([("first", pa.int64()), ("second", pa.int64())])


@dataclass(frozen=True)
class HashReader:
    """The stage of CPU tasks that read: from paths or URLs to hashes.

    Attributes:
        root: local folder from which relative paths lead, wherever a task runs.
    """

    root: str

    def __call__(self, paths: pa.Table) -> pa.Table:
        """Return the rows of some paths, with the columns of FIELDS."""
        return pa.Table.from_pylist([self._row(path) for path in paths["path"].to_pylist()], FIELDS)

    def _row(self, path: str) -> Row:
        try:
            with within_reach(path, self.root) as file:
                found = attempt(hash_file, file)
                if isinstance(found, UnreadableVideo):
                    raise found
        except UnreadableVideo as error:
            return {"path": path, **outcome(error=str(error)), "hash": None, "frames": 0}
        return {"path": path, **outcome(), **found}


@dataclass(frozen=True)
class BandReader:
    """The stage of CPU tasks that compare: from numbers of bands to links.

    Attributes:
        arrays: of all videos, in Ray's object store: machines have them once.
    """

    arrays: "ObjectRef[Arrays]"

    def __call__(self, numbers: pa.Table) -> pa.Table:
        """Return the links of some bands, with the columns of LINKS."""
        import ray

        arrays, every = ray.get(self.arrays), bands()
        some = [links_in_band(every[number], *arrays) for number in numbers["item"].to_pylist()]
        return pa.table(list(np.concatenate(some).T), schema=LINKS)


def near_duplicates(dataset: "Dataset") -> "Dataset":
    """Group the videos of the same pictures; all of it runs when this is called.

    The groups are those of `curate --dedupe`. Each machine holds 264 bytes a video, and 100 in each task that
    compares; this process holds several times that.

    Args:
        dataset: with a column `path`: local files that every machine sees, or URLs that fsspec knows, each
            once. A task reads a block, so that many small blocks are shared out better than a few large ones.

    Returns:
        A dataset with `path`, `group`, a number that is equal within a group, and `error`: why a video, which
        is a group of its own for that, cannot be read; empty for all others.

    Raises:
        InputError: Ray is not installed.

    Example:
        >>> import ray  # doctest: +SKIP
        >>> groups = near_duplicates(ray.data.read_parquet("s3://bucket/manifest.parquet"))  # doctest: +SKIP
    """
    require_ray()
    import ray

    blocks = _hashed(dataset).iter_batches(batch_size=None, batch_format="pyarrow")
    table = pa.concat_tables([FIELDS.empty_table(), *(block.cast(FIELDS) for block in blocks)])
    grouped = table.select(["path", "error"]).append_column(
        "group", pa.array(_groups(unpacked_hashes(table)))
    )
    return ray.data.from_arrow(grouped.combine_chunks())


def group_files(paths: pa.Array, folder: str, *, progress: bool = True) -> tuple[Groups, dict[int, str]]:
    """Group files of the same pictures, as `datamodules.corpus.group_files` does.

    Args:
        paths: (n,) text, each once.
        folder: of the parts that hashes are kept in, local or a URL; a hash that is there is not made again.
        progress: whether Ray shows how far it is.

    Returns:
        (n,) group numbers, equal within a group; and place -> why it could not be read.

    Raises:
        InputError: Ray is not installed, or the folder cannot be written.
    """
    require_ray()
    parts = VideoParts(folder, FIELDS, None, {"hashes": HASH_VERSION})
    if not is_url(folder):
        claim_output(Path(folder))
    END.whole = lambda: f"every hash so far is kept in {folder}"
    parts.resume()
    listed, paths = paths, moved_paths(pa.chunked_array([paths]), name_of(os.getcwd())).combine_chunks()
    left = paths.filter(pc.invert(pc.is_in(paths, value_set=parts.done)))
    with connected_to_ray(progress=progress) as cores:
        if len(left):
            _write_hashes(in_blocks(left, cores), parts)
        arrays, failed = _read_hashes(parts, paths)
        groups = _groups(arrays)
    return groups, {
        place: error.replace(paths[place].as_py(), listed[place].as_py()) for place, error in failed.items()
    }


def _hashed(dataset: "Dataset") -> "Dataset":
    reader = HashReader(os.getcwd())
    return dataset.map_batches(reader, batch_size=None, batch_format="pyarrow", num_cpus=1)


def _write_hashes(paths: "Dataset", parts: VideoParts) -> None:
    """Hash videos; a part is written when it is full or old, and at the end, also that of an interruption."""
    rows: list[Row] = []
    try:
        for block in _hashed(paths).iter_batches(batch_size=None, batch_format="pyarrow"):
            rows += block.to_pylist()
            if parts.due(rows):
                full, rows = rows, []
                parts.write(full, [])
    finally:
        if rows:
            parts.write(rows, [])


def _read_hashes(parts: VideoParts, paths: pa.Array) -> tuple[Arrays, dict[int, str]]:
    """Return the hashes of paths, one part after the other, and place -> why there is none."""
    bytes_of_frame = HASHES.field("hash").type.byte_width // FRAMES
    hashes = np.zeros((len(paths), FRAMES, bytes_of_frame), dtype=np.uint8)
    seen = np.zeros((len(paths), FRAMES), dtype=bool)
    failed: dict[int, str] = {}
    known = parts.videos.rows(["path"])["path"].combine_chunks()
    places, start = pc.index_in(known, value_set=paths), 0
    for name in parts.videos.names():
        part = parts.videos.read(name, ["status", "error", *HASHES.names])
        own, start = places.slice(start, len(part)), start + len(part)
        part, own = part.filter(own.is_valid()), own.drop_null().to_numpy()
        hashes[own], seen[own] = unpacked_hashes(part)
        bad = pc.equal(part["status"], "error")
        failed |= zip(own[bad.to_numpy()].tolist(), part["error"].filter(bad).to_pylist(), strict=True)
    return (hashes, seen), failed


def _groups(arrays: Arrays) -> Groups:
    """Return the group numbers (n,) of videos, which tasks compare."""
    import ray

    reader = BandReader(ray.put(arrays))
    numbers = ray.data.from_items(list(range(len(bands()))), override_num_blocks=len(bands()))
    memory = TASK_BYTES * len(arrays[0])
    links = numbers.map_batches(reader, batch_size=None, batch_format="pyarrow", num_cpus=1, memory=memory)
    found = links.iter_batches(batch_size=None, batch_format="pyarrow")
    return connected([np.column_stack([block["first"], block["second"]]) for block in found], len(arrays[0]))
