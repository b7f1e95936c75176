"""Near-duplicates: videos of the same pictures, found by perceptual hashes and kept together by one content.

Frames at relative times are hashed by the signs of their low frequencies, so that another size, codec or tone
and a moderate distortion change few bits. Black bars are cut off and flat frames left out, for equal bars and
equal black frames would make unlike videos alike.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.nn.functional as F
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from datamodules.corpus.table import measure_videos, videos
from datamodules.errors import UnreadableVideo
from datamodules.files import FileCache, cache_folder
from datamodules.files.file_cache import Row
from datamodules.names import file_of, name_of
from datamodules.video import Video, luma, probe
from datamodules.video.frame_runs import read_runs

FRAMES = 8  # hashed frames of a video, in the middles of equal parts of its duration

GRID = 16  # lowest frequencies along each axis

BITS = GRID * GRID - 1  # of a frame, without the mean

THRESHOLD = 0.25
"""Largest share of differing bits of near-duplicates. Of two unrelated frames half the bits differ, with a
deviation of .032 (measured; .031 if bits were independent). At .25, 7.8 deviations away, the 5e11 pairs of a
million videos give 2e-3 false duplicates even if every video is a still, whose frames all have one hash."""

FLAT = 2.0  # deviation over a thumbnail, of 255, below which there is only noise

BLACK = 12.0  # brightest luma of a bar, of 255: black after compression

THUMBNAIL, PICTURE = 128, 32  # pixels of a side, before and after bars are cut off

LOW_BITS = 64  # lowest frequencies of a frame, of which bands are made

BAND_BITS = 16
"""Two videos are compared if a band, the same 16 of some frame's 63 lowest bits, is equal. If one bit in ten
differs, one of the 32 bands is equal with probability .998."""

NEIGHBOURS = 256
"""Most videos that each video is compared with in a band, so that a crowd of alike videos does not cost its
square; the crowd is chained by neighbours."""

HASH_VERSION = 1  # raise it when the same file would hash otherwise

HASHES = pa.schema([("hash", pa.binary(FRAMES * GRID * GRID // 8)), ("frames", pa.int32())])
"""What `hash_video` returns, in one row: all bits, and the bits of which frames count."""

AT_ONCE = 1 << 14
"""Files whose cached rows are Python objects at a time."""

_DESCRIPTION = "Looking for duplicates"

_log = logging.getLogger(__name__)


def hash_video(video: Video) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Hash the frames of a video by the DCT of a thumbnail (pHash; Zauner, 2010).

    Returns:
        Packed bits (FRAMES, GRID^2 / 8), row by row: whether a frequency exceeds the frame's median; the bit
        of the mean is 0. And (FRAMES,) which of the frames are there and not flat.

    Raises:
        UnreadableVideo: the file gives no frame.
    """
    times = [(index + 0.5) / FRAMES * video.duration for index in range(FRAMES)]
    thumbnails = torch.stack([_thumbnail(run[0]) for run in read_runs(video, times, 1)])
    inside = thumbnails.amax(dim=0) > BLACK
    rows, columns = inside.any(dim=1).nonzero(), inside.any(dim=0).nonzero()
    if len(rows):
        thumbnails = thumbnails[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    pictures = F.interpolate(thumbnails[:, None], (PICTURE, PICTURE), mode="area")[:, 0].numpy()

    frequencies = dctn(pictures, axes=(1, 2))[:, :GRID, :GRID].reshape(len(pictures), -1)[:, 1:]
    bits = np.zeros((FRAMES, GRID * GRID), dtype=bool)
    bits[: len(pictures), 1:] = frequencies > np.median(frequencies, axis=1, keepdims=True)
    seen = np.zeros(FRAMES, dtype=bool)
    seen[: len(pictures)] = pictures.std(axis=(1, 2)) > FLAT
    return np.packbits(bits, axis=1), seen


def _thumbnail(frame: Tensor) -> Tensor:
    """Return the luma (THUMBNAIL, THUMBNAIL) of RGB uint8 (3, H, W)."""
    return F.interpolate(luma(frame.float())[None, None], (THUMBNAIL, THUMBNAIL), mode="area")[0, 0]


def find_duplicates(
    corpus: pa.Table, *, cache: Path | None = None, workers: int | None = None, progress: bool = True
) -> list[list[str]]:
    """Group the videos of the same pictures; hashes are computed once per file and kept beside the corpus.

    A copy that was cut shorter or mirrored is not found, nor a copy with other borders than black.

    Args:
        corpus: as `build_corpus` returns it.
        cache: folder of the cache; by default the user's.
        workers: threads; by default as many as there are cores.
        progress: whether to show a bar on stderr while files are hashed.

    Returns:
        Groups of two or more video ids, in the order of the corpus.

    Raises:
        InputError: the cache folder cannot be written.
    """
    store = hash_store(cache or cache_folder())
    rows = measure_videos(corpus, store, _row, workers=workers, description=_DESCRIPTION, progress=progress)
    if not rows:
        return []
    hashes, seen = (np.stack(parts) for parts in zip(*map(_unpacked, rows.values()), strict=True))
    groups: dict[int, list[str]] = {}
    for video_id, label in zip(rows, group_hashes(hashes, seen).tolist(), strict=True):
        groups.setdefault(label, []).append(video_id)
    return [group for group in groups.values() if len(group) > 1]


def group_files(
    paths: pa.Array, *, cache: Path | None = None, workers: int | None = None, progress: bool = True
) -> tuple[npt.NDArray[np.int32], dict[int, str]]:
    """Group files of the same pictures, whatever corpus they are of; hashes are those of `find_duplicates`.

    Args:
        paths: (n,) text, each once.
        cache: folder of the cache; by default the user's.
        workers: threads; by default as many as there are cores.
        progress: whether to show a bar on stderr while files are hashed.

    Returns:
        (n,) group numbers, equal within a group; and place -> why it could not be read, of files that are
        groups of their own for that.

    Raises:
        InputError: the cache folder cannot be written.
    """
    store = hash_store(cache or cache_folder())
    hashes = np.zeros((len(paths), FRAMES, GRID * GRID // 8), dtype=np.uint8)
    seen = np.zeros((len(paths), FRAMES), dtype=bool)
    failed: dict[int, str] = {}
    pool = pa.default_memory_pool()
    pool.release_unused()  # what Arrow has freed counts until then, hundreds of MB of it
    for start in range(0, len(paths), AT_ONCE):
        files = [file_of(path) for path in paths.slice(start, AT_ONCE).to_pylist()]
        found = store.rows(files, hash_file, workers=workers, description=_DESCRIPTION, progress=progress)
        for place, file in enumerate(files, start):
            row = found[file]
            if isinstance(row, UnreadableVideo):
                listed = paths[place].as_py()
                failed[place] = str(row).replace(name_of(file), listed)
            else:
                hashes[place], seen[place] = _unpacked(row)
    pool.release_unused()
    return group_hashes(hashes, seen), failed


def hash_store(cache: Path) -> FileCache:
    """Return where the hashes of files are kept in a cache folder."""
    return FileCache(cache / "hashes.parquet", HASHES, HASH_VERSION)


def hash_file(file: Path) -> Row:
    """Return what is kept of a file's frames, with the columns of HASHES, on one thread.

    Raises:
        UnreadableVideo: the file gives no frame.
    """
    torch.set_num_threads(1)  # of this thread: videos are the parallelism
    return _row(probe(file))


def _row(video: Video) -> Row:
    hashes, seen = hash_video(video)
    return {"hash": hashes.tobytes(), "frames": int(np.packbits(seen)[0])}


def _unpacked(row: Row) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Return what `hash_video` did."""
    hashes = np.frombuffer(row["hash"], np.uint8).reshape(FRAMES, -1)
    return hashes, np.unpackbits(np.array([row["frames"]], np.uint8)).astype(bool)


def unpacked_hashes(table: pa.Table) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Return what `group_hashes` takes.

    Args:
        table: (n,) with the columns of HASHES; where they are null, no frame counts.
    """
    packed = pc.fill_null(table["hash"], bytes(HASHES.field("hash").type.byte_width)).combine_chunks()
    frames = pc.fill_null(table["frames"], 0).to_numpy().astype(np.uint8)
    hashes = np.frombuffer(packed.buffers()[1], np.uint8).reshape(-1, FRAMES, GRID * GRID // 8)
    first = packed.offset
    return hashes[first : first + len(packed)], np.unpackbits(frames[:, None], axis=1).astype(bool)


def group_hashes(hashes: npt.NDArray[np.uint8], seen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Find the groups of videos that are connected by near-duplicates.

    Args:
        hashes: (n, FRAMES, GRID^2 / 8) packed bits.
        seen: (n, FRAMES) which frames count.

    Returns:
        (n,) group numbers, equal within a group.
    """
    return connected([links_in_band(band, hashes, seen) for band in bands()], len(hashes))


class Band(NamedTuple):
    """Some bits of a frame's hash: videos that have them alike are compared.

    Attributes:
        frame: which of FRAMES.
        bits: (BAND_BITS or one less,) places among the frame's 64 lowest bits.
    """

    frame: int
    bits: npt.NDArray[np.int64]


def bands() -> list[Band]:
    """Return all bands, always the same: four of each frame."""
    generator = np.random.default_rng(0)
    # Each frame's bands have other bits: the frames of a still video are all alike. Bit 0 says nothing.
    return [
        Band(frame, bits)
        for frame in range(FRAMES)
        for bits in np.array_split(1 + generator.permutation(LOW_BITS - 1), LOW_BITS // BAND_BITS)
    ]


def connected(links: Sequence[npt.NDArray[np.int64]], count: int) -> npt.NDArray[np.int32]:
    """Return numbers (n,) of the connected components of `count` nodes, by arrays (m, 2) of their links."""
    both = np.concatenate([np.empty((0, 2), dtype=np.int64), *links])
    graph = coo_array((np.ones(len(both), dtype=bool), tuple(both.T)), shape=(count, count))
    labels: npt.NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return labels


def _keys(band: Band, rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """Return the bits of a band as numbers (m,), of the first byte of each of a frame's first rows (m, 8)."""
    low = np.unpackbits(rows, axis=1)
    return np.ascontiguousarray(np.packbits(low[:, band.bits], axis=1)).view(np.uint16)[:, 0]


def links_in_band(
    band: Band, hashes: npt.NDArray[np.uint8], seen: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Return near-duplicate pairs (m, 2) of videos whose band is alike; arrays are `group_hashes`'s."""
    frame, words = band.frame, np.ascontiguousarray(hashes).view(np.uint64)
    members = np.flatnonzero(seen[:, frame])
    keys = _keys(band, hashes[members, frame, : GRID : GRID // 8])
    order = np.argsort(keys, kind="stable")
    keys, members = keys[order], members[order]
    links = []
    starts = np.arange(len(keys))
    for step in range(1, NEIGHBOURS + 1):
        starts = starts[starts + step < len(keys)]
        starts = starts[keys[starts] == keys[starts + step]]
        if not len(starts):
            break
        first, second = members[starts], members[starts + step]
        # If all frames are alike on average, some frame is: this frame is tried before all are fetched.
        differing = np.zeros(len(first), dtype=np.uint16)
        for word in range(words.shape[2]):  # one by one: all at once are the most memory of it all
            differing += np.bitwise_count(words[first, frame, word] ^ words[second, frame, word])
        alike = differing <= THRESHOLD * BITS
        first, second = first[alike], second[alike]
        links.append(np.column_stack([first, second])[distances(words, seen, first, second) <= THRESHOLD])
    return np.concatenate(links) if links else np.empty((0, 2), dtype=np.int64)


def distances(
    words: npt.NDArray[np.uint64],
    seen: npt.NDArray[np.bool_],
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return the share of differing bits over the frames that both videos of a pair have, 0 to 1.

    Args:
        words: (n, FRAMES, GRID^2 / 64) hashes.
        seen: (n, FRAMES) which frames count.
        first: (m,) one video of each pair.
        second: (m,) the other.

    Returns:
        (m,); 1 where less than half of the frames count.
    """
    both = seen[first] & seen[second]
    differing = np.bitwise_count(words[first] ^ words[second]).sum(axis=2)
    frames = both.sum(axis=1)
    shares = (differing * both).sum(axis=1) / np.maximum(frames, 1) / BITS
    return np.where(frames >= FRAMES / 2, shares, 1.0)


def join_contents(corpus: pa.Table, groups: Sequence[Sequence[str]]) -> pa.Table:
    """Make near-duplicates one content, so that splits, intervals and pairs treat them as such.

    Contents that share a group become one content, with the name of the first. Where a manifest itself put
    the videos of a group into different splits, they stay there, with a warning: a person typed the split,
    and the group is only a finding.

    Args:
        corpus: as `build_corpus` returns it, before `assign_splits`.
        groups: as `find_duplicates` returns them.

    Returns:
        The corpus with its column `content` changed.
    """
    readable = videos(corpus)
    contents = {video.video_id: video.content for video in readable}
    names = list(dict.fromkeys(contents.values()))
    number = {name: index for index, name in enumerate(names)}
    given = {video.content: video.split for video in readable if video.split}
    links = []
    for group in groups:
        members = [contents[video_id] for video_id in group]
        splits = sorted({given[content] for content in members if content in given})
        if len(splits) > 1:
            paths = [video.path for video in readable if video.video_id in group]
            _log.warning(
                "%s look the same, but the manifest puts them into the splits %s; they stay there.",
                " and ".join(paths),
                " and ".join(splits),
            )
            continue
        links += [(number[members[0]], number[content]) for content in members[1:]]
    labels = connected([np.array(links, dtype=np.int64).reshape(-1, 2)], len(names)).tolist()
    joint: dict[int, str] = {}
    renamed = {name: joint.setdefault(label, name) for name, label in zip(names, labels, strict=True)}
    column = [renamed.get(content, content) for content in corpus["content"].to_pylist()]
    place = corpus.schema.get_field_index("content")
    return corpus.set_column(place, "content", pa.array(column, pa.string()))
