"""Self-improvement: at the end of each epoch-round the student re-annotates what it is trained on.

What a round is follows from the label store and the callback's few numbers of state alone. Annotation asks
only for what is missing under the annotator's fingerprint and the report is written whole each time, so that
a run that died at any moment repeats its last round and ends at the same place.
"""

import time
from math import nan
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor

from callbacks.rounds.annotators import (
    Relabel,
    alone,
    annotate,
    balanced_as,
    blended,
    ids,
    let_teachers_annotate,
)
from callbacks.rounds.finished_round import FinishedRound, JudgedPairs, RoundListener
from callbacks.rounds.probe import Verdict, collapsing, judge_round, label_entropy, score_spread
from callbacks.rounds.report import (
    human_figures,
    pair_counts,
    print_teachers,
    publish,
    rank_correlations,
    scores_of,
)
from callbacks.rounds.requests import round_requests
from callbacks.rounds.weights import FIRST, forget_steps, keep_weights, kept_weights, plan_schedule
from datamodules.files import written_whole
from datamodules.labels import Consensus, LabelStore
from datamodules.labels.fitted_consensus import look_up, whole_clips
from datamodules.pairs import ANSWERS, read_pairs
from datamodules.pairs.hard import merged_answers
from datamodules.pairs.lost import told_of_lost_pairs
from datamodules.pairs.relabelling import flipped
from datamodules.procedural import read_truth
from datamodules.round_data import RoundDataModule
from datamodules.simulators import SIMULATORS
from datamodules.video import read_clip
from vqa_lightning.annotators.student import Student
from vqa_lightning.checkpoints.resumable import load_learnt, save_learnt
from vqa_lightning.families import InputError
from vqa_lightning.lmm.sharding import gathered
from vqa_lightning.scoring import ErrorModel
from vqa_lightning.scoring.anchors import calmest, named_clips
from vqa_lightning.scoring.calibration import fit_errors, with_errors
from vqa_lightning.training import RankingModule


