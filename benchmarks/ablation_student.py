"""One student of benchmarks/ablation.py: trained for a time on one thread, judged on contents unseen.

Everything but what is compared comes from configs/round.yaml. Labels and clips are there before the clock
starts, and what is measured is CPU time, so that students side by side do not slow each other down.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from experiment import CONFIGS, QUIET, folder_name, versions
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks.rounds import SelfImprovement
from datamodules.batches import PairBatch
from datamodules.corpus import videos
from datamodules.labels import Request
from datamodules.round_data import RoundDataModule
from datamodules.simulators import comparable
from datamodules.teachers import Laplacian, Teacher
from vqa_lightning.annotators.student import Student
from vqa_lightning.metrics.order_consistency import OrderConsistency
from vqa_lightning.metrics.pair_accuracy import PairAccuracy
from vqa_lightning.training import RankingModule

CONFIG = CONFIGS / "round.yaml"
BASELINE = "mean absolute Laplacian"

PACE_STEPS = 12
"""Steps of the short run whose pace sets the length of the long one; the first third is not counted."""

Answer = Callable[[PairBatch], tuple[Tensor, Tensor | None, Tensor | None]]
"""Preference for the second side (B,), distributions over levels (B, 5), those of both orders (2, B, 5)."""


class Job(NamedTuple):
    """One student."""

    arm: str
    corpus: str
    seed: int

    def file(self, root: Path) -> Path:
        """Return the file that keeps the student's answers."""
        return root / f"{self.corpus}-{self.seed}-{folder_name(self.arm)}.json"


class FirstRound(SelfImprovement):
    """Labels and pairs of round 0 without the annotation at its end, which is no training."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do nothing at the end of the epoch."""


class Pace(Callback):
    """CPU seconds of every step."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Read the clock."""
        self.marks.append(time.process_time())

    @property
    def step_seconds(self) -> float:
        """The mean of all but the first steps."""
        first = len(self.marks) // 3
        return (self.marks[-1] - self.marks[first]) / (len(self.marks) - 1 - first)


def configured(words: Sequence[str]) -> tuple[RankingModule, RoundDataModule, float]:
    """Return module, data and the norm to which gradients are clipped, by the config and further words."""
    cli = LightningCLI(
        RankingModule,
        LightningDataModule,
        subclass_mode_data=True,
        run=False,
        save_config_callback=None,
        auto_configure_optimizers=False,
        seed_everything_default=0,
        args=["--config", str(CONFIG), *words],
    )
    assert isinstance(cli.model, RankingModule)
    assert isinstance(cli.datamodule, RoundDataModule)
    return cli.model, cli.datamodule, cli.config["trainer"]["gradient_clip_val"]


def train(
    words: Sequence[str], place: Path, steps: int, known: RoundDataModule | None = None
) -> tuple[RankingModule, RoundDataModule, Pace]:
    """Train a student for some steps of round 0, on clips that are read beforehand.

    Args:
        words: of the command line, beside the base's config.
        place: for what a run leaves behind.
        steps: of the optimiser.
        known: data of an earlier run, whose clips are taken over.
    """
    module, data, clipped = configured(words)
    pace = Pace()
    share = data.counts.teacher / (data.counts.teacher + data.counts.synthetic)
    pairs = steps * data.batch_size
    teacher = round(share * pairs)
    data.counts = replace(data.counts, teacher=teacher, synthetic=pairs - teacher)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        reload_dataloaders_every_n_epochs=1,
        limit_val_batches=0,
        gradient_clip_val=clipped,
        default_root_dir=place,
        **QUIET,
        callbacks=[FirstRound(), pace],
    )
    if known is not None:
        data.cache = known.cache
    data.prepare_data()
    for video in data.split("train"):
        for draw in range(data.drawing.draws):
            data.cache.read(video, module.sampling, draw)
    trainer.fit(module, data)
    module.eval()
    return module, data, pace


