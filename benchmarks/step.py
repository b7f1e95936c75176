"""A training step, timed: beside a bare loop and beside the released code's way.

    python benchmarks/step.py [--models llava-hf/llava-onevision-qwen2-7b-ov-hf] [--parts paper lora]

On a GPU the models have the sizes of LLaVA-OneVision 0.5B and 7B, random weights, and pairs of 8 frames at
384 pixels. Without one a small model of the same class runs on one thread of the CPU, in seconds of CPU time,
which other work on the machine does not change, and what only a GPU can say is printed as not measured. Three
ways of training the same weights on the same pairs take turns, step by step, in one run:

- ours: Lightning's Trainer over RankingModule and RoundDataModule, distortions included;
- bare: a plain torch loop over the family's own forward (input_ids, pixel_values_videos), cross-entropy over
  the level words, backward and AdamW, fed by the same kind of loader and undistorted;
- released: each frame through a PIL processor on the CPU, one pair a step, one order.

Overhead is what ours takes more than the bare loop once the distortions are taken out. Both orders ask every
pair twice; ours shows each clip to the tower once, the bare loop as often as it is named. Medians over the
steps, with quartiles. Utilisation is of the operations that the step needs (budget/flops.py), not of
those computed again. The shares are of a second run in which every part is waited for and no clip is cached.
"""

import argparse
import gc
import shutil
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiment import QUIET, arguments, now, with_quartiles
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.profilers import SimpleProfiler
from rich.console import Console
from rich.table import Table
from step_loops import Step, bare_loop, released_loop, write_checkpoint
from torch.utils.data import DataLoader

from datamodules.batches import PairBatch
from datamodules.batches.clip_cache import ClipCache
from datamodules.labels import Consensus
from datamodules.pairs import Drawing, PairCounts
from datamodules.procedural import write_corpus
from datamodules.round_data import RoundDataModule
from datamodules.video import Sampling
from vqa_lightning.budget import flops
from vqa_lightning.budget.flops import step_flops, step_shape
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMMConfig, TrainedParts
from vqa_lightning.training import RankingModule

PEAKS = {"H100 PCIe": 756, "H100": 989, "H200": 989, "A100": 312, "4090": 165}
"""Dense bf16 operations a second, in units of 10^12: the makers' figures, by words of the card's name."""

MODELS = ("llava-hf/llava-onevision-qwen2-0.5b-ov-hf", "llava-hf/llava-onevision-qwen2-7b-ov-hf")
SMALL = LMMConfig(
    view="resize",
    embedded=EmbeddedSizes(image_size=96, patch_size=12, hidden_size=128, vision_layers=4, text_layers=4),
)
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Setting:
    """One model, and how it is trained.

    Args:
        name: for the table.
        config: of the LMM.
        parts: what is trained.
        sampling: how clips are cut.
        pairs: of a step.
    """

    name: str
    config: LMMConfig
    parts: str
    sampling: Sampling
    pairs: int

    def module(self, both_orders: bool) -> RankingModule:
        """Return a module that is trained on level words alone, as the bare loop is."""
        return RankingModule(
            lmm=self.config,
            sampling=self.sampling,
            trained=TrainedParts(parts=self.parts),  # type: ignore[arg-type]
            judgements=("pairwise",),
            score_by="pairwise",
            both_orders=both_orders,
            optimizer=partial(torch.optim.AdamW, lr=1e-5),
        )