class SelfImprovement(Callback):
    """Annotates round 0 with the datamodule's teachers and every later round with the student.

    After each round the student is judged by the probe, ladders of the select split (`rounds.probe`). A
    rejected student's scores are not used as labels, and the weights of the last kept student are put back.

    Args:
        epochs_per_round: epochs on one pair table; `trainer.max_epochs` is a multiple of it.
        ladders: simulators whose whole ladder is scored on each content of the select and report splits, for
            the probe, the teachers' weights and the report; the simulators take turns from content to
            content.
        calibration_simulators: names of those whose ladders on the select split scale the student's standard
            errors, and belong to the probe; they should not be trained on, where the student errs least.
            None: all that `vqa-lightning list` names and data.simulators does not, save h265, or those of
            data.simulators if nothing is left.
        relabel: who labels pairs of different videos from the second round on. replace: the student, as in
            the paper; blend: teachers and student by the weights that the probe gives each; never: the
            teachers, to the end.
        restart: base: each later round begins with the weights that the run began with, as in the paper, with
            a new optimiser and a schedule of its own; continue: with those of the round before, and one
            schedule lies over the whole run.
        patience: the run stops after so many rounds in which agreement on the probe was not higher than ever
            before; None: it never does.
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
        if epochs_per_round < 1 or ladders < 1 or (patience is not None and patience < 1):
            raise InputError(
                f"SelfImprovement has epochs_per_round {epochs_per_round}, ladders {ladders} and patience "
                f"{patience}: give 1 or more."
            )
        unknown = [name for name in calibration_simulators or () if name not in SIMULATORS]
        if unknown or calibration_simulators == []:
            raise InputError(
                f"SelfImprovement has calibration_simulators {calibration_simulators}: choose among "
                f"{', '.join(SIMULATORS)}, or leave it out."
            )
        self.epochs_per_round = epochs_per_round
        self.ladders = ladders
        self.calibration_simulators = calibration_simulators
        self.relabel: Relabel = relabel
        self.restart = restart
        self.patience = patience
        self.round = 0
        self.rows: list[dict[str, Any]] = []
        self.kept: tuple[int, str] | None = None
        """Round of the label store and fingerprint of the last student that was kept."""
        self._begun = 0
        self._first_step = 0
        self._answers = torch.empty(0, len(ANSWERS))
        self._lost: set[str] = set()

    def state_dict(self) -> dict[str, Any]:
        """Rounds done and begun, the report, and who was kept."""
        return {
            "round": self.round,
            "rows": self.rows,
            "kept": self.kept,
            "begun": self._begun,
            "first_step": self._first_step,
        }

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds what every process has heard of the present round's pairs: each knows its own share."""
        checkpoint["answers"] = (
            trainer.strategy.all_gather(self._answers).reshape(-1, *self._answers.shape).cpu()
        )
        checkpoint["lost"] = sorted(self._all_lost(trainer))

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Takes up what `state_dict` gave, and the pairs of the present round.

        Here and not in `on_fit_start`, because sharded strategies load after that; `setup` is always done.
        """
        state = checkpoint["callbacks"][self.state_key]
        self.round, self.rows, self.kept = state["round"], state["rows"], state["kept"]
        self._begun, self._first_step = state["begun"], state["first_step"]
        every = checkpoint["answers"]
        same = len(every) == trainer.world_size
        self._answers = every[trainer.global_rank] if same else merged_answers(every)
        self._lost = set(checkpoint["lost"])
        data, module = _parts(trainer, pl_module)
        if self.round:
            data.resume_round(self.round, read_pairs(self._pairs_file(self.round), data.ladder))
        self._plan_schedule(trainer, data, module)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Has the teachers annotate what they have not annotated yet, and begins round 0.

        Here and not in `on_fit_start`, because the schedule asks for the length of an epoch before that.

        Raises:
            InputError: the run is not made of whole rounds, or a split has no videos.
        """
        if stage != "fit":
            return
        self._began = time.monotonic()
        data, module = _parts(trainer, pl_module)
        self._check_run(trainer, data)
        if module.score_by == "pairwise" and module.scoring.files is not None:
            named_clips(module.scoring.files, module.sampling)  # now, and not after hours of annotation
        self.folder = Path(trainer.strategy.broadcast(trainer.log_dir or "."))
        self.run_labels = LabelStore(self.folder / "labels")
        self.requests = round_requests(data, self.ladders, self.calibration_simulators)
        began = time.monotonic()
        self.teachers = let_teachers_annotate(trainer, data, self.requests, blend=self.relabel == "blend")
        self._annotating = time.monotonic() - began
        if trainer.is_global_zero:
            print_teachers(self.teachers.rows)
        data.begin_round(0, self.teachers.consensus, versions=self.teachers.versions)
        self._plan_schedule(trainer, data, module)

    def _check_run(self, trainer: Trainer, data: RoundDataModule) -> None:
        every: int = trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
        if every != 1:
            raise InputError(
                f"trainer.reload_dataloaders_every_n_epochs is {every}: set it to 1, or every "
                "round would train on the pairs of the first."
            )
        epochs = trainer.max_epochs
        if epochs is None or epochs < 1 or epochs % self.epochs_per_round:
            raise InputError(
                f"trainer.max_epochs is {epochs}, but a round has {self.epochs_per_round} epochs "
                "(epochs_per_round of SelfImprovement): give a multiple of that."
            )
        for split in ("train", "select", "report"):
            if not data.split(split):
                raise InputError(
                    f"the {split} split has no readable video: give more contents in data.videos, or a "
                    "larger share of them in data.shares."
                )

    def _plan_schedule(self, trainer: Trainer, data: RoundDataModule, module: RankingModule) -> None:
        own = self.restart == "base"
        module.schedule = plan_schedule(trainer, data, self.epochs_per_round, self._first_step, own=own)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Chooses the anchors of a run that begins; one that goes on has them from its checkpoint."""
        data, module = _parts(trainer, pl_module)
        self._answers = self._answers.to(module.device)
        if trainer.ckpt_path is not None:
            self._stop_if_exhausted(trainer)
            return
        if module.score_by == "pairwise":
            with trainer.precision_plugin.forward_context():
                module.set_anchors(self._anchor_clips(module, data))
        if self.restart == "base":
            save_learnt(module, self.folder / FIRST)
        self._save_pairs(trainer, data)

    def _anchor_clips(self, module: RankingModule, data: RoundDataModule) -> list[Tensor]:
        if module.scoring.files is not None:
            return named_clips(module.scoring.files, module.sampling)
        train = {video.video_id: video for video in data.split("train")}
        chosen = calmest(self.teachers.consensus.restrict(list(train)), module.anchors.count)
        return [read_clip(train[name], module.sampling).frames for name in chosen]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """When a round begins: forgets what was said of the pairs before; may restart from the base."""
        data, module = _parts(trainer, pl_module)
        if trainer.current_epoch % self.epochs_per_round:
            return
        self._answers = torch.full((len(data.round_pairs), len(ANSWERS)), nan, device=module.device)
        self._lost = set()
        # Not at the end of the last round, whose checkpoint holds what was learnt.
        if self._begun < self.round and self.restart == "base":
            load_learnt(module, self.folder / FIRST, buffers=False)
            self._first_step = trainer.global_step
            self._plan_schedule(trainer, data, module)
            trainer.strategy.setup_optimizers(trainer)
        elif self._begun < self.round and self.rows[-1]["verdict"] == "rejected":
            forget_steps(trainer)
        self._begun = self.round

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keeps what the student said of the pairs: the next round's hard ones are drawn by it."""
        # On the device, for to look at it there would make the host wait in every step.
        self._answers[batch.row] = outputs["answers"]
        self._lost.update(batch.lost)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """At the end of a round: annotates with the student, judges it, and begins the next round.

        Logs `round/probe`, by which a ModelCheckpoint keeps the best round.
        """
        if (trainer.current_epoch + 1) % self.epochs_per_round == 0:
            data, module = _parts(trainer, pl_module)
            module.eval()
            with torch.no_grad():
                self._end_round(trainer, data, module)
            module.train()
            self._stop_if_exhausted(trainer)
        pl_module.log("round/probe", self.rows[-1]["probe"] if self.rows else nan, sync_dist=True)

    def _end_round(self, trainer: Trainer, data: RoundDataModule, module: RankingModule) -> None:
        with trainer.precision_plugin.forward_context(), gathered(module.lmm):
            student = self._let_student_annotate(trainer, data, module)
            judged, accuracy = self._judge_pairs(trainer, data, module)
        last = None if self.kept is None else (self._scored_by(*self.kept), self.kept[1])
        train = ids(data, "train")
        verdict = judge_round(student, last, self.requests.probe, look_up(whole_clips(*student), train)[0])
        own, earlier = alone(data, *student), None if last is None else alone(data, *last)
        before = self._labels(data, last)
        after = self._labels(data, student) if verdict.kept else before
        scores = {"student": scores_of(*student, ids(data, "report")), **self.teachers.scores}
        report = data.split("report")
        truth = None if data.embedded is None else read_truth(data.embedded)
        row: dict[str, Any] = {
            "round": self.round,
            **pair_counts(data.round_pairs),
            "rank_accuracy": accuracy["rank_accuracy"],
            "level_accuracy": accuracy["level_accuracy"],
            "flipped": flipped(data.round_pairs, after, data.blur),
            "seconds": time.monotonic() - self._began,
            **rank_correlations(scores, report, data.identity_ladder, truth),
            **human_figures(data.round_pairs, scores, data.report_mos),
            "probe": verdict.agreement.value,
            "probe_low": verdict.agreement.interval[0],
            "probe_high": verdict.agreement.interval[1],
            "verdict": "kept" if verdict.kept else "rejected",
            "label_entropy": label_entropy(own.restrict(train)),
            "score_spread": score_spread(own.restrict(train)),
            "annotation_seconds": self._annotating,
        }
        self.rows = [*self.rows[: self.round], row]
        self._report(trainer, accuracy, verdict)
        every = trainer.strategy.all_gather(self._answers).reshape(-1, *self._answers.shape)
        answers = merged_answers(every.cpu())
        videos = {video.video_id: video for video in data.split("train")}
        for sentence in told_of_lost_pairs(data.round_pairs, answers, self._all_lost(trainer), videos):
            rank_zero_warn(f"round {self.round}: {sentence}")
        finished = FinishedRound(
            self.round, row, data.round_pairs, answers, student[0], scores, before, after, judged
        )
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, RoundListener):
                callback.on_round_end(trainer, module, finished)
        weights = None if last is None else kept_weights(self.folder, last[1])
        if verdict.kept:
            keep_weights(trainer, module, kept_weights(self.folder, student[1]), weights)
            self.kept = (self.round + 1, student[1])
        elif weights is not None:
            load_learnt(module, weights)
            module.anchors.forget()
        self.round += 1
        self._began, self._annotating = time.monotonic(), 0.0
        versions = data.reference_versions(data.labels.read(round=0), after) if data.references else None
        data.begin_round(
            self.round,
            after,
            versions=versions,
            student=own if verdict.kept else earlier,
            defenders=[*self.teachers.each, *([earlier] if earlier is not None and verdict.kept else [])],
            answers=answers if verdict.kept else None,
            lost=set(train) - set(own.video_ids),
        )
        self._save_pairs(trainer, data)

    def _let_student_annotate(
        self, trainer: Trainer, data: RoundDataModule, module: RankingModule
    ) -> tuple[pa.Table, str]:
        """Also fits the score's scale; returns what `_scored_by` gives, and the student's fingerprint."""
        began = time.monotonic()
        if module.score_by == "pairwise":
            module.refresh_anchors()
        student = Student(module)
        annotate(trainer, data, student, self.run_labels, self.round + 1, self.requests.of_student)
        table = self.run_labels.read(round=self.round + 1, fingerprint=student.fingerprint)
        train, _ = look_up(whole_clips(table, student.fingerprint), ids(data, "train"))
        train = train[np.isfinite(train)]
        if not len(train):
            raise InputError(
                "the student could score no video of the train split: check that data.videos is still there."
            )
        errors = self._errors(table)
        module.set_scale(train, errors)
        self._annotating += time.monotonic() - began
        return with_errors(table, errors), student.fingerprint

    def _errors(self, table: pa.Table) -> ErrorModel:
        """METHOD section 6: the spread over clips, calibrated on the select split, is the student's error."""
        videos = pa.array({request.video.video_id for request in self.requests.errors})
        simulators = pa.array([None, *{request.key[1] for request in self.requests.errors}])
        return fit_errors(
            table.filter(
                pc.and_(pc.is_in(table["video_id"], videos), pc.is_in(table["simulator"], simulators))
            )
        )

    def _scored_by(self, round: int, fingerprint: str) -> pa.Table:
        """What a round's student said, with calibrated standard errors."""
        table = self.run_labels.read(round=round, fingerprint=fingerprint)
        return with_errors(table, self._errors(table))

    def _labels(self, data: RoundDataModule, student: tuple[pa.Table, str] | None) -> Consensus:
        """Who labels pairs of different videos when this student was kept, its rows and fingerprint."""
        if student is None or self.relabel == "never":
            return self.teachers.consensus
        if self.relabel == "replace":
            found = alone(data, *student)
        else:
            table = pa.concat_tables([data.labels.read(round=0), student[0]])
            everyone = {**self.teachers.fingerprints, "student": student[1]}
            found = blended(data, table, everyone, self.requests.errors)
        return balanced_as(found, self.teachers.consensus, ids(data, "train"))

    def _judge_pairs(
        self, trainer: Trainer, data: RoundDataModule, module: RankingModule
    ) -> tuple[JudgedPairs, dict[str, float]]:
        """The report split's pairs one by one, and their accuracies."""
        accuracy = module.new_accuracy()[module.score_by]
        found = []
        for batch in data.test_dataloader():
            pairs = trainer.strategy.batch_to_device(batch)  # Lightning's hooks, the device pass included
            difference, levels = module.answers(pairs, module.judge(pairs.sides()))[module.score_by]
            accuracy.update(difference, levels, pairs)
            found.append((pairs.levels, levels, difference, pairs.order(), pairs.simulator()))
        judged = JudgedPairs(*(torch.cat(column).float().cpu() for column in zip(*found, strict=True)))
        return judged, {name: float(value) for name, value in accuracy.compute().items()}

    def _report(self, trainer: Trainer, accuracy: dict[str, float], verdict: Verdict) -> None:
        if not verdict.kept:
            back = (
                "no round was kept before"
                if self.kept is None
                else "the weights of the last that was kept are put back"
            )
            rank_zero_warn(
                f"round {self.round} is rejected: {verdict.reason}; the labels stay as they were, and {back}."
            )
        row = self.rows[-1]
        for name in ("label_entropy", "score_spread"):
            if collapsing([earlier[name] for earlier in self.rows]):
                most = max(earlier[name] for earlier in self.rows)
                rank_zero_warn(
                    f"round {self.round}: {name} is {row[name]:.2f} after {most:.2f}: the student tells "
                    "videos apart less and less, so look at its scores before its labels are used further."
                )
        publish(trainer, self.folder, self.rows, self.teachers.rows, accuracy)

    def _all_lost(self, trainer: Trainer) -> set[str]:
        """Ids of videos that any process could not read in the present round."""
        ranks = range(trainer.world_size)
        return {name for rank in ranks for name in trainer.strategy.broadcast(sorted(self._lost), src=rank)}

    def _stop_if_exhausted(self, trainer: Trainer) -> None:
        agreement = np.nan_to_num([row["probe"] for row in self.rows], nan=-1)
        if self.patience is None or len(agreement) <= self.patience:
            return
        since = len(agreement) - 1 - int(np.argmax(agreement))
        if since >= self.patience:
            trainer.should_stop = True
            rank_zero_info(f"agreement on the probe has not risen for {since} rounds: the run ends")

    def _pairs_file(self, round: int) -> Path:
        return self.folder / "pairs" / f"round-{round}.parquet"

    def _save_pairs(self, trainer: Trainer, data: RoundDataModule) -> None:
        if trainer.is_global_zero:
            with written_whole(self._pairs_file(self.round)) as hidden:
                pq.write_table(data.round_pairs, hidden)
        trainer.strategy.barrier()


def _parts(trainer: Trainer, module: LightningModule) -> tuple[RoundDataModule, RankingModule]:
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, RoundDataModule) or not isinstance(module, RankingModule):
        raise InputError(
            "SelfImprovement works on a RankingModule with a RoundDataModule, not on "
            f"{type(module).__name__} with {type(data).__name__}: change data.class_path or take it out."
        )
    return data, module
