"""Writes predict's rows in input order, and goes on where an interrupted run stopped.

Scores of whole videos and, where they are asked for, of intervals are two tables with journals of their own,
so that either is complete as soon as it can be.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_info

from callbacks.scores.report import FEW, draw_seconds, print_scores, summarise
from callbacks.scores.table import SCHEMA, SECONDS_SCHEMA, Row, ScoreTable, checked_output
from datamodules.batches import VideoBatch
from datamodules.errors import InputError
from datamodules.video import Span
from datamodules.video_data import VideoDataModule
from vqa_lightning.annotators.scorer import model_name
from vqa_lightning.metrics.human_scale import HumanScale
from vqa_lightning.training import RankingModule


class ScoreWriter(Callback):
    """Writes `path,score,stderr,status,error,model`, one row a file, in input order.

    With `data.score_every` also `path,start,end,score,stderr,model`, one row an interval, into a file whose
    name ends in `.seconds` before the suffix, and beside it a folder with a picture of each video over time.

    Args:
        output: file to write; its suffix, .csv, .jsonl or .parquet, says how.
        calibration: a HumanScale that was saved; it adds the column `calibrated`.

    Raises:
        InputError: another suffix, a folder that does not exist or cannot be written to, an output that
            another model or other videos gave, a calibration of another model, a disk that is full, or, at
            the end, not one video that could be scored.
    """

    def __init__(self, output: str = "scores.csv", calibration: str | None = None) -> None:
        path = checked_output(output)
        self.calibration = calibration
        self.human_scale = None if calibration is None else HumanScale.load(calibration)
        self.scores = ScoreTable(path, SCHEMA, ["path"])
        seconds = path.with_name(f"{path.stem}.seconds{path.suffix}")
        self.seconds = ScoreTable(seconds, SECONDS_SCHEMA, ["path", "start", "end"])
        self.written: list[Row] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets the loader leave out what an earlier run of the same model has scored."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, VideoDataModule)
        assert isinstance(pl_module, RankingModule)
        module = pl_module
        self.data = data
        # Asked for when the weights are there.
        self.data.scored = lambda: self._scored(module)
        self.data.scored_spans = self._scored_spans

    def _scored(self, module: RankingModule) -> set[str]:
        self.model = model_name(module)
        if self.human_scale is not None and self.human_scale.model != self.model:
            raise InputError(
                f"--calibration {self.calibration} was fitted for {self.human_scale.model}, not for "
                f"{self.model}: fit one on this model's scores."
            )
        self.scores.resume(self.model, {(video.path,): video for video in self.data.rows})
        return {path for (path,) in self.scores.rows}

    def _scored_spans(self) -> set[tuple[str, Span]]:
        if self.data.score_every is None:
            return set()
        wanted = {(video.path, *span): video for video in self.data.rows for span in self.data.spans(video)}
        self.seconds.resume(self.model, wanted)
        return {(path, (start, end)) for path, start, end in self.seconds.rows}

    @property
    def _tables(self) -> list[ScoreTable]:
        return [self.scores] if self.data.score_every is None else [self.scores, self.seconds]

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens this rank's journals.

        Raises:
            InputError: they cannot be written to.
        """
        trainer.strategy.barrier()  # all ranks must have read the same journals before one of them grows
        for table in self._tables:
            table.open(trainer.global_rank)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Appends the batch's rows to the journals.

        Raises:
            InputError: they cannot be written to.
        """
        assert isinstance(batch, VideoBatch)
        scores, errors = (values.tolist() for values in outputs)
        found = {row: (*values, "") for row, *values in zip(batch.rows, scores, errors, strict=True)}
        found |= {row: (None, None, sentence) for row, sentence in batch.errors.items()}
        whole: list[Row] = []
        parts: list[Row] = []
        for row, (score, stderr, error) in found.items():
            request = self.data.requests[row]
            video = {"path": request.video.path, "video_id": request.video.video_id, "model": self.model}
            values = {"score": score, "stderr": stderr}
            if request.span is None:
                whole.append({**video, **values, "status": "error" if error else "ok", "error": error})
            else:
                start, end = request.span
                parts.append({**video, "start": start, "end": end, **values})
        for table, rows in zip(self._tables, (whole, parts), strict=False):
            table.append(rows)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the rows of all ranks into the output.

        Raises:
            InputError: it cannot be written.
        """
        for table in self._tables:
            table.close()
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            if self.data.score_every is not None:
                self._write_seconds()
            self._write_scores()

    def _write_scores(self) -> None:
        rows = self.scores.collect([(video.path,) for video in self.data.rows])
        if len(rows) < len(self.data.rows):
            rank_zero_info(f"{len(rows)} of {len(self.data.rows)} videos scored: the same command goes on.")
            return
        more = []
        if self.human_scale is not None:
            more = [pa.field("calibrated", pa.float64())]
            raw = np.array([row["score"] for row in rows], dtype=float)
            pairs = zip(rows, self.human_scale(raw).tolist(), strict=True)
            rows = [{**row, "calibrated": None if row["score"] is None else mark} for row, mark in pairs]
        self.scores.write(rows, more)
        self.written = rows

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Says what was scored, when the progress bar is gone.

        Raises:
            InputError: not one video could be scored.
        """
        if self.written and len(self.written) <= FEW:
            print_scores(self.written)
        if self.written:
            summarise(self.scores.output, self.written)

    def _write_seconds(self) -> None:
        keys = list(self.seconds.wanted)
        rows = self.seconds.collect(keys)
        if len(rows) < len(keys):
            rank_zero_info(f"{len(rows)} of {len(keys)} intervals scored: the same command goes on.")
            return
        self.seconds.write(rows)
        folder = self.seconds.output.with_suffix("")
        draw_seconds(folder, rows)
        rank_zero_info(f"{self.seconds.output}: {len(rows)} intervals, drawn in {folder}")