class TimedRounds(RoundDataModule):
    """Synthetic pairs of round 0, with the seconds that distorting each batch took."""

    cached = True
    """Whether all clips are read before the first step: whoever came first would read for the others."""

    def setup(self, stage: str) -> None:
        """Begin round 0, which needs no annotator."""
        super().setup(stage)
        self.distortion: list[float] = []
        self.begin_round(0, Consensus((), np.empty(0), np.empty(0)))

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return the round's pairs, with clips that were read beforehand."""
        for video in self.split("train") if self.cached else ():
            self.cache.read(video, self.sampling, 0)
        return super().train_dataloader()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Distort the batch and take the time."""
        device = batch.clips.device
        began = now(device)
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        self.distortion.append(now(device) - began)
        return batch


class Turns(Callback):
    """Times the Trainer's steps and lets other loops have a step after each of its own.

    Args:
        warmup: first steps of each that are not counted; in the Trainer's the others do not run.
        both_orders: of the bare loop.
        alone: whether there are no others.
    """

    def __init__(self, warmup: int, both_orders: bool = False, alone: bool = False) -> None:
        self.warmup = warmup
        self.both_orders = both_orders
        self.alone = alone
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.pairs: dict[str, int] = {}
        self.peak_bytes = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the other loops and starts the clock."""
        assert isinstance(pl_module, RankingModule)
        self.others: dict[str, Step] = {}
        if not self.alone:
            self.others["bare"] = bare_loop(trainer, pl_module, self.both_orders)
            if not self.both_orders:
                self.others["released"] = released_loop(trainer, pl_module)
        self.began = now(pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: PairBatch, batch_idx: int
    ) -> None:
        """Stop the clock while the others run."""
        device = pl_module.device
        self._record("ours", now(device) - self.began, len(batch.row))
        if batch_idx + 1 >= self.warmup:
            if not self.peak_bytes and device.type == "cuda":
                self.peak_bytes = torch.cuda.max_memory_allocated(device)
            for name, step in self.others.items():
                began = now(device)
                pairs = step()
                self._record(name, now(device) - began, pairs)
        self.began = now(device)

    def _record(self, name: str, seconds: float, pairs: int) -> None:
        self.seconds[name].append(seconds)
        self.pairs[name] = pairs

    def per_pair(self, name: str) -> np.ndarray:
        """Return the seconds a pair of the counted steps."""
        return np.array(self.seconds[name][self.warmup :]) / self.pairs[name]


class SynchronisedProfiler(SimpleProfiler):
    """Reads the clock when the device is done, so that work counts where it was asked for."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def start(self, action_name: str) -> None:
        """Start an action, which may contain others."""
        self.current_actions[action_name] = now(self.device)

    def stop(self, action_name: str) -> None:
        """Stop the action."""
        seconds = now(self.device) - self.current_actions.pop(action_name)
        self.recorded_durations[action_name].append(seconds)

    def summary(self) -> str:
        """Return nothing, for the table says it."""
        return ""

    def parts(self, total: float, warmup: int) -> dict[str, float]:
        """Return the share of the parts in `total` seconds a step."""
        strategy = "[Strategy]SingleDeviceStrategy"
        actions = {
            "decode": "[_TrainingEpochLoop].train_dataloader_next",
            "transfer": f"{strategy}.batch_to_device",
            "distortion": "[LightningDataModule]TimedRounds.on_after_batch_transfer",
            "forward": f"{strategy}.training_step",
            "backward": f"{strategy}.backward",
            "optimiser": "run_training_batch",
        }
        found = {
            name: float(np.median(self.recorded_durations[action][warmup:]))
            for name, action in actions.items()
        }
        found["transfer"] -= found["distortion"]
        found["optimiser"] -= found["forward"] + found["backward"]
        found["Lightning"] = total - sum(found.values())
        return {name: seconds / total for name, seconds in found.items()}


@dataclass
class Report:
    """Rows of both tables."""

    speed: list[list[str]] = field(default_factory=list)
    shares: list[list[str]] = field(default_factory=list)


def fit(
    module: RankingModule, data: TimedRounds, device: torch.device, steps: int, turns: Turns, **settings: Any
) -> None:
    """Run Lightning's own loop over `steps` steps, with nothing else around it."""
    Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if device.type == "cuda" else "32-true",
        max_steps=steps,
        limit_val_batches=0,
        **QUIET,
        callbacks=[turns],
        **settings,
    ).fit(module, data)


