"""Mean and deviation of the quality tower's features over versions of real clips, for its data file.

    python benchmarks/quality_statistics.py [--videos ../shared/data/real] [--output FILE]

Every clip is four whole frames from the middle of a video, scaled down by area to 360 lines at most and cut
to 640 columns, as it is and in seven versions: x264 at CRF 22, 32 and 42, blur of 1 and 2 pixels, and noise
of 6 and 14 levels. The last frame of each is measured: its encoder has predicted it from others. The features
of a version weigh as much as those of any other. Everything is computed on the CPU and drawn from one seed,
so that a second run on one machine writes the same file.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from datamodules.codecs import Codec
from datamodules.distortions import gaussian_blur
from datamodules.distortions.camera import gaussian_noise
from datamodules.errors import UnreadableVideo
from datamodules.video import Sampling, probe, read_clip
from vqa_lightning.lmm.quality_features import STATISTICS, quality_features

SAMPLING = Sampling(segments=1, frames=4, window=None)
LINES, COLUMNS = 360, 640
X264 = Codec("x264", "libx264", (22, 32, 42))
BLURS, NOISES = (1.0, 2.0), (6.0, 14.0)
"""Deviations, in pixels and in levels of 255."""

LEAST = 1e-3
"""Of a deviation, as a share of the median deviation: a channel that never changed must not count for all."""


def versions(frames: Tensor, fps: float, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the last frame (3, H, W) in [0, 1] of each version of frames (T, 3, H, W) in bytes."""
    clips = frames[None] / 255
    yield clips[0, -1]
    for level in range(1, len(X264.levels) + 1):
        yield X264(frames, level, fps)[-1] / 255
    for sigma in BLURS:
        yield gaussian_blur(clips, torch.tensor([sigma]))[0, -1]
    for sigma in NOISES:
        yield gaussian_noise(clips, torch.tensor([(sigma / 255) ** 2]), None, generator)[0, -1]


def small(frames: Tensor) -> Tensor:
    """Return frames (T, 3, H, W) in bytes with at most `LINES` lines and `COLUMNS` columns."""
    height, width = frames.shape[-2:]
    if height > LINES:
        size = LINES, round(width * LINES / height)
        frames = F.interpolate(frames.float(), size, mode="area").round().to(torch.uint8)
    start = max(0, frames.shape[-1] - COLUMNS) // 2
    return frames[..., start : start + COLUMNS]


def main() -> None:
    """Measure the features and write their statistics."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--videos", type=Path, default=Path("../shared/data/real"), help="folder of clips")
    parser.add_argument("--output", type=Path, default=STATISTICS, help="the file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    features = []
    for path in sorted(arguments.videos.iterdir()):
        try:
            video = probe(path)
        except UnreadableVideo:
            continue  # sources.csv
        frames = small(read_clip(video, SAMPLING).frames)
        features += [quality_features(one[None]) for one in versions(frames, video.fps, generator)]
    if not features:
        raise SystemExit(f"--videos must hold videos; got {arguments.videos}.")
    measured = torch.cat(features).double()
    deviation, mean = torch.std_mean(measured, dim=0, correction=0)
    least = LEAST * deviation.median()
    statistics = {"mean": mean.float(), "deviation": deviation.clamp(min=least).float()}
    save_file(statistics, arguments.output)
    Console().print(
        f"{len(measured)} frames; deviations {deviation.min():.3g} to {deviation.max():.3g}, "
        f"{int((deviation < least).sum())} raised to {least:.3g}"
    )


if __name__ == "__main__":
    main()
