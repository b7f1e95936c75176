"""From the scores in the label stores to who labels a round's pairs of different videos.

Teachers are weighed by the probe and put together; a student speaks for itself, or beside them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callbacks.rounds.requests import RoundRequests, ids
from callbacks.rounds.rows import TeacherRow, teacher_rows
from callbacks.rounds.scores import Scores, ensemble_scores, scores_of
from datamodules.errors import InputError
from datamodules.labels import Consensus, FittedConsensus, LabelStore, Request, fit_consensus
from datamodules.labels.consensus import balance_of, cuts_for_balance
from datamodules.labels.fitted_consensus import look_up, whole_clips
from datamodules.labels.teacher_scales import Floats
from datamodules.labels.teacher_weights import weigh_teachers
from datamodules.round_data import RoundDataModule
from datamodules.teachers import Laplacian
from vqa_lightning.scoring import ErrorModel
from vqa_lightning.scoring.calibration import fit_errors, with_errors

Relabel = Literal["replace", "blend", "never"]


@dataclass(frozen=True)
class TeacherScores:
    """What the teachers say.

    Attributes:
        rows: how far each is trusted.
        consensus: of all of them by their weights.
        each: of every one by itself that has a weight.
        scores: annotator -> scores of the report split's videos and ladders: each teacher, the mean absolute
            Laplacian, and their `ensemble`.
    """

    rows: list[TeacherRow]
    consensus: Consensus
    each: list[Consensus]
    scores: dict[str, Scores]


@dataclass(frozen=True)
class StudentScores:
    """What the student of one round says.

    Attributes:
        round: in the store.
        table: its rows of `LabelStore.read`, with calibrated standard errors.
        fingerprint: its fingerprint.
        errors: by which its standard errors were calibrated.
        train: (n,) its raw scores of the training videos, nan where it has none.
        consensus: what it says of all videos, its scores brought to mean 0 and deviation 1.
    """

    round: int
    table: pa.Table
    fingerprint: str
    errors: ErrorModel
    train: Floats
    consensus: Consensus


def teacher_scores(data: RoundDataModule, requests: RoundRequests) -> TeacherScores:
    """Weigh the teachers by the select split's ladders, and put them together; all have annotated."""
    table = data.labels.read(round=0)
    names = {teacher.name: teacher.fingerprint for teacher in data.teachers}
    rows, fitted = _weighed(data, table, names, requests.select)
    names["laplacian"] = Laplacian().fingerprint
    report = ids(data, "report")
    scores = {name: scores_of(table, fingerprint, report) for name, fingerprint in names.items()}
    sources = [(name, None, 0) for name in report]
    scores["ensemble"] = ensemble_scores(fitted, [*sources, *(one.key for one in requests.report)])
    each = [_alone(data, table, row.fingerprint) for row in rows if row.weight > 0]
    return TeacherScores(rows, _of_all_videos(data, fitted), each, scores)


def student_scores(
    data: RoundDataModule, store: LabelStore, round: int, fingerprint: str, ladders: Sequence[Request]
) -> StudentScores:
    """Read what a student said, and calibrate its standard errors.

    Args:
        data: whose videos they are.
        store: the run's.
        round: in the store.
        fingerprint: the student's.
        ladders: of the select split, by simulators on which the student was not trained. By METHOD section 6
            the spread over clips, calibrated on these, is the student's error.

    Raises:
        InputError: the student has no score of any training video.
    """
    table = store.read(round=round, fingerprint=fingerprint)
    videos = pa.array({request.video.video_id for request in ladders})
    simulators = pa.array([None, *{request.key[1] for request in ladders}])
    held = pc.and_(pc.is_in(table["video_id"], videos), pc.is_in(table["simulator"], simulators))
    errors = fit_errors(table.filter(held))
    table = with_errors(table, errors)
    train, _ = look_up(whole_clips(table, fingerprint), ids(data, "train"))
    if not np.isfinite(train).any():
        raise InputError(
            "the student could score no video of the train split: check that data.videos is still there."
        )
    return StudentScores(round, table, fingerprint, errors, train, _alone(data, table, fingerprint))


def reference_scores(data: RoundDataModule, requests: RoundRequests) -> Scores:
    """Return what the full-reference metric says of the versions that the student is judged by."""
    if data.clean is None:
        return {}
    sources = sorted({request.video.video_id for request in requests.references})
    return scores_of(data.labels.read(round=0), data.clean.metric.fingerprint, sources)


def who_labels(
    relabel: Relabel,
    data: RoundDataModule,
    teachers: TeacherScores,
    student: StudentScores | None,
    probe: Sequence[Request],
) -> Consensus:
    """Return what labels pairs of different videos after the last student that was kept.

    Args:
        relabel: as `SelfImprovement` has it.
        data: whose videos they are.
        teachers: of the run.
        student: the last that was kept; None before there is one.
        probe: distorted versions of the select split's videos that all annotators scored, by simulators on
            which the student was not trained: they weigh a blend.

    Returns:
        The consensus, with cuts under which random pairs fall into the levels as under the teachers'.
    """
    if student is None or relabel == "never":
        return teachers.consensus
    found = student.consensus
    if relabel == "blend":
        table = pa.concat_tables([data.labels.read(round=0), student.table])
        names = {row.teacher: row.fingerprint for row in teachers.rows} | {"student": student.fingerprint}
        found = _of_all_videos(data, _weighed(data, table, names, probe)[1])
    train = ids(data, "train")
    balance = balance_of(teachers.consensus.restrict(train))
    return replace(found, cuts=cuts_for_balance(found.restrict(train), balance))


def _weighed(
    data: RoundDataModule, table: pa.Table, annotators: Mapping[str, str], probe: Sequence[Request]
) -> tuple[list[TeacherRow], FittedConsensus]:
    """Weigh annotators (name -> fingerprint) by the probe, and fit their consensus by these weights."""
    # Where no pair is theirs to label, a corpus on which all of them fail is no reason to stop.
    equal = data.labelling.teacher_weights == "equal" or not data.counts.teacher
    rows = teacher_rows(weigh_teachers(table, annotators, probe), equal=equal)
    weights = {row.fingerprint: row.weight for row in rows}
    return rows, fit_consensus(table, ids(data, "train"), list(weights), weights=weights)


def _of_all_videos(data: RoundDataModule, fitted: FittedConsensus) -> Consensus:
    """Return what it says of all videos that any of its annotators has scored."""
    splits = [ids(data, split) for split in ("train", "select", "report")]
    # One by one: variances are shrunk to their mean, and those held out must not move the others.
    mean, variance = np.concatenate([fitted.scores(names) for names in splits if names], axis=1)
    known = np.isfinite(mean)
    kept = tuple(name for name, there in zip(chain(*splits), known, strict=True) if there)
    return Consensus(kept, mean[known], variance[known])


def _alone(data: RoundDataModule, table: pa.Table, fingerprint: str) -> Consensus:
    """Return what one annotator says, its scores brought to mean 0 and deviation 1 over the train split."""
    return _of_all_videos(data, fit_consensus(table, ids(data, "train"), [fingerprint]))
