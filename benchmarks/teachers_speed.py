"""What teachers cost beside the decoding of what they look at: each alone, and all of a run together.

    OMP_NUM_THREADS=1 python benchmarks/teachers_speed.py [--videos FOLDER ...] [--every 1] [--turns 5]

Milliseconds of CPU time on one thread for a video's clip of four frames, as the workers of a run read and
score it: the sum over the videos of the median over the turns, by the number of videos. In each turn
every video is read, scored by each teacher alone, and by all together. Without `--videos` the embedded corpus
is rendered first. Videos are grouped by the lines of their frames; frames of more than 512 lines or columns
are cut to a square of 512, but decoded whole.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from experiment import arguments, table
from rich.console import Console

from datamodules.corpus import build_corpus, videos
from datamodules.labels import ClipDataset, Request
from datamodules.procedural import write_corpus
from datamodules.teachers import Laplacian, Teacher
from datamodules.teachers.artefacts import Artefacts
from datamodules.teachers.natural_scenes.brisque import BRISQUE
from datamodules.teachers.natural_scenes.niqe import NIQE
from datamodules.teachers.scored_clips import Scoring
from datamodules.video import Video

GROUPS = (("up to 300 lines", 300), ("up to 500", 500), ("more", 1 << 30))

READ, TOGETHER = "decoding", "together"


def timed(call: Callable[[], object]) -> float:
    """Return the milliseconds of CPU time of a call."""
    began = time.thread_time()
    call()
    return 1000 * (time.thread_time() - began)


def turn(video: Video, teachers: Sequence[Teacher]) -> dict[str, float]:
    """Read and score one video in all ways; return milliseconds."""
    request, sampling = Request(video), teachers[0].sampling
    item = ClipDataset([request], sampling, pad=False)[0]
    asked = {teacher.name: {request.key} for teacher in teachers}
    ways = {teacher.name: Scoring([teacher], asked, None, False) for teacher in teachers}
    ways[TOGETHER] = Scoring(teachers, asked, None, False)
    found = {READ: timed(lambda: ClipDataset([request], sampling, pad=False)[0])}
    return found | {name: timed(lambda way=way: way(request, item)) for name, way in ways.items()}


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", nargs="+", type=Path)
    parser.add_argument("--every", type=int, default=1, help="takes one in so many videos")
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    teachers = [NIQE(), BRISQUE(), Artefacts(), Laplacian()]
    with TemporaryDirectory() as folder:
        places = args.videos or [write_corpus(Path(folder))]
        corpus = [video for place in places for video in videos(build_corpus(str(place)))]
        corpus = [video for video in corpus if video.status == "ok"][:: args.every]
        taken: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for _ in range(args.turns):
            for video in corpus:
                for way, milliseconds in turn(video, teachers).items():
                    taken[video.path][way].append(milliseconds)

    ways = (READ, *(teacher.name for teacher in teachers), TOGETHER)
    report = table(
        f"Milliseconds a video, one thread, median of {args.turns} turns; ratio: with decoding, to decoding",
        ["videos", ""],
        (*ways, "ratio"),
    )
    groups, least = {"all": corpus}, 0
    for name, most in GROUPS:
        groups[name] = [video for video in corpus if least < video.height <= most]
        least = most
    for name, some in groups.items():
        if some:
            mean = {way: sum(median(taken[one.path][way]) for one in some) / len(some) for way in ways}
            ratio = (mean[READ] + mean[TOGETHER]) / mean[READ]
            report.add_row(name, str(len(some)), *(f"{mean[way]:.1f}" for way in ways), f"{ratio:.2f}")
    Console(width=130).print(report)


if __name__ == "__main__":
    main()