def measure(setting: Setting, args: argparse.Namespace, device: torch.device, report: Report) -> None:
    """Run one setting in one order and in both, and its parts."""
    for both_orders in (False, True):
        seed_everything(0, verbose=False)
        module = setting.module(both_orders)
        data = TimedRounds(
            str(args.videos),
            batch_size=setting.pairs,
            counts=PairCounts(synthetic=(args.steps + args.warmup) * setting.pairs, teacher=0),
            drawing=Drawing(draws=1),
            workers=args.workers,
        )
        turns = Turns(args.warmup, both_orders)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        fit(module, data, device, args.steps + args.warmup, turns)
        ours, bare = turns.per_pair("ours"), turns.per_pair("bare")
        count = min(len(ours), len(bare))
        ours, bare = ours[-count:], bare[-count:]
        distortion = np.array(data.distortion)[-count:] / setting.pairs
        released = turns.per_pair("released") if "released" in turns.seconds else None
        side = setting.sampling.window or 0
        shape = step_shape(module.lmm, flops.Step(setting.pairs, (side, side), ("pairwise",), both_orders))
        second = float(np.median(ours)) * setting.pairs
        utilisation = memory = NOT_MEASURED
        if device.type == "cuda":
            name = torch.cuda.get_device_name(device)
            peak = next((peak for card, peak in PEAKS.items() if all(w in name for w in card.split())), None)
            needed = step_flops(module.lmm, shape).total
            utilisation = "unknown card" if peak is None else f"{needed / second / peak / 1e12:.1%}"
            memory = f"{turns.peak_bytes / 2**30:.1f} GiB"
        report.speed.append(
            [
                setting.name,
                setting.parts,
                "both" if both_orders else "one",
                with_quartiles(1 / ours),
                f"{sum(shape.sequences) / second:.0f}",
                utilisation,
                memory,
                with_quartiles(bare / ours),
                with_quartiles(100 * ((ours - distortion) / bare - 1), 1),
                "" if released is None else with_quartiles(np.median(released) / ours),
            ]
        )
        Console(width=170).print(" ".join(report.speed[-1]))
        if both_orders:
            profiler, alone = SynchronisedProfiler(device), Turns(args.warmup, both_orders, alone=True)
            data.cache, data.cached = ClipCache(0), False
            fit(module, data, device, args.steps // 2 + args.warmup, alone, profiler=profiler)
            total = float(np.median(alone.seconds["ours"][args.warmup :]))
            parts = profiler.parts(total, args.warmup)
            report.shares.append(
                [setting.name, setting.parts, *(f"{share:.1%}" for share in parts.values()), f"{total:.2f}"]
            )
        del module, data, turns
        gc.collect()
        torch.cuda.empty_cache()


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", type=Path, help="default: a small procedural corpus")
    parser.add_argument("--models", nargs="+", default=MODELS, help="published sizes, on a GPU")
    parser.add_argument("--parts", nargs="+", default=["paper", "lora"])
    parser.add_argument("--pairs", type=int, default=4, help="of a step")
    parser.add_argument("--steps", type=int, default=12, help="that are counted")
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="of each loader")
    parser.add_argument("--no-checkpointing", action="store_true", help="keep activations")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = Path(tempfile.mkdtemp())
    report = Report()
    try:
        if args.videos is None:
            args.videos = write_corpus(folder / "corpus", contents=8)
        if device.type == "cpu":
            torch.set_num_threads(1)
            sampling = Sampling(segments=8, frames=1, window=112)
            settings = [Setting("small, 96 px", SMALL, parts, sampling, args.pairs) for parts in args.parts]
            for setting in settings:
                measure(setting, args, device, report)
        else:
            sampling = Sampling(segments=8, frames=1, window=432)
            for name in args.models:
                saved = write_checkpoint(name, folder / "model", device)
                gc.collect()
                torch.cuda.empty_cache()
                config = replace(
                    SMALL, pretrained=str(saved), prompt="paper", checkpointing=not args.no_checkpointing
                )
                for parts in args.parts:
                    short = name.split("/")[-1]
                    measure(Setting(short, config, parts, sampling, args.pairs), args, device, report)
                shutil.rmtree(saved)
    finally:
        shutil.rmtree(folder)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, one thread"
    columns = ("model", "trained", "orders", "pairs/s", "tokens/s", "utilisation", "peak memory")
    columns += ("times bare", "overhead, %", "times released")
    speed = Table(*columns, title=f"{card}: {args.pairs} pairs of 8 frames a step, medians [quartiles]")
    for row in report.speed:
        speed.add_row(*row)
    parts = ("decode", "transfer", "distortion", "forward", "backward", "optimiser", "Lightning")
    shares = Table(
        "model", "trained", *parts, "s a step", title="Shares of a step in both orders, no clip cached"
    )
    for row in report.shares:
        shares.add_row(*row)
    Console(width=170).print(speed, shares)


if __name__ == "__main__":
    main()
