"""Self-improvement: at the end of each epoch-round the student re-annotates what it is trained on.

What a round is follows from the label store and the callback's few numbers of state alone. Annotation asks
only for what is missing under the annotator's fingerprint and the report is written whole each time, so that
a run that died at any moment repeats its last round and ends at the same place.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor

from callbacks.round_report import (
    Scores,
    ensemble_scores,
    human_figures,
    pair_counts,
    print_report,
    print_teachers,
    rank_correlations,
    scores_of,
    teacher_rows,
    write_report,
)
from datamodules.annotation import Annotator, Request, annotate_missing
from datamodules.consensus import FittedConsensus, fit_consensus
from datamodules.decoding import Video, read_clip
from datamodules.errors import InputError
from datamodules.hard_pairs import flipped
from datamodules.label_store import LabelStore
from datamodules.pairs import Consensus, balance_of, cuts_for_balance, read_pairs
from datamodules.procedural import read_truth
from datamodules.round_data import RoundDataModule
from datamodules.scores_file import ScoresFile
from datamodules.simulators import SIMULATORS, Simulator, find_simulators
from datamodules.teacher_weights import weigh_teachers
from datamodules.teachers import Laplacian, Teacher
from vqa_lightning.anchors import calmest, named_clips
from vqa_lightning.calibration import ErrorModel, fit_errors, with_errors
from vqa_lightning.module import RankingModule
from vqa_lightning.sharding import gathered
from vqa_lightning.student import Student

CALIBRATION_LADDERS = 96
"""That scale the errors: with 24 these are uncertain by up to a third; more would keep the codecs busy."""

SLOW = ("h265",)
"""Not among those that scale the errors unless named: of whole frames x265 encodes a few a second."""


class SelfImprovement(Callback):
    """Annotates round 0 with the datamodule's teachers and every later round with the student.

    Args:
        epochs_per_round: epochs on one pair table.
        ladders: simulators whose whole ladder is scored on each content of the select and report splits, for
            the teachers' weights and for the report; the simulators take turns from content to content.
        calibration_simulators: names of those whose ladders on the select split scale the student's standard
            errors; they should not be trained on, where the student errs least. None: all that
            `vqa-lightning list` names and data.simulators does not, save h265, or those of data.simulators if
            nothing is left.
    """

    def __init__(
        self, epochs_per_round: int = 1, ladders: int = 1, calibration_simulators: list[str] | None = None
    ) -> None:
        if epochs_per_round < 1 or ladders < 1:
            raise InputError(
                f"SelfImprovement has epochs_per_round {epochs_per_round} and ladders {ladders}: "
                "give 1 or more."
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
        self.round = 0
        self.rows: list[dict[str, Any]] = []
        self._wrong = torch.empty(0, dtype=torch.bool)

    def state_dict(self) -> dict[str, Any]:
        """Rounds done, the report's rows, and which pairs of the present round were ranked wrongly."""
        return {"round": self.round, "rows": self.rows, "wrong": self._wrong.cpu()}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Takes up what `state_dict` gave, and the pairs of the present round.

        Here and not in `on_fit_start`, because sharded strategies load after that; `setup` is always done.
        """
        state = checkpoint["callbacks"][self.state_key]
        self.round, self.rows, self._wrong = (state[name] for name in ("round", "rows", "wrong"))
        if self.round:
            data, _ = _parts(trainer, pl_module)
            data.resume_round(self.round, read_pairs(self._pairs_file(self.round), data.ladder))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Has the teachers annotate what they have not annotated yet, and begins round 0.

        Here and not in `on_fit_start`, because the schedule asks for the length of an epoch before that.
        """
        if stage != "fit":
            return
        self._began = time.monotonic()
        data, module = _parts(trainer, pl_module)
        every: int = trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
        if every != 1:
            raise InputError(
                f"trainer.reload_dataloaders_every_n_epochs is {every}: set it to 1, or every "
                "round would train on the pairs of the first."
            )
        if module.score_by == "pairwise" and module.anchor_files is not None:
            named_clips(module.anchor_files, module.sampling)  # now, and not after hours of annotation
        self.folder = Path(trainer.strategy.broadcast(trainer.log_dir or "."))
        self.run_labels = LabelStore(self.folder / "labels")
        splits = ("train", "select", "report")
        self.sources = [Request(video) for split in splits for video in data.split(split)]
        report, select = data.split("report"), data.split("select")
        self.report_ladders = _ladders(report, list(data.simulators.values()), self.ladders)
        self.select_ladders = _ladders(select, list(data.simulators.values()), self.ladders)
        few = select[:: ceil(len(select) / CALIBRATION_LADDERS)]
        each = ceil(CALIBRATION_LADDERS / len(few))
        self.error_ladders = _ladders(few, self._calibration_simulators(data), each)
        baseline = Laplacian()
        for annotator in (*data.teachers, baseline):
            if isinstance(annotator, Teacher):
                annotator.device = trainer.strategy.root_device
                annotator.prepare(data.split("train"))
            elif isinstance(annotator, ScoresFile):
                annotator.prepare([request.video for request in self.sources])
            requests = [*self.sources, *self.report_ladders, *self.select_ladders]
            self._annotate(trainer, data, annotator, data.labels, 0, requests)
        for metric in data.references:
            metric.device = trainer.strategy.root_device
            self._annotate(trainer, data, metric, data.labels, 0, data.reference_requests())
        table = data.labels.read(round=0)
        self.teachers = {teacher.name: teacher.fingerprint for teacher in data.teachers}
        found = weigh_teachers(table, self.teachers, self.select_ladders)
        # Where no pair is theirs to label, a corpus on which all of them fail is no reason to stop.
        equal = data.teacher_weights == "equal" or not data.teacher_pairs
        self.teacher_rows = teacher_rows(found, equal)
        weights = {row["fingerprint"]: row["weight"] for row in self.teacher_rows}
        if trainer.is_global_zero:
            print_teachers(self.teacher_rows)
        fitted = fit_consensus(table, _ids(data, "train"), list(weights), weights=weights)
        self.teacher_consensus = _consensus(data, fitted)
        names = {**self.teachers, baseline.name: baseline.fingerprint}
        self.teacher_scores = {name: scores_of(table, fingerprint) for name, fingerprint in names.items()}
        self.teacher_scores["ensemble"] = ensemble_scores(
            fitted, [request.key for request in (*self.sources, *self.report_ladders)]
        )
        self.versions = data.reference_versions(table, self.teacher_consensus)
        data.begin_round(0, self.teacher_consensus, versions=self.versions)

    def _calibration_simulators(self, data: RoundDataModule) -> list[Simulator]:
        if self.calibration_simulators is not None:
            return list(find_simulators(self.calibration_simulators).values())
        unseen = [
            simulator for name, simulator in SIMULATORS.items() if name not in (*data.simulators, *SLOW)
        ]
        return unseen or list(data.simulators.values())

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Chooses the anchors of a run that begins; one that goes on has them from its checkpoint."""
        data, module = _parts(trainer, pl_module)
        self._wrong = self._wrong.to(module.device)
        if trainer.ckpt_path is not None:
            return
        if module.score_by == "pairwise":
            with trainer.precision_plugin.forward_context():
                module.set_anchors(self._anchor_clips(module, data))
        self._save_pairs(trainer, data)

    def _anchor_clips(self, module: RankingModule, data: RoundDataModule) -> list[Tensor]:
        if module.anchor_files is not None:
            return named_clips(module.anchor_files, module.sampling)
        train = {video.video_id: video for video in data.split("train")}
        chosen = calmest(self.teacher_consensus.restrict(list(train)), module.anchors.count)
        return [read_clip(train[name], module.sampling).frames for name in chosen]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets which pairs were ranked wrongly when a round begins."""
        data, _ = _parts(trainer, pl_module)
        if trainer.current_epoch % self.epochs_per_round == 0:
            self._wrong = torch.zeros(len(data.round_pairs), dtype=torch.bool, device=pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keeps which pairs the student ranked wrongly: the next round's hard ones are drawn from them."""
        # On the device, for to look at it there would make the host wait in every step.
        self._wrong[batch.row] |= outputs["wrong"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """At the end of a round: annotates with the student, reports, and begins the next round."""
        if (trainer.current_epoch + 1) % self.epochs_per_round:
            return
        data, module = _parts(trainer, pl_module)
        module.eval()
        with trainer.precision_plugin.forward_context(), gathered(module.lmm):
            student, accuracy = self._let_student_annotate(trainer, data, module)
        module.train()
        table = self.run_labels.read(round=self.round + 1, fingerprint=student)
        train = _ids(data, "train")
        # METHOD section 6: the spread over clips, calibrated on the select split, is the student's error.
        table = with_errors(table, ErrorModel(*module.scale[2:].tolist()))
        consensus = _consensus(data, fit_consensus(table, train, [student]))
        balance = balance_of(self.teacher_consensus.restrict(train))
        consensus = replace(consensus, cuts=cuts_for_balance(consensus.restrict(train), balance))
        self._report(trainer, data, module, scores_of(table, student), accuracy, consensus)
        wrong = trainer.strategy.reduce(self._wrong.int(), reduce_op="sum").cpu() > 0
        self.round += 1
        self._began = time.monotonic()
        data.begin_round(
            self.round, consensus, versions=self.versions, defender=self.teacher_consensus, wrong=wrong
        )
        self._save_pairs(trainer, data)

    @torch.no_grad()
    def _let_student_annotate(
        self, trainer: Trainer, data: RoundDataModule, module: RankingModule
    ) -> tuple[str, dict[str, float]]:
        """Also fits the score's scale; returns the student's fingerprint and its report accuracies."""
        if module.score_by == "pairwise":
            module.refresh_anchors()
        student = Student(module)
        requests = [*self.sources, *self.report_ladders, *self.error_ladders]
        self._annotate(trainer, data, student, self.run_labels, self.round + 1, requests)
        table = self.run_labels.read(round=self.round + 1, fingerprint=student.fingerprint)
        sources = scores_of(table, student.fingerprint)
        train = [sources[key] for name in _ids(data, "train") if (key := (name, None, 0)) in sources]
        ladders = table.filter(pc.is_in(table["video_id"], pa.array(_ids(data, "select"))))
        module.set_scale(np.array(train), fit_errors(ladders))
        accuracy = module.new_accuracy()[module.score_by]
        for batch in data.test_dataloader():
            pairs = trainer.strategy.batch_to_device(batch)  # Lightning's hooks, the device pass included
            accuracy.update(*module.answers(pairs, module.judge(pairs.sides()))[module.score_by], pairs)
        return student.fingerprint, {name: float(value) for name, value in accuracy.compute().items()}

    def _report(
        self,
        trainer: Trainer,
        data: RoundDataModule,
        module: RankingModule,
        student: Scores,
        accuracy: dict[str, float],
        consensus: Consensus,
    ) -> None:
        report = data.split("report")
        truth = None if data.embedded is None else read_truth(data.embedded)
        scores = {"student": student, **self.teacher_scores}
        row: dict[str, Any] = {
            "round": self.round,
            **pair_counts(data.round_pairs),
            "rank_accuracy": accuracy["rank_accuracy"],
            "level_accuracy": accuracy["level_accuracy"],
            "flipped": flipped(data.round_pairs, consensus, data.blur),
            "seconds": time.monotonic() - self._began,
            **rank_correlations(scores, report, data.identity_ladder, truth),
            **human_figures(data.round_pairs, scores, data.report_mos),
        }
        self.rows = [*self.rows[: self.round], row]
        if trainer.is_global_zero:
            write_report(self.folder / "rounds.csv", self.rows)
            write_report(self.folder / "teachers.csv", self.teacher_rows)
            print_report(self.rows, list(self.teachers))
        for logger in trainer.loggers:
            figures = {
                f"round/{name}": value for name, value in row.items() if name != "round" and value != ""
            }
            by_simulator = {f"report/{name}": value for name, value in accuracy.items()}
            logger.log_metrics({**figures, **by_simulator}, step=trainer.global_step)

    def _annotate(
        self,
        trainer: Trainer,
        data: RoundDataModule,
        annotator: Annotator,
        store: LabelStore,
        round: int,
        requests: Sequence[Request],
    ) -> None:
        began = time.monotonic()
        # A loader draws from the global generator: found or computed, scores must lead to the same weights.
        with isolate_rng():
            done = annotate_missing(
                annotator,
                requests,
                store,
                round,
                rank=trainer.global_rank,
                world_size=trainer.world_size,
                workers=data.workers,
            )
        trainer.strategy.barrier()
        if done:
            rank_zero_info(
                f"round {round}: {annotator.name} scored {done} clips in {time.monotonic() - began:.0f} s"
            )

    def _pairs_file(self, round: int) -> Path:
        return self.folder / "pairs" / f"round-{round}.parquet"

    def _save_pairs(self, trainer: Trainer, data: RoundDataModule) -> None:
        if trainer.is_global_zero:
            file = self._pairs_file(self.round)
            file.parent.mkdir(parents=True, exist_ok=True)
            hidden = file.with_name(f".{file.name}.tmp")
            pq.write_table(data.round_pairs, hidden)
            hidden.replace(file)
        trainer.strategy.barrier()


def _parts(trainer: Trainer, module: LightningModule) -> tuple[RoundDataModule, RankingModule]:
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, RoundDataModule) or not isinstance(module, RankingModule):
        raise InputError(
            "SelfImprovement works on a RankingModule with a RoundDataModule, not on "
            f"{type(module).__name__} with {type(data).__name__}: change data.class_path or take it out."
        )
    return data, module


def _ids(data: RoundDataModule, split: str) -> list[str]:
    return [video.video_id for video in data.split(split)]


def _ladders(videos: Sequence[Video], simulators: Sequence[Simulator], count: int) -> list[Request]:
    """All levels of `count` simulators on each video, the simulators taking turns."""
    return [
        Request(video, simulator, level + 1)
        for place, video in enumerate(videos)
        for turn in range(min(count, len(simulators)))
        for simulator in [simulators[(place * count + turn) % len(simulators)]]
        for level in range(len(simulator.levels))
    ]


def _consensus(data: RoundDataModule, fitted: FittedConsensus) -> Consensus:
    ids = [video.video_id for split in ("train", "select", "report") for video in data.split(split)]
    mean, variance = fitted.scores(ids)
    known = np.isfinite(mean)
    kept = tuple(name for name, there in zip(ids, known, strict=True) if there)
    return Consensus(kept, mean[known], variance[known])
