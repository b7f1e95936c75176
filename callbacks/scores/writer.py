"""Predict's rows in input order, from a run that goes on where an interrupted run stopped.

Scores of whole videos and, where they are asked for, of intervals are two tables with journals of their own,
so that each is complete as soon as it can be.
"""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_info

from callbacks.scores.columns import Columns
from callbacks.scores.gate import Gate, GateClosed
from callbacks.scores.pooling import Pool, pooled_rows
from callbacks.scores.report import draw_seconds, print_scores, require_one, summarise, write_page
from callbacks.scores.rows import Row, checked_output, checked_page, claim_output
from callbacks.scores.table import SCHEMA, SECONDS_SCHEMA, ScoreTable, all_scored, batch_rows, seconds_beside
from datamodules.batches import VideoBatch
from datamodules.processes import END
from datamodules.video import Span
from datamodules.video_data import VideoDataModule
from vqa_lightning.annotators.scorer import model_name
from vqa_lightning.training import RankingModule


class ScoreWriter(Callback):
    """Write `path,score,stderr,status,error,model,percentile`, one row a file, in input order.

    With `data.score_every` a second file has `path,start,end,score,stderr,model`, one row an interval. Its
    name ends in `.seconds` before the suffix, and beside it lies a folder with a picture of each video over
    time. The first file then also has the intervals' `mean`, `harmonic`, `p5` and `min`.

    Args:
        output: file to write; the suffix .csv, .jsonl or .parquet chooses the format.
        calibration: file of a saved HumanScale, which adds the column `calibrated`.
        pool: which of the columns over time stands under `score`; the score of the whole video then stands
            under `whole`. None: that score itself, of a few clips of the video.
        gate: what the scores must hold.
        report: HTML page to write, too; None: none.

    Raises:
        InputError: the suffix is another, the folder does not exist or cannot be written to, the output is of
            another model or of other videos, the calibration is of another model, the disk is full, or not
            one video could be scored.
        GateClosed: the scores do not hold what the gate asks for.
    """

    def __init__(
        self,
        output: str = "scores.csv",
        calibration: str | None = None,
        pool: Pool | None = None,
        gate: Gate | None = None,
        report: str | None = None,
    ) -> None:
        path = checked_output(output)
        self.columns = Columns(pool, calibration)
        self.report = None if report is None else checked_page(report)
        self.gate = Gate() if gate is None else gate
        self.scores = ScoreTable(path, SCHEMA, ["path"])
        self.seconds = ScoreTable(seconds_beside(path), SECONDS_SCHEMA, ["path", "start", "end"])
        self.written: list[Row] = []
        self.lacking = ""  # what is not scored yet, where the command was told to do only a part
        self.appended = 0  # rows of this process's journal since it was opened
        self.gate.check_output(path)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the loader leave out what an earlier run of the same model has scored."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, VideoDataModule)
        assert isinstance(pl_module, RankingModule)
        self.data, self.module = data, pl_module
        if trainer.is_global_zero:
            claim_output(self.scores.output)
        END.whole = self._whole
        self.over_time = data.score_every is not None
        self.columns.check(self.gate, over_time=self.over_time)
        self.data.scored = self._scored  # asked for when the weights are there
        self.data.scored_spans = self._scored_spans

    def _whole(self) -> str:
        done, wanted = len(self.scores.rows) + self.appended, len(self.data.rows)
        return f"{done} of {wanted} videos are scored and kept beside {self.scores.output}"

    def _scored(self) -> set[str]:
        self.model = model_name(self.module)
        self.columns.check_model(self.model)
        self.gate.check_baseline(self.model, self.columns.pool)
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
        """Open this rank's journals.

        Raises:
            InputError: a journal cannot be written to.
        """
        trainer.strategy.barrier()  # all ranks must have read the same journals before one of them grows
        for table in self._tables:
            table.open(trainer.global_rank)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Append the batch's rows to the journals.

        Raises:
            InputError: a journal cannot be written to.
        """
        assert isinstance(batch, VideoBatch)
        scores, errors = outputs
        rows = batch_rows(batch, scores, errors, self.data.pending, self.model)
        spans = {place: self.data.requests[place].span for place in rows}
        whole = [row for place, row in rows.items() if spans[place] is None]
        self.scores.append(whole)
        self.appended += len(whole)
        if self.data.score_every is not None:
            parts = ((row, spans[place]) for place, row in rows.items())
            self.seconds.append([{**row, "start": span[0], "end": span[1]} for row, span in parts if span])

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the rows of all ranks into the output.

        Raises:
            InputError: the output cannot be written.
        """
        for table in self._tables:
            table.close()
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            over_time = self._write_seconds() if self.data.score_every is not None else {}
            self._write_scores(over_time)

    def _write_scores(self, over_time: Mapping[str, Mapping[str, float]] | None) -> None:
        rows = self.scores.collect((video.path,) for video in self.data.rows)
        if not all_scored(rows, self.data.rows):
            self.lacking = f"only {len(rows)} of {len(self.data.rows)} videos are scored"
            return
        if over_time is None:
            self.lacking = "intervals are not scored yet"
            if self.columns.pool is not None:
                return
        rows = self.columns.complete(rows, self.module, over_time or {})
        self.scores.write(rows, self.columns.fields(over_time=self.over_time))
        self.written = rows

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Print what was scored, when the progress bar is gone.

        Raises:
            InputError: not one video could be scored.
            GateClosed: the scores do not hold what the gate asks for, or are not all there.
        """
        if self.written:
            print_scores(self.written)
            summarise(self.scores.output, self.written)
            if self.report is not None:
                intervals = self.seconds.collect(self.seconds.wanted) if self.over_time else []
                rank_zero_info(write_page(self.report, self.written, intervals, self.scores.output.name))
        if self.lacking and self.gate.asked:
            raise GateClosed(f"{self.lacking}: nothing has passed")
        if self.written:
            self.gate.check(self.written)
            require_one(self.written)

    def _write_seconds(self) -> Mapping[str, Mapping[str, float]] | None:
        """Return the pools over time of each video, by its path; None where intervals are not scored yet."""
        rows = self.seconds.collect(self.seconds.wanted)
        if not all_scored(rows, self.seconds.wanted, "intervals"):
            return None
        self.seconds.write(rows)
        folder = self.seconds.output.with_suffix("")
        draw_seconds(folder, rows)
        rank_zero_info(f"{self.seconds.output}: {len(rows)} intervals, drawn in {folder}")
        return pooled_rows(rows)
