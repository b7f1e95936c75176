"""One training of benchmarks/weak_to_strong.py, and what its students answer.

Controls of round 2 share round 1 with it to the bit: at its end the process is forked for each of them, which
goes on under the control's settings to the end of round 2.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from ablation_student import FirstRound, Job, configured
from experiment import QUIET
from judging import DRAWS, KeptClips, Row, trained
from lightning.pytorch import LightningModule, Trainer
from weak_to_strong_trainings import ENSEMBLE, LAPLACIAN, MIXED, TEACHERS, TRUTH, Control, Training

from callbacks.rounds import FinishedRound, RoundListener, SelfImprovement
from callbacks.rounds.requests import ids
from callbacks.rounds.rows import TeacherRow
from callbacks.rounds.scores import ensemble_scores, scores_of
from datamodules.labels import Request, annotate_missing, fit_consensus, preference
from datamodules.procedural import read_truth
from datamodules.round_data import RoundDataModule
from datamodules.simulators import SIMULATORS
from datamodules.teachers import Laplacian
from datamodules.video import Video
from vqa_lightning.annotators.student import Student
from vqa_lightning.metrics import srcc
from vqa_lightning.training import RankingModule

BATCH = 24

LADDERS = {"embedded": 2, "clips": 8}
"""Simulators by which each held-out content judges teachers and rounds: of clips there is one for it."""


def learnt_from(judges: Path, job: Job) -> Path:
    """Return the manifest of the videos that students of a corpus and seed train on."""
    return judges / (f"fold_{job.seed}.csv" if job.corpus == "clips" else "students/students.csv")


def teacher(name: str, learnt: Path) -> dict[str, Any]:
    """Return the config of a teacher of the videos of a manifest."""
    if name != TRUTH:
        return {"class_path": TEACHERS[name]}
    file = {"path": str(learnt.with_name("truth.csv")), "name_column": "path", "score_column": "ms_ssim"}
    return {"class_path": "datamodules.ScoresFile", "init_args": file}


def words(training: Training, job: Job, judges: Path, steps: int) -> list[str]:
    """Return the command line's words beside the config."""
    learnt = learnt_from(judges, job)
    pairs = training.length * steps * BATCH
    drawn = {source: int(share * pairs) for source, share in training.shares.items()}
    drawn["teacher"] += pairs - sum(drawn.values())
    data: dict[str, Any] = {
        "batch_size": BATCH,
        **{f"counts.{source}": drawn.get(source, 0) for source in MIXED},
        "drawing.draws": 4,
        "splits.duplicates": False,
        "counts.evaluation": 96,
        "simulators": trained(job.seed),
        "teachers": [teacher(name, learnt) for name in training.teachers],
        "videos": str(learnt),
        "labels": str(judges / "labels"),
        "splits.seed": job.seed,
        **training.growth,
    }
    model: dict[str, Any] = {"both_orders": False, "scoring.draws": DRAWS}
    if len(training.teachers) == 1:  # nobody to be weighed against, even if it is no better than chance
        data["labelling.teacher_weights"] = "equal"
    if training.confidence:
        model["loss.pairwise"] = {"class_path": "vqa_lightning.losses.ConfidenceCrossEntropy"}
    settings = {f"data.init_args.{name}": value for name, value in data.items()}
    settings |= {f"model.{name}": value for name, value in model.items()} | {"seed_everything": job.seed}
    return [
        f"--{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in settings.items()
    ]


class Answers(RoundListener):
    """Keeps what the students of some rounds say.

    Args:
        names: round -> row of the table.
        keep: is called with the row, the module, and more to be written down.
        truth: content -> hidden quality of the videos that are learnt from; empty without one.
    """

    def __init__(
        self, names: Mapping[int, str], keep: Callable[..., None], truth: Mapping[str, float]
    ) -> None:
        self.names = names
        self.keep = keep
        self.truth = truth

    def on_round_end(self, trainer: Trainer, pl_module: RankingModule, finished: FinishedRound) -> None:
        """Keep the answers once a round."""
        if finished.row.round in self.names:
            data = trainer.datamodule  # type: ignore[attr-defined]
            more = diagnosis(data, finished, self.truth)
            self.keep(self.names[finished.row.round], pl_module, round=finished.row.columns(), **more)


