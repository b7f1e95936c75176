"""A teacher's scores, in the label store as they come, and at the end in a file beside the videos' paths.

The store is the journal: a score in the store is not computed again. An interrupted command therefore goes
on, a repeated command computes nothing, and `fit` with the same store finds the scores there.
"""

import time
from typing import Any

import pyarrow.compute as pc
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_info

from callbacks.scores.report import require_one, summarise
from callbacks.scores.rows import checked_output, write_rows
from callbacks.scores.table import SCHEMA, all_scored, earlier_rows, outcome
from datamodules.corpus import videos
from datamodules.errors import InputError
from datamodules.labels import Annotation
from datamodules.labels.annotation import PART_ROWS, PART_SECONDS
from datamodules.round_data import RoundDataModule
from datamodules.teachers import Teacher
from vqa_lightning.annotators.teacher_module import TeacherModule


class LabelWriter(Callback):
    """Keep the scores of a TeacherModule in `data.labels`, and write the same rows as for a student.

    Args:
        output: file to write; the suffix .csv, .jsonl or .parquet chooses the format.

    Raises:
        InputError: the suffix is another, the folder does not exist, the output or the label store cannot be
            written to, the output is of another teacher or of other videos, or not one video could be scored.
    """

    def __init__(self, output: str = "scores.csv") -> None:
        self.output = checked_output(output)
        self.part: list[Annotation] = []
        self.reasons: dict[str, str] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the loader leave out what the store has."""
        assert isinstance(pl_module, TeacherModule)
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, RoundDataModule):
            raise InputError(
                "data.class_path must be datamodules.RoundDataModule where a teacher predicts; got "
                f"{type(data).__name__}, which has no label store."
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
        """Return the paths that need no score: scored and unreadable videos, and copies of another file."""
        known = self.data.labels.have(0, self.teacher.fingerprint)
        have = {video_id for video_id, simulator, _ in known if simulator is None}
        missing = {video.path for video in videos(self.data.corpus) if video.video_id not in have}
        return {video.path for video in self.data.rows} - missing

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the first part."""
        self.rank = trainer.global_rank
        self.began = time.monotonic()

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Take the batch's scores, and write a part when it is large or old enough."""
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
        """Keep what an interrupted command has scored."""
        if self.part:
            self._write_part()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last part, and on the first rank the output."""
        self._write_part()
        for rank in range(trainer.world_size):
            self.reasons |= trainer.strategy.broadcast(self.reasons, src=rank)
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            self._write_output()

    def _write_output(self) -> None:
        table = self.data.labels.read(round=0, fingerprint=self.teacher.fingerprint)
        table = table.filter(pc.and_(pc.is_null(table["simulator"]), pc.is_null(table["segment"])))
        scores = {row["video_id"]: (row["score"], row["stderr"]) for row in table.to_pylist()}
        rows = []
        for video in self.data.rows:
            error = self.reasons.get(video.video_id, "") if video.status == "ok" else video.error
            if video.video_id in scores:
                cells = {**outcome(*scores[video.video_id]), "error": video.remark}
            elif error:
                cells = outcome(error=error)
            else:
                continue
            rows.append({"path": video.path, **cells, "model": self._model})
        rank_zero_info(f"label store: {self.data.labels.url}")
        if all_scored(rows, self.data.rows):
            write_rows(self.output, rows, SCHEMA)
            summarise(self.output, rows)
            require_one(rows)
