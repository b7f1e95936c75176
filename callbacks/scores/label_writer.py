"""Puts a teacher's scores into the label store as they come, and at the end beside the videos' paths.

The store is the journal: what it has is left out, so that an interrupted command goes on and a repeated one
computes nothing, and `fit` with the same store finds the scores there.
"""

import time
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_info

from callbacks.scores.report import summarise
from callbacks.scores.table import SCHEMA, checked_output, earlier_rows, write_rows
from datamodules.corpus import videos
from datamodules.errors import InputError
from datamodules.labels import Annotation
from datamodules.labels.annotation import PART_ROWS, PART_SECONDS
from datamodules.round_data import RoundDataModule
from datamodules.teachers import Teacher
from vqa_lightning.annotators.teacher_module import TeacherModule


class LabelWriter(Callback):
    """Keeps the scores of a TeacherModule in `data.labels` and writes the same rows as for a student.

    Args:
        output: file to write; its suffix, .csv, .jsonl or .parquet, says how.

    Raises:
        InputError: another suffix, a folder that does not exist, an output or label store that cannot be
            written to, an output of another teacher or of other videos, or, at the end, not one video that
            could be scored.
    """

    def __init__(self, output: str = "scores.csv") -> None:
        self.output = checked_output(output)
        self.part: list[Annotation] = []
        self.reasons: dict[str, str] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets the loader leave out what the store has."""
        assert isinstance(pl_module, TeacherModule)
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, RoundDataModule):
            raise InputError(
                f"data.class_path is {type(data).__name__}, which has no label store: "
                "a teacher predicts with datamodules.RoundDataModule."
            )
        self.data: RoundDataModule = data
        self.teacher: Teacher = pl_module.teacher
        self.data.scored = self._scored
        self.data.labels.require_writable()
        if self.output.exists():
            earlier_rows(self.output, SCHEMA, ["path"], self._model, {(video.path,) for video in data.rows})

    @property
    def _model(self) -> str:
        return f"{self.teacher.name}-{self.teacher.fingerprint}"

    def _scored(self) -> set[str]:
        """Paths that need no score: those that have one, cannot be read, or hold the content of another."""
        have = {video_id for video_id, simulator, _ in self._have() if simulator is None}
        missing = {video.path for video in videos(self.data.corpus) if video.video_id not in have}
        return {video.path for video in self.data.rows} - missing

    def _have(self) -> set[tuple[str, str | None, int]]:
        return self.data.labels.have(0, self.teacher.fingerprint)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The first part begins."""
        self.rank = trainer.global_rank
        self.began = time.monotonic()

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Takes the batch's scores, and writes a part when it is large or old enough."""
        found, reasons = outputs
        self.part += found
        self.reasons |= reasons
        if len(self.part) >= PART_ROWS or time.monotonic() - self.began > PART_SECONDS:
            self._write_part()

    def _write_part(self) -> None:
        part, self.part, self.began = self.part, [], time.monotonic()
        teacher = self.teacher
        self.data.labels.write(
            0, teacher.name, teacher.fingerprint, part, rank=self.rank, settings=teacher.settings
        )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keeps what an interrupted command has scored."""
        if self.part:
            self._write_part()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the last part, and on the first rank the output."""
        self._write_part()
        for rank in range(trainer.world_size):
            self.reasons |= trainer.strategy.broadcast(self.reasons, src=rank)
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            self._write_output()

    def _write_output(self) -> None:
        fingerprint = self.teacher.fingerprint
        table = self.data.labels.read(round=0, fingerprint=fingerprint)
        table = table.filter(pc.and_(pc.is_null(table["simulator"]), pc.is_null(table["segment"])))
        columns = (table[name].to_pylist() for name in ("video_id", "score", "stderr"))
        scores = {video_id: values for video_id, *values in zip(*columns, strict=True)}
        rows = []
        for video in self.data.rows:
            error = video.error or self.reasons.get(video.video_id, "")
            if video.video_id in scores:
                score, stderr = scores[video.video_id]
                values = {"score": score, "stderr": stderr, "status": "ok", "error": ""}
            elif error:
                values = {"score": None, "stderr": None, "status": "error", "error": error}
            else:
                continue
            rows.append({"path": video.path, **values, "model": self._model})
        rank_zero_info(f"label store: {self.data.labels.url}")
        if len(rows) < len(self.data.rows):
            rank_zero_info(f"{len(rows)} of {len(self.data.rows)} videos scored: the same command goes on.")
            return
        write_rows(self.output, pa.Table.from_pylist(rows, schema=SCHEMA))
        summarise(self.output, rows)
