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

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from experiment import arguments, fit, folder_name, table, with_interval
from rich.console import Console
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
ARMS: dict[str, dict[str, object]] = {
    "first frame": {"model.sampling.frames": 1, "model.lmm.motion": "null"},
    "all frames": {"model.lmm.motion": "null"},
    "differences": {"model.lmm.motion": "differences"},
    "r2plus1d_18, random": {"model.lmm.motion": "r2plus1d_18"},
    "r2plus1d_18, trained": {"model.lmm.motion": "r2plus1d_18", "model.lmm.motion_trained": "true"},
}


def settings(arm: str, seed: int, videos: str | None, pairs: int, accelerator: str) -> dict[str, object]:
    """Return what the command line says of a model."""
    return {
        "trainer.max_epochs": 1,
        "trainer.accelerator": accelerator,
        "seed_everything": seed,
        "model.lmm.view": "crop",
        "model.scoring.draws": 2,
        "model.sampling.segments": SAMPLING.segments,
        "model.sampling.window": SAMPLING.window,
        "model.sampling.frames": SAMPLING.frames,
        **ARMS[arm],
        "data.videos": "null" if videos is None else videos,
        "data.counts.teacher": 0,
        "data.counts.synthetic": pairs,
        "data.simulators": f"[{', '.join(SIMULATORS)}]",
    }


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
def judge(checkpoint: Path, data: RoundDataModule, device: str) -> Answers:
    """Ask a model about pairs of the report split."""
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


def accuracy(answers: Answers, chosen: npt.NDArray[np.bool_]) -> str:
    """Return the rank accuracy with its interval."""
    right, contents = answers.right[chosen], answers.content[chosen]
    return with_interval(right.mean(), bootstrap_interval(np.mean, right, groups=contents))


def main() -> None:
    """Train and print."""
    parser = arguments(__doc__)
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
    root = (args.root / f"{corpus}-{args.pairs}").resolve()
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = {
            (arm, seed): pool.submit(
                fit,
                root / folder_name(arm) / str(seed),
                "round.yaml",
                settings(arm, seed, args.videos, args.pairs, accelerator),
            )
            for arm in args.arms
            for seed in args.seeds
        }
        runs = {key: job.result() for key, job in jobs.items()}

    data = RoundDataModule(args.videos, simulators=list(SIMULATORS), counts=PairCounts(teacher=0))
    data.setup("fit")
    report = table(
        f"{args.pairs // 24} steps of 24 pairs, seeds {args.seeds}: rank accuracy on the report split",
        ("motion", "all pairs", *SIMULATORS, "pairs", "contents", "s"),
    )
    for arm in args.arms:
        asked = [judge(runs[arm, seed][0], data, args.device) for seed in args.seeds]
        pooled = Answers(*(np.concatenate(column) for column in zip(*asked, strict=True)))
        report.add_row(
            arm,
            accuracy(pooled, pooled.simulator >= 0),
            *(accuracy(pooled, pooled.simulator == index) for index in range(len(SIMULATORS))),
            f"{len(args.seeds)} x {len(asked[0].right)}",
            str(len(set(pooled.content))),
            f"{np.mean([runs[arm, seed][1] for seed in args.seeds]):.0f}",
        )
    Console(width=150).print(report)


if __name__ == "__main__":
    main()