def judge_pairs(
    loader: DataLoader[Any], data: RoundDataModule, answer: Answer, orders: bool
) -> dict[str, Any]:
    """Return what an answer says of a split's pairs, in plain types."""
    contents = {video.video_id: video.content for video in videos(data.corpus)}
    names = loader.dataset.rows["first"].to_pylist()  # type: ignore[attr-defined]
    found: dict[str, list[Any]] = {"difference": [], "order": [], "content": []}
    accuracy, consistency = PairAccuracy(list(data.simulators)), OrderConsistency()
    for batch in loader:
        pairs = data.on_after_batch_transfer(batch, 0)
        difference, levels, both = answer(pairs)
        found["difference"] += difference.tolist()
        found["order"] += pairs.order().tolist()
        found["content"] += [contents[names[row]] for row in pairs.row.tolist()]
        if levels is not None:
            accuracy.update(difference, levels, pairs)
        if both is not None:
            consistency.update(*both)
    level = None if answer is laplacian_answer else float(accuracy.compute()["level_accuracy"])
    return {**found, "level_accuracy": level, "consistency": float(consistency.compute()) if orders else None}


def laplacian_answer(pairs: PairBatch) -> tuple[Tensor, None, None]:
    """Prefer the sharper side, as the baseline does."""
    first, second = (Laplacian().score(side) for side in pairs.clips)
    return second - first, None, None


def asked_of(data: RoundDataModule, split: str, sources_only: bool) -> list[Request]:
    """Return the videos of a split and their versions that leave pixels in place."""
    simulators = {} if sources_only else comparable(data.simulators)
    return versions(data.split(split), simulators.values())


def keep(job: Job, root: Path, data: RoundDataModule, teacher: Teacher, answer: Answer, **more: Any) -> None:
    """Write, whole or not at all, what a student says of the splits that it has not seen."""
    orders = bool(more.pop("orders", False))
    found: dict[str, Any] = {**job._asdict(), **more}
    for split, loader in (("select", data.val_dataloader()), ("report", data.test_dataloader())):
        found[split] = judge_pairs(loader, data, answer, orders)
    rows = teacher.annotate(asked_of(data, "report", sources_only=job.corpus == "embedded"))
    found["scores"] = [[row.video_id, row.simulator, row.level, row.score] for row in rows]
    hidden = job.file(root).with_suffix(".tmp")
    hidden.write_text(json.dumps(found))
    hidden.replace(job.file(root))


def run_student(job: Job, words: Sequence[str], root: Path, seconds: float, *, baseline: bool) -> None:
    """Train one student and judge it.

    Args:
        job: the student.
        words: what the command line would say of its arm.
        root: where answers are kept.
        seconds: of CPU time that it trains.
        baseline: judge the mean absolute Laplacian as well.
    """
    torch.set_num_threads(1)
    words = [*words, f"--seed_everything={job.seed}", f"--data.init_args.splits.seed={job.seed}"]
    if job.corpus == "clips":
        words.append(f"--data.init_args.videos={root / f'fold_{job.seed}.csv'}")
    place = root / "runs" / job.file(root).stem
    _, known, pace = train(words, place, PACE_STEPS)
    steps = max(2, round(seconds / pace.step_seconds))
    module, data, pace = train(words, place, steps, known)
    if module.score_by == "pairwise":
        module.refresh_anchors()

    def answer(pairs: PairBatch) -> tuple[Tensor, Tensor, Tensor | None]:
        judged = module.judge(pairs.sides())
        difference, levels = module.answers(pairs, judged)[module.score_by]
        return difference, levels, None if judged.levels is None else judged.levels.softmax(-1)

    with torch.no_grad():
        spent = pace.step_seconds * steps
        orders = "pairwise" in module.judgements
        keep(job, root, data, Student(module), answer, steps=steps, seconds=spent, orders=orders)
        if baseline:
            keep(job._replace(arm=BASELINE), root, data, Laplacian(window=256), laplacian_answer)
