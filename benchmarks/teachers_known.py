"""What teachers know of real clips, and what they cost: ladders of known severity, with the Laplacian beside.

    OMP_NUM_THREADS=1 python benchmarks/teachers_known.py

Two runs of four frames of each video, cut to 384 pixels, get five strengths of x264, blur, noise, JPEG and
down-up scaling, from hardly visible to bad; the last frame of each run is scored. A ladder is the source and
its five versions. The first table prints for each teacher

- pairs: the share of all pairs of a ladder whose milder version scores higher, which asks for no knowledge
  across contents (the Laplacian does well), by ladder and in the mean of the ladders;
- SRCC: Spearman's correlation of score and falling strength over the versions of all contents, the mean of
  the ladders, which rises only where contents are comparable.

Intervals are 95 % of a bootstrap over contents, near-duplicates being one. NIQE (fitted) is fitted to these
very videos, as it is in a run to its train split. The second table prints seconds of one thread a clip, and
how the score of fewer frames than eight follows that of eight over the sources.
"""

import argparse
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from datamodules.bootstrap import bootstrap_interval
from datamodules.codecs import Codec
from datamodules.corpus import build_corpus, find_duplicates, join_contents, videos
from datamodules.distortions import Distortion, gaussian_blur, gaussian_noise, jpeg, resize
from datamodules.labels import ClipDataset, Request
from datamodules.labels.clips import distorted
from datamodules.teachers import Laplacian, Teacher
from datamodules.teachers.artefacts import Artefacts
from datamodules.teachers.natural_scenes.brisque import BRISQUE
from datamodules.teachers.natural_scenes.niqe import NIQE
from datamodules.video import Sampling, Video
from vqa_lightning.metrics import srcc

Floats = npt.NDArray[np.float64]

LADDERS: tuple[Codec | Distortion, ...] = (
    Codec("x264", "libx264", (20, 26, 32, 38, 44), {"preset": "fast"}),
    Distortion("blur", gaussian_blur, (0.5, 1, 1.7, 2.5, 3.4)),
    Distortion("noise", gaussian_noise, tuple((sigma / 255) ** 2 for sigma in (4, 8, 13, 19, 26))),
    Distortion("JPEG", jpeg, (80, 60, 40, 25, 12)),
    Distortion("scaling", resize, (1.5, 2, 2.7, 3.6, 4.6)),
)
LEVELS = 5

JUDGED = Sampling(segments=2, frames=4, window=384)

SIZES = ((240, 320), (360, 640))
"""Lines and columns of the clips whose scoring is timed."""

MOST, FEWER = 8, (1, 2, 4)
"""Frames of a source; which numbers of them are tried."""

TIMED = 10
"""Videos whose reading is timed."""

Scores = Mapping[str, Mapping[str, Floats]]
"""Teacher -> ladder -> scores (videos, levels + 1), the source first."""


def judge(corpus: Sequence[Video], teachers: Mapping[str, Teacher]) -> Scores:
    """Return every teacher's scores of every ladder."""
    found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in teachers}
    versions: list[tuple[Codec | Distortion | None, int]] = [(None, 0)]
    versions += [(ladder, level) for ladder in LADDERS for level in range(1, LEVELS + 1)]
    requests = [Request(video, *version) for video in corpus for version in versions]
    last = slice(JUDGED.frames - 1, None, JUDGED.frames)
    for item in ClipDataset(requests, JUDGED, pad=False).read(0):
        request = requests[item.position]
        clips = distorted(item.frames[:, last], item.times[:, last], request)
        ladders = LADDERS if request.simulator is None else (request.simulator,)
        for name, teacher in teachers.items():
            score = teacher.score(clips).item()
            for ladder in ladders:
                found[name][ladder.name].append(score)
    return {
        name: {ladder: np.reshape(values, (-1, LEVELS + 1)) for ladder, values in own.items()}
        for name, own in found.items()
    }


def in_order(scores: Floats) -> float:
    """Return the share of pairs in order of ladders (videos, levels + 1); a tie counts half."""
    pairs = [scores[:, mild] - scores[:, harsh] for mild, harsh in combinations(range(scores.shape[1]), 2)]
    return float(np.mean((np.sign(pairs) + 1) / 2))


def follows(scores: Floats) -> float:
    """Return SRCC of score and falling strength over all contents."""
    return srcc(scores.ravel(), np.tile(-np.arange(scores.shape[1]), len(scores)))


def cell(statistic: Callable[[Floats], float], scores: Sequence[Floats], contents: Sequence[str]) -> str:
    """Return the mean of a statistic over ladders, with its interval: `0.71 [0.65, 0.77]`."""

    def mean(*ladders: Floats) -> float:
        return float(np.mean([statistic(ladder) for ladder in ladders]))

    low, high = bootstrap_interval(mean, *scores, groups=list(contents), draws=300)
    return f"{mean(*scores):.2f} [{low:.2f}, {high:.2f}]"


