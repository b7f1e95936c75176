"""How long the package's scorer takes for a file, decoding included: the median of some turns, and its parts.

    python benchmarks/scorer_speed.py FILE [--threads 1]

Printed are seconds by the clock, seconds of CPU time, which other processes on the machine change less, and
frames of the file for each second of CPU time.
"""

import time
from pathlib import Path
from statistics import median

import torch
from experiment import arguments

from datamodules.labels import ClipDataset, Request
from datamodules.video import probe
from vqa_lightning import Scorer


def main() -> None:
    """Score and print."""
    parser = arguments(__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    scorer, video = Scorer(device="cpu"), probe(args.file)
    module = scorer._module
    whole, read = [], []
    scorer.score(args.file)
    for _ in range(args.turns):
        clock, cpu = time.perf_counter(), time.process_time()
        scorer.score(args.file)
        whole.append((time.perf_counter() - clock, time.process_time() - cpu))
        cpu = time.process_time()
        ClipDataset([Request(video)], module.score_sampling, module.scoring.draws)[0].frames.sum()
        read.append(time.process_time() - cpu)
    clock, cpu = (median(column) for column in zip(*whole, strict=True))
    frames = video.duration * video.fps
    print(f"{args.file.name}: {video.width} x {video.height}, {video.duration:.1f} s, {frames:.0f} frames")
    print(f"{args.threads} threads: {clock:.2f} s by the clock, {cpu:.2f} s of CPU time, of which decoding")
    print(f"{median(read):.2f} s; {frames / cpu:.0f} frames of the file for each second of CPU time")


if __name__ == "__main__":
    main()
