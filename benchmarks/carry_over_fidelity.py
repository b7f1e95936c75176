"""How far each version of a real clip fell from its source: SSIM and VMAF, in a table beside the files.

VMAF comes from libvmaf; where no FFmpeg has it the column stays empty, and is filled by the first call that
finds one.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from av.video.frame import VideoFrame
from carry_over_clips import Source
from carry_over_versions import LEVELS, RECIPE, Version, make_version, stored, versions
from torch import Tensor

from datamodules.fidelity import ssim, vmaf
from datamodules.fidelity.libvmaf import find_ffmpeg
from datamodules.files import written_whole
from datamodules.video.probing import fingerprint

TABLE = "versions.parquet"

SCHEMA = pa.schema(
    {
        "clip": pa.string(),
        "repo": pa.string(),
        "ladder": pa.string(),
        "level": pa.int32(),
        "name": pa.string(),
        "file": pa.string(),
        "video_id": pa.string(),
        "ssim": pa.float64(),
        "vmaf": pa.float64(),
    }
)


@dataclass(frozen=True)
class Row:
    """A version of a real clip.

    Attributes:
        clip: its content.
        repo: the repository of its content.
        ladder: of `LEVELS`, "chain" or "source".
        level: as in `Version`.
        name: of the version.
        file: where it lies.
        video_id: of the file.
        ssim: to the source, of the luma, the mean over frames.
        vmaf: to the source, of the luma, the mean over frames; None without FFmpeg.
    """

    clip: str
    repo: str
    ladder: str
    level: int
    name: str
    file: str
    video_id: str
    ssim: float
    vmaf: float | None


def luma_of(frames: Sequence[VideoFrame]) -> Tensor:
    """Return the luma (T, H, W) of stored frames in limited range, in [0, 1]."""
    planes = np.stack([frame.to_ndarray()[: frame.height] for frame in frames])
    return ((torch.from_numpy(planes).float() - 16) / 219).clamp(0, 1)


def clip_folder(cache: Path, source: Source, native: bool) -> Path:
    """Return where the versions of a clip lie; another recipe or another file has another folder."""
    size = "native" if native else "360"
    return cache / f"{size}-{RECIPE}" / f"{source.name}-{source.video.video_id[:8]}"


def read_rows(folder: Path) -> list[Row]:
    """Return the rows of a clip's folder, with the places of the files as they are now."""
    table = folder / TABLE
    if not table.is_file():
        return []
    rows = [Row(**row) for row in pa.parquet.read_table(table).to_pylist()]
    rows = [replace(row, file=str(folder / Path(row.file).name)) for row in rows]
    return [row for row in rows if Path(row.file).is_file()]


def clip_rows(
    source: Source, cache: Path, ladders: Sequence[str], native: bool, ffmpeg: str | None
) -> list[Row]:
    """Make the versions of a clip that are missing, compare them with their source, and keep the table."""
    torch.set_num_threads(1)
    folder = clip_folder(cache, source, native)
    wanted = versions(source.name, ladders)
    known = {row.name: row for row in read_rows(folder)}
    missing = [
        version
        for version in wanted
        if version.name not in known or (ffmpeg is not None and known[version.name].vmaf is None)
    ]
    if missing:
        origin = make_version(source.video, source.name, Version("source", 0), folder, native)
        source_luma = luma_of(stored(origin))
        for version in missing:
            file = make_version(source.video, source.name, version, folder, native)
            luma = luma_of(stored(file))
            known[version.name] = Row(
                *(source.name, source.repo, version.ladder, version.level, version.name, file.name),
                fingerprint(file),
                float(ssim(luma, source_luma).mean()),
                None if ffmpeg is None else float(vmaf(luma[None], source_luma[None], route="libvmaf")),
            )
        rows = [asdict(row) | {"file": Path(row.file).name} for row in known.values()]
        with written_whole(folder / TABLE) as hidden:
            pa.parquet.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), hidden)
    return [replace(known[version.name], file=str(folder / f"{version.name}.mp4")) for version in wanted]


def all_rows(
    clips: Sequence[Source],
    cache: Path,
    ladders: Sequence[str] = tuple(LEVELS),
    native: bool = False,
    jobs: int = 1,
) -> Iterator[list[Row]]:
    """Yield the rows of each clip, in order, made in `jobs` processes where they are missing."""
    make: Callable[[Source], list[Row]] = partial(
        clip_rows, cache=cache, ladders=ladders, native=native, ffmpeg=find_ffmpeg()
    )
    if jobs == 1:
        yield from map(make, clips)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(make, clips)
