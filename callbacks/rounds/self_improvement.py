"""Self-improvement: at the end of each epoch-round the student re-annotates what it is trained on.

What a round is follows from the label store and the callback's few numbers of state alone. Annotation asks
only for what is missing under the annotator's fingerprint and the report is written whole each time, so that
a run that died at any moment repeats its last round and ends at the same place.
"""

import time
from dataclasses import asdict
from math import inf, nan
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_info

from callbacks.rounds.annotators import anchor_clips, let_student_annotate, let_teachers_annotate
from callbacks.rounds.answers import RoundAnswers, of_every_process
from callbacks.rounds.finished_round import FinishedRound, tell_listeners
from callbacks.rounds.judging import judge_pairs, judge_student, rounds_without_rise
from callbacks.rounds.labels import (
    Relabel,
    StudentScores,
    reference_scores,
    student_scores,
    teacher_scores,
    who_labels,
)
from callbacks.rounds.pair_table import begin_first_round, begin_next_round, save_pairs, saved_pairs
from callbacks.rounds.report import print_teachers, publish, round_row, warn
from callbacks.rounds.requests import ids, round_requests
from callbacks.rounds.rows import RoundRow
from callbacks.rounds.scores import scores_of
from callbacks.rounds.weights import FIRST, forget_steps, keep_or_put_back, plan_schedule
from datamodules.checks import check_choice, check_least
from datamodules.errors import InputError
from datamodules.labels import Consensus, LabelStore
from datamodules.round_data import RoundDataModule
from datamodules.simulators import SIMULATORS
from vqa_lightning.checkpoints.resumable import load_learnt, save_learnt
from vqa_lightning.lmm.sharding import gathered
from vqa_lightning.scoring.anchors import named_clips
from vqa_lightning.training import RankingModule


