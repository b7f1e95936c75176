"""What `test` leaves of sets with human opinions: a folder of figures, scores, scatter plots, calibrations.

Every rank writes what it scores to a journal of its own, as prediction does: rows are told apart by video, so
that one that two ranks have scored counts once, and an interrupted test goes on where it stopped.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_info
from rich.progress import track
from torch.utils.tensorboard import SummaryWriter

from callbacks.scores.table import SCHEMA, Row, ScoreTable, one_sentence, write_rows
from datamodules.batches import VideoBatch
from datamodules.benchmark_data import BenchmarkDataModule, SetCheck
from datamodules.errors import InputError
from vqa_lightning.annotators.scorer import model_name
from vqa_lightning.metrics.benchmark_table import (
    TABLE_SCHEMA,
    DomainAverage,
    ScoredSet,
    SetFigures,
    domain_averages,
    finite,
    print_benchmarks,
    set_figures,
    table_rows,
)
from vqa_lightning.metrics.human_scale import HumanScale
from vqa_lightning.metrics.scatter_plot import plot_agreement
from vqa_lightning.training import RankingModule

FOLDER = "benchmark_report"
"""Where `test` writes unless told otherwise."""

SET_SCHEMA = SCHEMA.append(pa.field("mos", pa.float64())).append(pa.field("deviation", pa.float64()))


class BenchmarkReport(Callback):
    """Writes and prints how a model agrees with the opinions of a BenchmarkDataModule.

    The folder gets benchmarks.csv, a row a set and then the averages; scores.csv, each video once; events of
    TensorBoard; and for each set a folder of its name with scores.csv (predict's columns, `mos` and
    `deviation`), scatter.png and, where scores differ enough, human_scale.json for `predict --calibration`.

    Args:
        folder: made where it is not there.

    Raises:
        InputError: the folder cannot be written to, or has scores of another model or of other videos, or a
            set's name is none that a folder can have.
    """

    def __init__(self, folder: str = FOLDER) -> None:
        self.folder = Path(folder)
        self.scores = ScoreTable(self.folder / "scores.csv", SCHEMA, ["path"])
        self.figures: list[SetFigures] = []
        self.averages: list[DomainAverage] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets the loader leave out what an earlier run of the same model has scored."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, BenchmarkDataModule)
        assert isinstance(pl_module, RankingModule)
        for one in data.sets:
            if one.name in ("", "..") or Path(one.name).name != one.name:
                raise InputError(f"The set {one.name!r} cannot give a folder its name: leave out slashes.")
        # It fears that some count twice: https://github.com/Lightning-AI/pytorch-lightning/issues/12862
        warnings.filterwarnings("ignore", message="Using `DistributedSampler`", category=PossibleUserWarning)
        module = pl_module
        self.data = data
        # Asked for when the weights are there.
        self.data.scored = lambda: self._scored(module)

    def _scored(self, module: RankingModule) -> set[str]:
        self.model = model_name(module)
        self.scores.resume(self.model, {(video.path,): video for video in self.data.rows})
        return {path for (path,) in self.scores.rows}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens this rank's journal.

        Raises:
            InputError: it cannot be written to.
        """
        trainer.strategy.barrier()  # all ranks must have read the same journals before one of them grows
        with one_sentence(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.scores.open(trainer.global_rank)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Appends the batch's rows to the journal.

        Raises:
            InputError: it cannot be written to.
        """
        assert isinstance(batch, VideoBatch)
        values = zip(outputs["score"].tolist(), outputs["stderr"].tolist(), strict=True)
        found = {row: (*pair, "") for row, pair in zip(batch.rows, values, strict=True)}
        found |= {row: (None, None, sentence) for row, sentence in batch.errors.items()}
        rows: list[Row] = []
        for row, (score, stderr, error) in found.items():
            video = self.data.pending[row]
            told = {"status": "error" if error else "ok", "error": error, "model": self.model}
            rows.append(
                {"path": video.path, "video_id": video.video_id, "score": score, "stderr": stderr, **told}
            )
        self.scores.append(rows)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the rows of all ranks together, and writes everything.

        Raises:
            InputError: the folder cannot be written to.
        """
        self.scores.close()
        trainer.strategy.barrier()
        if not trainer.is_global_zero:
            return
        rows = self.scores.collect([(video.path,) for video in self.data.rows])
        if len(rows) < len(self.data.rows):
            rank_zero_info(f"{len(rows)} of {len(self.data.rows)} videos scored: the same command goes on.")
            return
        self.scores.write(rows)
        by_path = {row["path"]: row for row in rows}
        sets = [self._write_set(check, by_path) for check in self.data.checks]
        self.figures = [set_figures(one) for one in track(sets, "Figures", transient=True)]
        self.averages = domain_averages(self.figures)
        with SummaryWriter(str(self.folder)) as events:
            self._write_figures(events)

    def _write_set(self, check: SetCheck, by_path: Mapping[str, Row]) -> ScoredSet:
        """Writes the scores of a set, and gives those of its videos that have one."""
        labels = [label for label in self.data.labels if label.set == check.set.name]
        videos = [self.data.rows[label.row] for label in labels]
        rows: list[Row] = [
            {**by_path[video.path], "mos": label.mos, "deviation": finite(label.deviation)}
            for label, video in zip(labels, videos, strict=True)
        ]
        rows += [
            {"path": video.path, "status": "error", "error": video.error, "model": self.model}
            for video in check.unreadable
        ]
        folder = self.folder / check.set.name
        with one_sentence(folder):
            folder.mkdir(exist_ok=True)
        write_rows(folder / "scores.csv", pa.Table.from_pylist(rows, schema=SET_SCHEMA))
        scored = [place for place, row in enumerate(rows) if row["status"] == "ok"]
        scores, stderr = (np.array([rows[place][name] for place in scored]) for name in ("score", "stderr"))
        opinions = [labels[place] for place in scored]
        votes = np.array([label.votes for label in opinions])
        return ScoredSet(
            check.set.name,
            check.release,
            scores,
            stderr,
            np.array([label.mos for label in opinions]),
            np.array([label.deviation for label in opinions]) / np.sqrt(votes),
            [videos[place].content for place in scored],
            len(check.missing),
            [Path(row["path"]).name for row in rows if row["status"] == "error"],
        )

    def _write_figures(self, events: SummaryWriter) -> None:
        rows = table_rows(self.figures, self.averages, self.model)
        write_rows(self.folder / "benchmarks.csv", pa.Table.from_pylist(rows, schema=TABLE_SCHEMA))
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
            if finite(figures["srcc"]) is not None:
                title += f", SRCC {figures['srcc']:.3f}"
            picture = plot_agreement(
                title, scored.scores, scored.stderr, scored.mos, scored.mos_stderr, curve
            )
            with one_sentence(folder / "scatter.png"):
                picture.savefig(folder / "scatter.png", dpi=120)
            events.add_figure(f"{scored.name}/scatter", picture)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Prints the figures, when the progress bar is gone."""
        if self.figures:
            print_benchmarks(self.figures, self.averages)
            print(f"written to {self.folder}")
