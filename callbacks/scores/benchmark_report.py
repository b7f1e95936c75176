"""The report of `test` on sets with human opinions: a folder of figures, scores, scatter plots, calibrations.

Every rank writes its scores to a journal of its own, as prediction does. Rows are told apart by video, so
that a video that two ranks have scored counts once, and an interrupted test goes on where it stopped.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.progress import track
from torch.utils.tensorboard import SummaryWriter

from callbacks.scores.rows import Row, claim_output, one_sentence, write_rows
from callbacks.scores.table import SCHEMA, ScoreTable, all_scored, batch_rows, outcome
from datamodules.batches import VideoBatch
from datamodules.benchmark_data import BenchmarkDataModule, SetCheck
from datamodules.errors import InputError
from vqa_lightning.annotators.scorer import model_name
from vqa_lightning.metrics.benchmark_figures import (
    DomainAverage,
    ScoredSet,
    SetFigures,
    domain_averages,
    set_figures,
)
from vqa_lightning.metrics.benchmark_table import TABLE_SCHEMA, finite, print_benchmarks, table_rows
from vqa_lightning.metrics.human_scale import HumanScale
from vqa_lightning.metrics.scatter_plot import plot_agreement
from vqa_lightning.training import RankingModule

FOLDER = "benchmark_report"
"""Folder that `test` writes to by default."""

SET_SCHEMA = SCHEMA.append(pa.field("mos", pa.float64())).append(pa.field("deviation", pa.float64()))


class BenchmarkReport(Callback):
    """Write and print how a model agrees with the opinions of a BenchmarkDataModule.

    The folder gets benchmarks.csv, a row a set and then the averages; scores.csv, each video once; events of
    TensorBoard; and for each set a folder of its name with scores.csv (predict's columns, `mos` and
    `deviation`), scatter.png and, where scores differ enough, human_scale.json for `predict --calibration`.

    Args:
        folder: folder of the report, made if it is missing.

    Raises:
        InputError: the folder cannot be written to, or has scores of another model or of other videos, or a
            set's name cannot be the name of a folder.
    """

    def __init__(self, folder: str = FOLDER) -> None:
        self.folder = Path(folder)
        self.scores = ScoreTable(self.folder / "scores.csv", SCHEMA, ["path"])
        self.figures: list[SetFigures] = []
        self.averages: list[DomainAverage] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the loader leave out what an earlier run of the same model has scored."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, BenchmarkDataModule)
        assert isinstance(pl_module, RankingModule)
        for one in data.sets:
            if one.name in ("", "..") or Path(one.name).name != one.name:
                raise InputError(f"A set's name must be a folder's name, without slashes; got {one.name!r}.")
        # It fears that some count twice: https://github.com/Lightning-AI/pytorch-lightning/issues/12862
        warnings.filterwarnings("ignore", message="Using `DistributedSampler`", category=PossibleUserWarning)
        if trainer.is_global_zero:
            claim_output(self.folder)
        self.data, self.module = data, pl_module
        self.data.scored = self._scored  # asked for when the weights are there

    def _scored(self) -> set[str]:
        self.model = model_name(self.module)
        self.scores.resume(self.model, {(video.path,): video for video in self.data.rows})
        return {path for (path,) in self.scores.rows}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open this rank's journal.

        Raises:
            InputError: the journal cannot be written to.
        """
        trainer.strategy.barrier()  # all ranks must have read the same journals before one of them grows
        with one_sentence(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.scores.open(trainer.global_rank)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Append the batch's rows to the journal.

        Raises:
            InputError: the journal cannot be written to.
        """
        assert isinstance(batch, VideoBatch)
        rows = batch_rows(batch, outputs["score"], outputs["stderr"], self.data.pending, self.model)
        self.scores.append(list(rows.values()))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the rows of all ranks together, and write everything.

        Raises:
            InputError: the folder cannot be written to.
        """
        self.scores.close()
        trainer.strategy.barrier()
        if not trainer.is_global_zero:
            return
        rows = self.scores.collect((video.path,) for video in self.data.rows)
        if not all_scored(rows, self.data.rows):
            return
        self.scores.write(rows)
        by_path = {row["path"]: row for row in rows}
        sets = [self._write_set(check, by_path) for check in self.data.checks]
        self.figures = [set_figures(one) for one in track(sets, "Figures", transient=True)]
        self.averages = domain_averages(self.figures)
        with SummaryWriter(str(self.folder)) as events:
            self._write_figures(events)

    def _write_set(self, check: SetCheck, by_path: Mapping[str, Row]) -> ScoredSet:
        """Write the scores of a set, and return the videos of the set that have a score."""
        labels = [label for label in self.data.labels if label.set == check.set.name]
        videos = [self.data.rows[label.row] for label in labels]
        rows = [
            {**by_path[video.path], "mos": label.mos, "deviation": finite(label.deviation)}
            for label, video in zip(labels, videos, strict=True)
        ]
        failed = check.unreadable
        rows += [{"path": one.path, **outcome(error=one.error), "model": self.model} for one in failed]
        folder = self.folder / check.set.name
        with one_sentence(folder):
            folder.mkdir(exist_ok=True)
        write_rows(folder / "scores.csv", rows, SET_SCHEMA)
        scored = [(row, label) for row, label in zip(rows, labels, strict=False) if row["status"] == "ok"]
        numbers = [
            (row["score"], row["stderr"], label.mos, label.deviation / np.sqrt(label.votes))
            for row, label in scored
        ]
        scores, stderr, mos, mos_stderr = np.array(numbers, dtype=np.float64).reshape(-1, 4).T.copy()
        return ScoredSet(
            check.set.name,
            check.release,
            scores,
            stderr,
            mos,
            mos_stderr,
            [self.data.rows[label.row].content for _, label in scored],
            len(check.missing),
            [Path(row["path"]).name for row in rows if row["status"] == "error"],
        )

    def _write_figures(self, events: SummaryWriter) -> None:
        rows = table_rows(self.figures, self.averages, self.model)
        write_rows(self.folder / "benchmarks.csv", rows, TABLE_SCHEMA)
        for row in rows:
            for name, value in row.items():
                if isinstance(value, float):
                    events.add_scalar(f"{row['set']}/{name}", value)
        for scored, figures, _ in self.figures:
            folder, curve = self.folder / scored.name, None
            if scored.fits_curve:
                scale = HumanScale.fit(scored.scores, scored.mos, name=scored.name, model=self.model)
                scale.save(folder / "human_scale.json")
                curve = scale.curve
            title = f"{scored.name}, {len(scored.mos)} videos"
            if np.isfinite(figures["srcc"]):
                title += f", SRCC {figures['srcc']:.3f}"
            picture = plot_agreement(
                title, scored.scores, scored.stderr, scored.mos, scored.mos_stderr, curve
            )
            with one_sentence(folder / "scatter.png"):
                picture.savefig(folder / "scatter.png", dpi=120)
            events.add_figure(f"{scored.name}/scatter", picture)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Print the figures, when the progress bar is gone."""
        if self.figures:
            print_benchmarks(self.figures, self.averages)
            print(f"written to {self.folder}")
