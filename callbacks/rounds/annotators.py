"""Who annotates a run's videos, and what they say: teachers when it begins, its student after each round."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from lightning_utilities.core.rank_zero import rank_zero_info

from callbacks.rounds.report import Scores, ensemble_scores, scores_of, teacher_rows
from callbacks.rounds.requests import RoundRequests
from datamodules.labels import (
    Annotator,
    Consensus,
    FittedConsensus,
    Key,
    LabelStore,
    Request,
    Versions,
    annotate_missing,
    fit_consensus,
)
from datamodules.labels.consensus import balance_of, cuts_for_balance
from datamodules.labels.teacher_weights import weigh_teachers
from datamodules.round_data import RoundDataModule
from datamodules.teachers import Laplacian, Teacher
from datamodules.teachers.scores_file import ScoresFile

Relabel = Literal["replace", "blend", "never"]


class Teachers(NamedTuple):
    """What the teachers say.

    Attributes:
        fingerprints: name -> fingerprint.
        rows: `teacher_rows` of how far each is trusted.
        consensus: of all of them by their weights.
        each: of every one by itself that has a weight.
        scores: annotator -> scores of the report split's videos and ladders: each teacher, the mean absolute
            Laplacian, and their `ensemble`.
        versions: what full-reference scores say of distorted versions, where reference pairs are drawn.
    """

    fingerprints: dict[str, str]
    rows: list[dict[str, Any]]
    consensus: Consensus
    each: list[Consensus]
    scores: dict[str, Scores]
    versions: Versions | None


def annotate(
    trainer: Trainer,
    data: RoundDataModule,
    annotator: Annotator,
    store: LabelStore,
    round: int,
    requests: Sequence[Request],
) -> None:
    """Has an annotator score what the store lacks, each process its share; returns when all are done."""
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
            f"labels of round {round}: {annotator.name} scored {done} clips "
            f"in {time.monotonic() - began:.0f} s"
        )


def let_teachers_annotate(
    trainer: Trainer, data: RoundDataModule, requests: RoundRequests, *, blend: bool
) -> Teachers:
    """Has the teachers score what nobody has had them score before, and weighs them by the probe.

    Args:
        trainer: whose processes share the work.
        data: whose videos and teachers they are.
        requests: of the run.
        blend: whether they will be weighed beside students, on what these were not trained on.
    """
    baseline = Laplacian()
    wanted = [*requests.of_teachers, *(requests.errors if blend else ())]
    for annotator in (*data.teachers, baseline):
        if isinstance(annotator, Teacher):
            annotator.device = trainer.strategy.root_device
            annotator.prepare(data.split("train"))
        elif isinstance(annotator, ScoresFile):
            annotator.prepare([request.video for request in requests.sources])
        annotate(trainer, data, annotator, data.labels, 0, wanted)
    for metric in data.references:
        metric.device = trainer.strategy.root_device
        annotate(trainer, data, metric, data.labels, 0, data.reference_requests())
    table = data.labels.read(round=0)
    fingerprints = {teacher.name: teacher.fingerprint for teacher in data.teachers}
    rows = teacher_rows(weigh_teachers(table, fingerprints, requests.select), _equally(data))
    weights = {row["fingerprint"]: row["weight"] for row in rows}
    fitted = fit_consensus(table, ids(data, "train"), list(weights), weights=weights)
    consensus = as_consensus(data, fitted)
    names = {**fingerprints, baseline.name: baseline.fingerprint}
    report = ids(data, "report")
    scores = {name: scores_of(table, fingerprint, report) for name, fingerprint in names.items()}
    sources: list[Key] = [(name, None, 0) for name in report]
    scores["ensemble"] = ensemble_scores(fitted, [*sources, *(one.key for one in requests.report)])
    return Teachers(
        fingerprints,
        rows,
        consensus,
        [alone(data, table, fingerprint) for fingerprint, weight in weights.items() if weight > 0],
        scores,
        data.reference_versions(table, consensus),
    )


def ids(data: RoundDataModule, *splits: str) -> list[str]:
    """Ids of the readable videos of some splits."""
    return [video.video_id for split in splits for video in data.split(split)]


def as_consensus(data: RoundDataModule, fitted: FittedConsensus) -> Consensus:
    """What it says of all videos that any of its annotators has scored."""
    splits = [ids(data, split) for split in ("train", "select", "report")]
    # One by one: variances are shrunk to their mean, and those held out must not move the others.
    mean, variance = np.concatenate([fitted.scores(names) for names in splits if names], axis=1)
    known = np.isfinite(mean)
    kept = tuple(name for name, there in zip(chain(*splits), known, strict=True) if there)
    return Consensus(kept, mean[known], variance[known])


def alone(data: RoundDataModule, table: pa.Table, fingerprint: str) -> Consensus:
    """What one annotator says, its scores brought to mean 0 and deviation 1 over the train split."""
    return as_consensus(data, fit_consensus(table, ids(data, "train"), [fingerprint]))


def balanced_as(consensus: Consensus, model: Consensus, train: Sequence[str]) -> Consensus:
    """The consensus with cuts under which random pairs fall into the levels as under the model's."""
    cuts = cuts_for_balance(consensus.restrict(train), balance_of(model.restrict(train)))
    return replace(consensus, cuts=cuts)


def blended(
    data: RoundDataModule, table: pa.Table, annotators: Mapping[str, str], probe: Sequence[Request]
) -> Consensus:
    """Teachers and student as one consensus, each by the weight that the same probe gives it.

    Args:
        data: whose videos they scored.
        table: rows of `LabelStore.read` of all of them.
        annotators: name -> fingerprint.
        probe: distorted versions of the select split's videos that all of them scored, by simulators on which
            the student was not trained.
    """
    rows = teacher_rows(weigh_teachers(table, annotators, probe), _equally(data))
    weights = {row["fingerprint"]: row["weight"] for row in rows}
    return as_consensus(data, fit_consensus(table, ids(data, "train"), list(weights), weights=weights))


def _equally(data: RoundDataModule) -> bool:
    # Where no pair is theirs to label, a corpus on which all of them fail is no reason to stop.
    return data.labelling.teacher_weights == "equal" or not data.counts.teacher
