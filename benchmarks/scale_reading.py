"""What it costs a core to read a video once, for every purpose that a corpus is read for.

    python benchmarks/scale_reading.py [VIDEO ...]

Milliseconds of CPU time on one thread, medians over draws, of real clips of 540p and 720p and of a 1080p one:
the 540p clip scaled up and encoded anew, for there is no real one. Sampling is that of
llava_onevision_0.5b.yaml and llava_onevision_7b.yaml (whole frames) and of round.yaml (windows).
"""

import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch
from experiment import arguments
from rich.console import Console
from rich.table import Table

from datamodules.corpus.duplicates import hash_video
from datamodules.video import Cut, Sampling, Video, probe, read_clip, read_clips

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
REAL = ("vsfa_test.mp4", "bigbuckbunny.mp4")
SAMPLINGS = {
    "0.5B": Sampling(segments=8, frames=4, spacing=1.0, window=None),
    "7B": Sampling(segments=8, frames=16, spacing=1.0, window=None),
    "round.yaml": Sampling(segments=1, frames=4, window=72),
}
DRAWS = 4
"""Clips of a video that a score is the mean of."""

TURNS = 5


def scaled_up(source: Path, target: Path) -> Path:
    """Write the source at 1920 x 1080, x264 at CRF 23."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        rate = Fraction(read.streams.video[0].average_rate or 30)
        stream = written.add_stream("libx264", rate=rate, options={"crf": "23", "preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        for frame in read.decode(video=0):
            written.mux(stream.encode(frame.reformat(1920, 1080, "yuv420p")))
        written.mux(stream.encode(None))
    return target


def milliseconds(read: Callable[[int], object]) -> str:
    """Return the median of CPU time over draws."""
    spent = []
    for draw in range(TURNS):
        began = time.process_time()
        read(draw)
        spent.append(1e3 * (time.process_time() - began))
    return f"{np.median(spent):.0f}"


def costs(video: Video) -> dict[str, str]:
    """Return the milliseconds of each kind of reading."""
    cuts = [Cut(draw) for draw in range(DRAWS)]
    reads: dict[str, Callable[[int], object]] = {
        "probe": lambda draw: probe(video.path),
        "hash for duplicates": lambda draw: hash_video(video),
    }
    for name, sampling in SAMPLINGS.items():
        reads[f"{name}: a side of a pair"] = partial(read_clip, video, sampling)
        reads[f"{name}: a score's {DRAWS} clips"] = lambda draw, s=sampling: read_clips(video, s, cuts)  # type: ignore[misc]
    return {name: milliseconds(read) for name, read in reads.items()}


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("videos", nargs="*", type=Path, default=[CLIPS / name for name in REAL])
    given = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("CPU milliseconds, one thread", title_justify="left")
    with tempfile.TemporaryDirectory() as folder:
        paths = [*given.videos, scaled_up(given.videos[0], Path(folder, "scaled up.mp4"))]
        found = []
        for path in paths:
            video = probe(path)
            size = f"{video.width} x {video.height}, {video.duration:.1f} s"
            table.add_column(f"{path.name}\n{size}", justify="right")
            found.append(costs(video))
    for name in found[0]:
        table.add_row(name, *(each[name] for each in found))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