class SelfImprovement(Callback):
    """Annotates round 0 with the datamodule's teachers and every later round with the student.

    After each round the student is judged by the probe, ladders of the select split (`callbacks.rounds`). A
    rejected student's scores are not used as labels, and the weights of the last kept student are put back.
    With reference pairs the probe also has versions of the select split's clean sources, which a metric
    scores across contents. A student is compared with the best that was kept, in both.

    Args:
        epochs_per_round: epochs on one pair table; `trainer.max_epochs` must be a multiple of it.
        ladders: how many simulators' whole ladders are scored on each content of the select and report
            splits, for the probe, the teachers' weights and the report. The simulators take turns from
            content to content.
        calibration_simulators: names of simulators whose ladders on the select split scale the student's
            standard errors and belong to the probe. The student should not train on them, for there it errs
            least. None: all that `vqa-lightning list` names except h265 and data.simulators; if nothing is
            left, data.simulators.
        relabel: who labels pairs of different videos from the second round on. replace: the student, as in
            the paper; blend: teachers and student, weighed by the probe; never: the teachers, to the end.
        restart: with which weights a later round begins. base: with the run's first weights, as in the paper,
            a new optimiser and a schedule of its own; continue: with the weights of the round before, under
            one schedule over the whole run.
        patience: the run stops after this many rounds without a new best agreement on the probe. None: the
            run never stops early.
    """

    def __init__(
        self,
        epochs_per_round: int = 1,
        ladders: int = 1,
        calibration_simulators: list[str] | None = None,
        relabel: Relabel = "replace",
        restart: Literal["base", "continue"] = "continue",
        patience: int | None = None,
    ) -> None:
        least = {"epochs_per_round": epochs_per_round, "ladders": ladders, "patience": patience}
        for name, value in least.items():
            if value is not None:
                check_least(f"SelfImprovement.{name}", value, 1)
        for name in calibration_simulators or ():
            check_choice("SelfImprovement.calibration_simulators", name, SIMULATORS)
        if calibration_simulators == []:
            raise InputError(
                "SelfImprovement.calibration_simulators must name a simulator; got []: leave it out to take "
                "those that are not trained on."
            )
        self.epochs_per_round = epochs_per_round
        self.ladders = ladders
        self.calibration_simulators = calibration_simulators
        self.relabel: Relabel = relabel
        self.restart = restart
        self.patience = patience
        self.round = 0
        self.rows: list[RoundRow] = []
        self.kept: tuple[int, str] | None = None
        """Round of the label store and fingerprint of the last student that was kept."""
        self.best: tuple[int, str] | None = None
        """The same of the best of them, by the probe."""
        self._best_worth = -inf
        self._begun = 0
        self._first_step = 0
        self._answers = RoundAnswers()

    def state_dict(self) -> dict[str, Any]:
        """Return the rounds done and begun, the report, and who was kept."""
        return {
            "round": self.round,
            "rows": [asdict(row) for row in self.rows],
            "kept": self.kept,
            "best": self.best,
            "best_worth": self._best_worth,
            "begun": self._begun,
            "first_step": self._first_step,
        }

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what every process has heard of the present round's pairs: each knows its own share."""
        checkpoint["answers"] = of_every_process(trainer, self._answers.said)
        checkpoint["lost"] = self._answers.lost_by_any(trainer)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take up what `state_dict` gave, and the pairs of the present round.

        Here and not in `on_fit_start`, because sharded strategies load after that; `setup` is always done.
        """
        state = checkpoint["callbacks"][self.state_key]
        self.round, self.kept = state["round"], state["kept"]
        self.best, self._best_worth = state["best"], state["best_worth"]
        self.rows = [RoundRow(**row) for row in state["rows"]]
        self._begun, self._first_step = state["begun"], state["first_step"]
        self._answers.take_up(checkpoint["answers"], checkpoint["lost"], trainer)
        data, module = _parts(trainer, pl_module)
        if self.round:
            data.resume_round(self.round, saved_pairs(data, self.folder, self.round))
        self._plan_schedule(trainer, data, module)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have the teachers annotate what they have not annotated yet, and begin round 0.

        Here and not in `on_fit_start`, because the schedule asks for the length of an epoch before that.

        Raises:
            InputError: the run is not made of whole rounds, or a split has no videos.
        """
        if stage != "fit":
            return
        self._began = began = time.monotonic()
        data, module = _parts(trainer, pl_module)
        _check_run(trainer, data, self.epochs_per_round)
        if module.score_by == "pairwise" and module.scoring.files is not None:
            named_clips(module.scoring.files, module.sampling)  # now, and not after hours of annotation
        self.folder = Path(trainer.strategy.broadcast(trainer.log_dir or "."))
        self.run_labels = LabelStore(self.folder / "labels")
        self.requests = round_requests(data, self.ladders, self.calibration_simulators)
        let_teachers_annotate(trainer, data, module, self.requests, blend=self.relabel == "blend")
        self.teachers = teacher_scores(data, self.requests)
        self._annotating = time.monotonic() - began
        if trainer.is_global_zero:
            print_teachers(self.teachers.rows)
        begin_first_round(data, self.teachers.consensus)
        self._plan_schedule(trainer, data, module)

    def _plan_schedule(self, trainer: Trainer, data: RoundDataModule, module: RankingModule) -> None:
        own = self.restart == "base"
        module.schedule = plan_schedule(trainer, data, self.epochs_per_round, self._first_step, own=own)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the anchors of a run that begins; a run that goes on has them from its checkpoint."""
        data, module = _parts(trainer, pl_module)
        self._answers.said = self._answers.said.to(module.device)
        if trainer.ckpt_path is not None:
            self._stop_if_exhausted(trainer)
            return
        if module.score_by == "pairwise":
            with trainer.precision_plugin.forward_context():
                module.set_anchors(anchor_clips(data, module, self.teachers.consensus))
        if self.restart == "base":
            save_learnt(module, self.folder / FIRST)
        save_pairs(trainer, data, self.folder)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget, when a round begins, what was said of the pairs before; perhaps restart from the base."""
        data, module = _parts(trainer, pl_module)
        if trainer.current_epoch % self.epochs_per_round:
            return
        self._answers.begin(len(data.round_pairs), module.device)
        # Not at the end of the last round, whose checkpoint holds what was learnt.
        if self._begun < self.round and self.restart == "base":
            load_learnt(module, self.folder / FIRST, buffers=False)
            self._first_step = trainer.global_step
            self._plan_schedule(trainer, data, module)
            trainer.strategy.setup_optimizers(trainer)
        elif self._begun < self.round and self.rows[-1].verdict == "rejected":
            forget_steps(trainer)
        self._begun = self.round

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep what the student said of the pairs: the next round's hard ones are drawn by it."""
        self._answers.add(batch, outputs["answers"])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Annotate with the student at the end of a round, judge it, and begin the next round.

        Logs `round/probe` and, with reference pairs, `round/probe_across`; by `round/worth`, their sum, a
        ModelCheckpoint keeps the best round.
        """
        if (trainer.current_epoch + 1) % self.epochs_per_round == 0:
            data, module = _parts(trainer, pl_module)
            module.eval()
            with torch.no_grad():
                self._end_round(trainer, data, module)
            module.train()
            self._stop_if_exhausted(trainer)
        probe, across = (self.rows[-1].probe[0], self.rows[-1].probe_across) if self.rows else (nan, None)
        pl_module.log("round/probe", probe, sync_dist=True)
        pl_module.log("round/worth", probe + (0 if across is None else across[0]), sync_dist=True)

    def _end_round(self, trainer: Trainer, data: RoundDataModule, module: RankingModule) -> None:
        with trainer.precision_plugin.forward_context(), gathered(module.lmm):
            student = self._annotate(trainer, data, module)
            judged = judge_pairs(trainer, data, module)
        last, best = (None if one is None else self._said_by(data, *one) for one in (self.kept, self.best))
        requests, metric = self.requests, reference_scores(data, self.requests)
        verdict = judge_student(student, best, requests.probe, metric, requests.references)
        before = self._who_labels(data, last)
        after = self._who_labels(data, student) if verdict.kept else before
        report = scores_of(student.table, student.fingerprint, ids(data, "report"))
        scores = {"student": report, **self.teachers.scores}
        seconds = time.monotonic() - self._began, self._annotating
        row = round_row(data, student, judged, verdict, after, scores, seconds)
        self.rows = [*self.rows[: self.round], row]
        warn(self.rows, verdict, kept_before=last is not None)
        publish(trainer, self.folder, self.rows, self.teachers.rows, judged.accuracy)
        answers = self._answers.merged(trainer, data)
        finished = FinishedRound(row, data.round_pairs, answers, student, scores, before, after, judged)
        tell_listeners(trainer, module, finished)
        keep_or_put_back(trainer, module, self.folder, student if verdict.kept else None, last)
        self.round += 1
        if verdict.kept:
            self.kept = (self.round, student.fingerprint)
            if best is None or verdict.worth >= self._best_worth:
                self.best, self._best_worth = self.kept, verdict.worth
        self._began, self._annotating = time.monotonic(), 0.0
        said = answers if verdict.kept else None
        begin_next_round(data, after, self.teachers, student, last, said)
        save_pairs(trainer, data, self.folder)

    def _annotate(self, trainer: Trainer, data: RoundDataModule, module: RankingModule) -> StudentScores:
        """Have the student score what is asked for, and fit the scale of its scores."""
        began, round = time.monotonic(), self.round + 1
        fingerprint = let_student_annotate(trainer, data, module, self.run_labels, round, self.requests)
        student = self._said_by(data, round, fingerprint)
        module.set_scale(student.train[np.isfinite(student.train)], student.errors)
        self._annotating += time.monotonic() - began
        return student

    def _said_by(self, data: RoundDataModule, round: int, fingerprint: str) -> StudentScores:
        return student_scores(data, self.run_labels, round, fingerprint, self.requests.errors)

    def _who_labels(self, data: RoundDataModule, student: StudentScores | None) -> Consensus:
        return who_labels(self.relabel, data, self.teachers, student, self.requests.errors)

    def _stop_if_exhausted(self, trainer: Trainer) -> None:
        since = rounds_without_rise(self.rows) if self.rows else 0
        if self.patience is not None and since >= self.patience:
            trainer.should_stop = True
            rank_zero_info(f"agreement on the probe has not risen for {since} rounds: the run ends")


def _check_run(trainer: Trainer, data: RoundDataModule, epochs_per_round: int) -> None:
    every: int = trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
    if every != 1:
        raise InputError(
            f"trainer.reload_dataloaders_every_n_epochs must be 1; got {every}: with another number every "
            "round would train on the pairs of the first."
        )
    epochs = trainer.max_epochs
    if epochs is None or epochs < 1 or epochs % epochs_per_round:
        raise InputError(
            "trainer.max_epochs must be a positive multiple of SelfImprovement.epochs_per_round, "
            f"{epochs_per_round}; got {epochs}."
        )
    for split in ("train", "select", "report"):
        if not data.split(split):
            raise InputError(
                f"the {split} split must have a readable video; got none: give more contents in data.videos, "
                "or a larger share of them in data.splits.shares."
            )


def _parts(trainer: Trainer, module: LightningModule) -> tuple[RoundDataModule, RankingModule]:
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, RoundDataModule) or not isinstance(module, RankingModule):
        raise InputError(
            "SelfImprovement must have a RankingModule with a RoundDataModule; got "
            f"{type(module).__name__} with {type(data).__name__}: change data.class_path or leave "
            "SelfImprovement out."
        )
    return data, module
