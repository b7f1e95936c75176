"""How long the package's scorer takes for a file, decoding included: the median of some turns, and its parts.

    python benchmarks/scorer_speed.py FILE [--threads 1]

Printed are seconds by the clock and of CPU time, which other processes on the machine change less, and frames
of the file for each second of CPU time; then CPU seconds of each part and its share. All operations are
counted (FlopCounterMode; nearly all are the tower's) and held against a product of two matrices of 1024 lines
in the same run: the share of what the machine can do. The rest is what lies between, copies above all.
"""

import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from experiment import arguments, table
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from datamodules.video.colour import WindowConverter
from datamodules.video.readers import FileReader
from vqa_lightning import Scorer
from vqa_lightning.annotators import scorer as scoring
from vqa_lightning.lmm import quality_tower
from vqa_lightning.lmm.motion import FrameDifferences
from vqa_lightning.scoring import ScoringModule

PARTS: dict[str, tuple[Any, str]] = {
    "probe": (scoring, "probe"),
    "decode": (FileReader, "run"),
    "to RGB": (WindowConverter, "__call__"),
    "tower": (quality_tower, "quality_features"),
    "motion": (FrameDifferences, "features"),
}
MODEL = "model"
"""What `rate_video` takes beyond tower and motion: floats, prompt, language model."""

SIDE = 1024


@contextmanager
def timed(seconds: dict[str, float]) -> Iterator[None]:
    """Add the CPU seconds of each part to its name."""

    def watch(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*given: Any, **named: Any) -> Any:
            began = time.process_time()
            found = call(*given, **named)
            seconds[name] += time.process_time() - began
            return found

        return watched

    with ExitStack() as stack:
        for name, (place, attribute) in {**PARTS, MODEL: (ScoringModule, "rate_video")}.items():
            stack.enter_context(patch.object(place, attribute, watch(name, getattr(place, attribute))))
        yield


def product_rate() -> float:
    """Return the operations a CPU second of a product of matrices."""
    square = torch.rand(SIDE, SIDE)
    began = time.process_time()
    for _ in range(5):
        square @ square
    return 5 * 2 * SIDE**3 / (time.process_time() - began)


def main() -> None:
    """Score and print."""
    parser = arguments(__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    scorer = Scorer(device="cpu")
    video = scoring.probe(args.file)
    with FlopCounterMode(display=False) as counter:
        scorer.score(args.file)
    turns: list[dict[str, float]] = []
    for _ in range(args.turns):
        seconds: dict[str, float] = defaultdict(float)
        rate, clock, cpu = product_rate(), time.perf_counter(), time.process_time()
        with timed(seconds):
            scorer.score(args.file)
        spent = time.process_time() - cpu
        seconds[MODEL] -= seconds["tower"] + seconds["motion"]
        seconds["rest"] = spent - sum(seconds.values())
        share = counter.get_total_flops() / rate / seconds["tower"]
        turns.append({**seconds, "clock": time.perf_counter() - clock, "cpu": spent, "share": share})
    middle = {name: median(turn[name] for turn in turns) for name in turns[0]}
    frames = video.duration * video.fps
    print(f"{args.file.name}: {video.width} x {video.height}, {video.duration:.1f} s, {frames:.0f} frames")
    print(
        f"{args.threads} threads: {middle['clock']:.2f} s by the clock, {middle['cpu']:.2f} s of CPU time: "
        f"{frames / middle['cpu']:.0f} frames of the file for each second of CPU time"
    )
    report = table("Parts", ["part"], ("CPU seconds", "share"))
    for name in (*PARTS, MODEL, "rest"):
        report.add_row(name, f"{middle[name]:.2f}", f"{100 * middle[name] / middle['cpu']:.0f} %")
    Console(width=100).print(report)
    flops = counter.get_total_flops() / 1e9
    print(f"{flops:.1f} GFLOP, {100 * middle['share']:.0f} % of the bound in the tower")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB at the peak")


if __name__ == "__main__":
    main()