def scoring_seconds(teacher: Teacher, frame: Tensor) -> list[float]:
    """Return the least of five times of scoring a clip of each of `SIZES`, CPU seconds."""
    found = []
    for height, width in SIZES:
        window = teacher.sampling.window or max(height, width)
        side = None if max(height, width) <= window else min(window, height, width)
        clip = F.interpolate(frame, (height, width), mode="area")[..., :side, :side]
        clips = clip.expand(1, teacher.sampling.segments, *clip.shape[1:]).contiguous()
        seconds = []
        for _ in range(5):
            began = time.process_time()
            teacher.score(clips)
            seconds.append(time.process_time() - began)
        found.append(min(seconds))
    return found


def reading_seconds(corpus: Sequence[Video], sampling: Sampling) -> float:
    """Return CPU seconds of reading a clip, in the mean."""
    corpus = corpus[:: math.ceil(len(corpus) / TIMED)]
    began = time.process_time()
    for _ in ClipDataset([Request(video) for video in corpus], sampling, pad=False).read(0):
        pass
    return (time.process_time() - began) / len(corpus)


def by_frame(corpus: Sequence[Video], teachers: Mapping[str, Teacher]) -> Mapping[str, Floats]:
    """Return every teacher's scores of single frames of the sources, (videos, MOST)."""
    sampling = Sampling(segments=MOST, frames=1, window=512)
    found: dict[str, list[list[float]]] = {name: [] for name in teachers}
    for item in ClipDataset([Request(video) for video in corpus], sampling, pad=False).read(0):
        for name, teacher in teachers.items():
            found[name].append(teacher.score(item.frames[0][:, None] / 255).tolist())
    return {name: np.array(values) for name, values in found.items()}


def main() -> None:
    """Score, time and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", nargs="+", default=["../shared/data/real", "../shared/data/clips"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        # One manifest, so that near-duplicates are found between the folders too.
        manifest = Path(folder) / "videos.csv"
        paths = [video.path for place in args.videos for video in videos(build_corpus(place))]
        manifest.write_text("\n".join(["path", *(os.path.abspath(path) for path in paths)]))
        table = build_corpus(manifest)
        corpus = videos(join_contents(table, find_duplicates(table)))
    contents = [video.content for video in corpus]

    fitted = NIQE("fitted")
    fitted.prepare(corpus)
    fitted.fit(0)
    teachers: dict[str, Teacher] = {
        "NIQE": NIQE(), "NIQE (fitted)": fitted, "BRISQUE": BRISQUE(), "Artefacts": Artefacts(),
        "Laplacian": Laplacian(),
    }  # fmt: skip
    with torch.inference_mode():
        scores = judge(corpus, teachers)
        frames = by_frame(corpus, teachers)
        middle = next(iter(ClipDataset([Request(corpus[0])], JUDGED, pad=False).read(0)))
        seconds = {
            name: scoring_seconds(teacher, middle.frames[0, :1] / 255) for name, teacher in teachers.items()
        }
        reading = reading_seconds(corpus, teachers["NIQE"].sampling)

    console = Console(width=130)
    table = Table(
        title=f"Ladders: {len(corpus)} videos, {len(set(contents))} contents; pairs in order",
        title_justify="left",
    )
    for column in ("teacher", *(ladder.name for ladder in LADDERS), "pairs, mean", "SRCC across contents"):
        table.add_column(column)
    for name, own in scores.items():
        ladders = list(own.values())
        table.add_row(
            name,
            *(f"{in_order(ladder):.2f}" for ladder in ladders),
            cell(in_order, ladders, contents),
            cell(follows, ladders, contents),
        )
    console.print(table)

    table = Table(
        title=f"Cost of one thread; reading 4 frames of one of these clips takes {1000 * reading:.0f} ms",
        title_justify="left",
    )
    for column in ("teacher", *(f"{width} x {height}: ms" for height, width in SIZES)):
        table.add_column(column)
    for count in FEWER:
        table.add_column(f"SRCC of {count} with {MOST} frames", justify="right")
    for name, own in frames.items():
        whole = np.nanmean(own, axis=1)
        few = [
            srcc(np.nanmean(own[:, MOST // count // 2 :: MOST // count], axis=1), whole) for count in FEWER
        ]
        table.add_row(
            name, *(f"{1000 * each:.0f}" for each in seconds[name]), *(f"{value:.3f}" for value in few)
        )
    console.print(table)


if __name__ == "__main__":
    main()
