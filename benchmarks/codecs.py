"""Speed of codec round trips, and how many workers feed a training step with them.

    python benchmarks/codecs.py ../shared/data/clips/vsfa_test.mp4

For every codec, on the embedded config's window (4 frames of 72 x 72) and on 8 frames of 540p, as the mean
over its levels: round trips per second of processor time, which is what one core gives, with an empty cache
(encode, write, decode) and with a full one (read, decode); the bytes that a clip takes in it; and the workers
that keep up with training steps of 24 pairs in 0.2 s, a share of which (`--share`) has a codec on both sides.
Reading the source video is not counted, nor waiting for the disk.
"""

import tempfile
import time
from pathlib import Path

import torch
from experiment import arguments, table
from rich.console import Console
from torch import Tensor

from datamodules.codecs import CODECS, Codec, CodecCache
from datamodules.video import Sampling, probe, read_clip

PAIRS, STEP_SECONDS = 24, 0.2
SECONDS = 1.0
"""Least time of encoding behind a figure."""


def read_540p(path: Path) -> tuple[Tensor, float]:
    """Read 8 consecutive frames as their 960 x 540 centre, and the video's frame rate."""
    video = probe(path)
    frames = read_clip(video, Sampling(segments=1, frames=8, spacing=None, window=None)).frames
    height, width = frames.shape[-2:]
    if height < 540 or width < 960:
        raise SystemExit(f"{path} is {width} x {height}; give a video of at least 960 x 540.")
    top, left = (height - 540) // 2, (width - 960) // 2
    return frames[:, :, top : top + 540, left : left + 960].contiguous(), video.fps


def measure(codec: Codec, clip: Tensor, fps: float) -> tuple[float, float, float]:
    """Return round trips per second, cold and warm, and bytes per clip, over the codec's levels."""
    levels = range(1, len(codec.levels) + 1)
    spent, trips, size = [0.0, 0.0], 0, 0
    while not trips or spent[0] < SECONDS:
        with tempfile.TemporaryDirectory() as folder:
            cached = CodecCache(folder)
            for level in levels:
                for state in (0, 1):
                    began = time.process_time()
                    cached.round_trip(codec, clip, level, fps)
                    spent[state] += time.process_time() - began
                trips += 1
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return trips / spent[0], trips / spent[1], size / len(levels)


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("video", type=Path, help="a video of at least 960 x 540")
    parser.add_argument("--share", type=float, default=0.25, help="share of pairs with a codec (%(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    whole, fps = read_540p(given.video)
    windows = {"4 x 72 x 72": whole[:4, :, 234:306, 444:516].contiguous(), "8 x 960 x 540": whole}
    needed = 2 * PAIRS * given.share / STEP_SECONDS
    report = table(
        f"Codec round trips on one core; {PAIRS} pairs a {STEP_SECONDS} s step, "
        f"{given.share:.0%} of them encoded: {needed:.0f} clips/s",
        ("window", "codec"),
        ("cold, clips/s", "warm, clips/s", "bytes/clip", "workers cold", "warm"),
    )
    for window, clip in windows.items():
        for codec in CODECS.values():
            cold, warm, size = measure(codec, clip, fps)
            report.add_row(
                window,
                codec.name,
                f"{cold:.1f}",
                f"{warm:.1f}",
                f"{size:.0f}",
                f"{needed / cold:.1f}",
                f"{needed / warm:.1f}",
            )
        report.add_section()
    Console(width=110).print(report)


if __name__ == "__main__":
    main()
