"""What the motion path gives: rank accuracy where only time is distorted, with and without it.

    python benchmarks/motion.py [--videos FOLDER] [--pairs 2400] [--seeds 0 1 2] [--jobs 1]

Embedded models are trained on equally many pairs of one source under stutter, jitter or a lower frame rate,
hence for equally many steps, and judge the same pairs of the report split, of contents that none has seen:

- first frame: the tower sees the first frame of four, and there is no motion path;
- all frames: the tower sees all four, and there is no motion path;
- differences, r2plus1d_18 frozen at random weights, r2plus1d_18 trained from scratch: the tower sees the
  first frame, the motion path all four. The backbone reads 31.5 M parameters for each token and is left out
  where there is no GPU, unless `--arms` names it.

The first frame alone tells nothing of stutter and frame rate: there it is at chance. Seeds are those of the
initial weights; their answers are pooled. Intervals are 95 % of a bootstrap over contents; the seconds are
those of a whole run, corpus, labels and scores included.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from datamodules.batches import PairDataset
from datamodules.batches.device import distort
from datamodules.batches.pair_dataset import PairCollate
from datamodules.corpus import videos
from datamodules.pairs import PairCounts
from datamodules.pairs.drawing import evaluation_pairs
from datamodules.round_data import RoundDataModule
from datamodules.video import Sampling
from vqa_lightning.metrics import bootstrap_interval
from vqa_lightning.training import RankingModule

SIMULATORS = ["stutter", "jitter", "frame_rate"]
SAMPLING = Sampling(segments=1, frames=4, window=72)
ARMS = {
    "first frame": "--model.sampling.frames 1 --model.lmm.motion null",
    "all frames": "--model.lmm.motion null",
    "differences": "--model.lmm.motion differences",
    "r2plus1d_18, random": "--model.lmm.motion r2plus1d_18",
    "r2plus1d_18, trained": "--model.lmm.motion r2plus1d_18 --model.lmm.motion_trained true",
}


def train(root: Path, arm: str, seed: int, videos: str | None, pairs: int, accelerator: str) -> float:
    """Fit one model on one thread unless it lies there already; return the seconds that it took."""
    root.mkdir(parents=True, exist_ok=True)
    spent = root / "seconds.txt"
    if spent.is_file():
        return float(spent.read_text())
    words = [
        "fit",
        "--config",
        "round.yaml",
        "--trainer.max_epochs",
        "1",
        "--trainer.accelerator",
        accelerator,
    ]
    words += ["--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", str(root)]
    words += ["--model.lmm.view", "crop", "--model.scoring.draws", "2", "--seed_everything", str(seed)]
    words += [
        "--model.sampling.segments",
        str(SAMPLING.segments),
        "--model.sampling.window",
        str(SAMPLING.window),
    ]
    words += ["--model.sampling.frames", str(SAMPLING.frames), *ARMS[arm].split()]
    words += ["--data.videos", "null" if videos is None else videos, "--data.counts.teacher", "0"]
    words += ["--data.counts.synthetic", str(pairs), "--data.simulators", f"[{', '.join(SIMULATORS)}]"]
    began = time.monotonic()
    with (root / "log.txt").open("w") as log:
        subprocess.run(
            [sys.executable, "-m", "vqa_lightning", *words],
            check=True,
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    seconds = time.monotonic() - began
    spent.write_text(f"{seconds:.1f}")
    return seconds


class Answers(NamedTuple):
    """Of the pairs with a known order.

    Attributes:
        right: (n,) 1 where it was told rightly, 0 where wrongly, a half for a tie.
        simulator: (n,) index into SIMULATORS.
        content: (n,) of the pair's source.
    """

    right: npt.NDArray[np.float64]
    simulator: npt.NDArray[np.int64]
    content: npt.NDArray[np.str_]


@torch.no_grad()
def judge(root: Path, data: RoundDataModule, device: str) -> Answers:
    """Ask the newest model under `root` about pairs of the report split."""
    checkpoint = sorted(root.glob("runs/*/version_*/checkpoints/last.ckpt"))[-1]
    module = RankingModule.load_from_checkpoint(checkpoint, map_location=device).eval()
    known = {video.video_id: video for video in videos(data.corpus, "report")}
    pairs = evaluation_pairs(list(known), data.ladder, data.counts.evaluation, seed=0)
    contents = np.array([known[video_id].content for video_id in pairs["first"].to_pylist()])
    dataset = PairDataset(pairs, known, SAMPLING, data.simulators, data.cache)
    found = []
    for read in DataLoader(dataset, batch_size=24, collate_fn=PairCollate(seed=0)):
        on_device = [field.to(device) if isinstance(field, torch.Tensor) else field for field in read]
        batch = distort(type(read)(*on_device), data.simulators)
        sides = batch.sides()
        assert isinstance(sides, torch.Tensor)  # windows are of one size
        # A model of single frames is shown the first of those that the others see.
        judged = module.judge(sides[:, :: SAMPLING.frames // module.sampling.frames])
        difference, _ = module.answers(batch, judged)[module.score_by]
        order = batch.order()
        ranked = order != 0
        right = ((difference * order).sign().double() + 1) / 2
        columns = (right[ranked], batch.simulator()[ranked], batch.row[ranked])
        found.append([column.cpu().numpy() for column in columns])
    rights, simulator, row = (np.concatenate(column) for column in zip(*found, strict=True))
    return Answers(rights, simulator, contents[row])


def with_interval(answers: Answers, chosen: npt.NDArray[np.bool_]) -> str:
    """Return `.71 [.65, .77]`."""
    right, contents = answers.right[chosen], answers.content[chosen]
    low, high = bootstrap_interval(np.mean, right, groups=contents)
    return f"{right.mean():.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    affordable = [arm for arm in ARMS if torch.cuda.is_available() or "r2plus1d" not in arm]
    parser.add_argument("--videos", help="by default the embedded corpus")
    parser.add_argument("--pairs", type=int, default=2400, help="for each model, 24 a step")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=affordable)
    parser.add_argument("--jobs", type=int, default=1, help="models trained side by side, one thread each")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--root", type=Path, default=Path("runs/motion"), help="where the models lie")
    args = parser.parse_args()
    torch.set_num_threads(1)

    accelerator = "cpu" if args.device == "cpu" else "gpu"
    corpus = "embedded" if args.videos is None else Path(args.videos).name
    places = {
        (arm, seed): (
            args.root / f"{corpus}-{args.pairs}" / arm.replace(", ", "_").replace(" ", "_") / str(seed)
        )
        for arm in args.arms
        for seed in args.seeds
    }
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = [
            pool.submit(train, place.resolve(), arm, seed, args.videos, args.pairs, accelerator)
            for (arm, seed), place in places.items()
        ]
        seconds = dict(zip(places, [job.result() for job in jobs], strict=True))

    data = RoundDataModule(args.videos, simulators=list(SIMULATORS), counts=PairCounts(teacher=0))
    data.setup("fit")
    table = Table(
        title=f"{args.pairs // 24} steps of 24 pairs, seeds {args.seeds}: rank accuracy on the report split",
        title_justify="left",
    )
    for column in ("motion", "all pairs", *SIMULATORS, "pairs", "contents", "s"):
        table.add_column(column)
    for arm in args.arms:
        asked = [judge(places[arm, seed].resolve(), data, args.device) for seed in args.seeds]
        pooled = Answers(*(np.concatenate(column) for column in zip(*asked, strict=True)))
        table.add_row(
            arm,
            with_interval(pooled, pooled.simulator >= 0),
            *(with_interval(pooled, pooled.simulator == index) for index in range(len(SIMULATORS))),
            f"{len(args.seeds)} x {len(asked[0].right)}",
            str(len(set(pooled.content))),
            f"{np.mean([seconds[arm, seed] for seed in args.seeds]):.0f}",
        )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
