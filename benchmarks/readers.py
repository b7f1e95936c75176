"""TorchCodec beside our reader: how far its frames are from ours, and how long either takes for them.

    python benchmarks/readers.py [--clips FOLDER] [--turns 5]

Needs `pip install torchcodec` and shared libraries of FFmpeg. Both read the same whole frames, the two clips
that the model of round.yaml is shown, with one thread and the file opened anew, in turns. TorchCodec
finds them by our times. The difference is that of 8-bit RGB.
"""

import argparse
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import Tensor

from datamodules.corpus import build_corpus, videos
from datamodules.video import Cut, Sampling, Video, read_clips

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
WHOLE = Sampling(frames=8, window=None)
CUTS = [Cut(0), Cut(1)]


def torchcodec_frames(video: Video, times: Tensor) -> Tensor:
    """Return the frames (T, 3, H, W) that TorchCodec shows at times (T,) from the video's start."""
    from torchcodec.decoders import VideoDecoder  # of no extra: no reader of ours is made of it

    decoder = VideoDecoder(video.path)
    begin = decoder.metadata.begin_stream_seconds
    asked = times + begin + 0.25 / video.fps  # within the frame, whatever the rounding
    return decoder.get_frames_played_at(asked.tolist()).data


def main() -> None:
    """Print one row a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, default=CLIPS)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("file", "PyAV ms", "TorchCodec ms", "ratio", "largest", "mean", "above 1 %", box=SIMPLE)
    totals = [0.0, 0.0]
    for video in videos(build_corpus(given.clips)):
        taken: tuple[list[float], list[float]] = ([], [])
        for _ in range(given.turns):
            start = perf_counter()
            clips = read_clips(video, WHOLE, CUTS)
            middle = perf_counter()
            times = torch.cat([clip.times for clip in clips])
            theirs = torchcodec_frames(video, times)
            for one, seconds in zip(taken, (middle - start, perf_counter() - middle), strict=True):
                one.append(seconds)
        ours, other = map(median, taken)
        totals = [totals[0] + ours, totals[1] + other]
        frames = torch.cat([clip.frames for clip in clips])
        cells = ["another size", "", ""]
        if theirs.shape == frames.shape:
            off = (theirs.int() - frames.int()).abs()
            above = 100 * (off > 1).float().mean()
            cells = [str(off.max().item()), f"{off.float().mean():.2f}", f"{above:.0f}"]
        name = Path(video.path).name
        table.add_row(name, f"{1e3 * ours:.0f}", f"{1e3 * other:.0f}", f"{ours / other:.2f}", *cells)
    table.add_row(
        "all", *(f"{1e3 * total:.0f}" for total in totals), f"{totals[0] / totals[1]:.2f}", "", "", ""
    )
    Console().print(table)


if __name__ == "__main__":
    main()