class Forking(SelfImprovement):
    """Rounds that, where the first ends, fork a process for each control.

    Args:
        controls: row of the table -> what its second round does otherwise; empty: there is no fork.
        answers: told which row comes next.
        **settings: of `SelfImprovement`.
    """

    def __init__(self, controls: Mapping[str, Control], answers: Answers, **settings: Any) -> None:
        super().__init__(**settings)
        self.controls = controls
        self.answers = answers

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Run one control after the other, for they write the same files, and go on after them."""
        if self.round == 0:
            name = next((name for name in self.controls if self._is_child(name)), None)
            if name is not None:
                self._become(self.controls[name], name, trainer)
        super().on_train_epoch_end(trainer, pl_module)

    def _become(self, control: Control, name: str, trainer: Trainer) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        hard = replace(data.later.hard, share=control.hard_share, rule=control.hard)
        data.later = replace(data.later, hard=hard)
        self.relabel = control.relabel
        self.answers.names = {1: name}
        trainer.fit_loop.max_epochs = 2

    @staticmethod
    def _is_child(name: str) -> bool:
        """Fork, and return whether this is the new process; the old process waits until that has ended."""
        child = os.fork()
        if child == 0:
            return True
        _, status = os.waitpid(child, 0)
        if status:
            raise RuntimeError(f"{name} failed; its message is above.")
        return False


def calibrating(seed: int) -> list[str]:
    """Name the first simulator of each trained family: the default would be those that are left out here."""
    first: dict[str, str] = {}
    for name in trained(seed):
        first.setdefault(SIMULATORS[name].family, name)
    return list(first.values())


def diagnosis(data: RoundDataModule, finished: FinishedRound, truth: Mapping[str, float]) -> dict[str, float]:
    """Return how right the labels of the train split are, by the hidden truth, of which no student learns.

    Returns:
        `labels_truth`: SRCC of what labels the round's pairs of different videos with the truth;
        `hard_right` and `easy_right`: share of those pairs whose label puts the better video first. Nothing
        for videos without a truth.
    """
    if not truth:
        return {}
    hidden = {video.video_id: truth[video.content] for video in data.split("train")}
    known = finished.before.restrict(ids(data, "train"))
    found = {"labels_truth": srcc(known.score, [hidden[name] for name in known.video_ids])}
    real = finished.pairs.filter(pc.equal(finished.pairs["source"], "teacher"))
    sides = [np.array([hidden[name] for name in real[side].to_pylist()]) for side in ("first", "second")]
    labelled = preference(torch.tensor(real["levels"].to_pylist())).numpy() - 0.5
    right = np.sign(labelled) == np.sign(sides[1] - sides[0])
    hard = np.asarray(real["hard"])
    for name, chosen in (("hard_right", hard), ("easy_right", ~hard)):
        found[name] = float(right[chosen].mean()) if chosen.any() else math.nan
    return found


def run_training(
    training: Training,
    job: Job,
    known: Mapping[str, Video],
    rows: Sequence[Row],
    judges: Path,
    root: Path,
    steps: int,
) -> None:
    """Train on one thread and keep what the students say of the versions that judge them.

    Args:
        training: what is learnt from.
        job: corpus and seed; the arm is the first student.
        known: video_id -> the videos that judge.
        rows: all that students of this corpus are judged by.
        judges: where its clips and the folds' manifests lie.
        root: where answers are kept.
        steps: of a round.
    """
    torch.set_num_threads(1)
    module, data, clipped = configured(words(training, job, judges, steps))
    clips = KeptClips(judges, [row.request(known) for row in rows])
    asked = [row.request(known) for row in rows if row.fold in (-1, job.seed)]
    began = time.process_time()

    def keep(name: str, module: RankingModule, **more: Any) -> None:
        spent = time.process_time() - began
        found = {row[:3]: row.score for row in Student(module).annotate_clips(asked, clips.items(asked))}
        write_answers(job._replace(arm=name), root, asked, found, seconds=spent, **more)

    place = root / "runs" / job.file(root).stem
    place.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "ladders": LADDERS[job.corpus],
        "calibration_simulators": calibrating(job.seed),
    }
    truth = read_truth(learnt_from(judges, job).parent) if job.corpus == "embedded" else {}
    answers = Answers(dict(enumerate(training.students)), keep, truth)
    rounds = len(training.students)
    missing = {
        name: training.controls[name]
        for name in training.rows(job.corpus)
        if name in training.controls and not job._replace(arm=name).file(root).is_file()
    }
    improvement = (
        FirstRound(**settings)
        if rounds == 1
        else Forking(missing, answers, relabel=training.relabel, restart=training.restart, **settings)
    )
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=rounds,
        limit_train_batches=training.length * steps,
        reload_dataloaders_every_n_epochs=1,
        limit_val_batches=0,
        gradient_clip_val=clipped,
        default_root_dir=place,
        **QUIET,
        callbacks=[improvement, answers],
    )
    trainer.fit(module, data)
    if rounds == 1:
        keep(training.students[0], module.eval())
    if training.beside:
        keep_teachers(job, root, asked, data, improvement.teachers.rows)


def keep_teachers(
    job: Job,
    root: Path,
    asked: Sequence[Request],
    data: RoundDataModule,
    trusted: Sequence[TeacherRow],
) -> None:
    """Write what each teacher, their ensemble and the baseline say of what judges the students.

    Args:
        job: corpus and seed.
        root: where answers are kept.
        asked: the versions.
        data: of a run of both teachers.
        trusted: fingerprint and weight of each.
    """
    baseline = Laplacian()
    for teacher in (*data.teachers, baseline):
        annotate_missing(teacher, asked, data.labels, 0)
    table = data.labels.read(round=0)
    for teacher in data.teachers:
        write_answers(job._replace(arm=teacher.name), root, asked, scores_of(table, teacher.fingerprint))
    write_answers(job._replace(arm=LAPLACIAN), root, asked, scores_of(table, baseline.fingerprint))
    weights = {row.fingerprint: row.weight for row in trusted}
    fitted = fit_consensus(table, ids(data, "train"), list(weights), weights=weights)
    ensemble = ensemble_scores(fitted, [request.key for request in asked])
    write_answers(job._replace(arm=ENSEMBLE), root, asked, ensemble, weights=list(weights.values()))


def write_answers(
    job: Job, root: Path, asked: Sequence[Request], scores: Mapping[Any, float], **more: Any
) -> None:
    """Write, whole or not at all, what an annotator says of the versions, in their order."""
    found = {**job._asdict(), **more, "scores": [scores.get(request.key, math.nan) for request in asked]}
    hidden = job.file(root).with_suffix(".tmp")
    hidden.write_text(json.dumps(found))
    hidden.replace(job.file(root))
