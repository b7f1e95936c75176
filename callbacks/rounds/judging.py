"""How a round's student is judged: by pairs of the report split, and by the probe.

The probe is ladders of the select split, the same in all rounds. A model that labels its own training data
can talk itself into anything. The order of severities within a ladder is known whatever the model says, so
that a student that gets it worse than the best kept student, by more than chance, is not believed. Order
within contents says nothing of the scale: for that, versions of clean sources are compared by a metric.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from callbacks.rounds.labels import StudentScores
from callbacks.rounds.rows import RoundRow
from callbacks.rounds.scores import scores_of
from datamodules.bootstrap import bootstrap_interval
from datamodules.labels import CUTS, LEVELS, Consensus, Key, Request
from datamodules.labels.consensus import random_margins
from datamodules.labels.teacher_weights import Agreement, agreement_change, synthetic_agreement
from datamodules.round_data import RoundDataModule
from vqa_lightning.metrics import srcc
from vqa_lightning.training import RankingModule

COLLAPSE = 0.5
"""Share of the largest label entropy or score spread so far: a round that falls below it is warned of."""


@dataclass(frozen=True)
class JudgedPairs:
    """The synthetic pairs of the report split, and what `score_by` says of them; on the CPU.

    Attributes:
        accuracy: `PairAccuracy` of them, by simulator too.
        given: (n, 5) the labels.
        predicted: (n, 5) the distributions over the levels.
        difference: (n,) how far the second side is preferred, above 0 for yes.
        order: (n,) 1 where the second side should look better, -1 where the first should, 0 if similar.
        simulator: (n,) index into the datamodule's simulators.
    """

    accuracy: dict[str, float]
    given: Tensor
    predicted: Tensor
    difference: Tensor
    order: Tensor
    simulator: Tensor


class Verdict(NamedTuple):
    """Whether a round's student is believed.

    Attributes:
        agreement: Kendall's tau with the known orders of the probe.
        across: SRCC with a full-reference metric on versions of different contents; nan without such.
        kept: whether it labels the next round and its weights stay.
        reason: one clause, empty where it is kept.
    """

    agreement: Agreement
    across: Agreement
    kept: bool
    reason: str

    @property
    def worth(self) -> float:
        """What rounds are compared by: order within contents and across them count alike."""
        return self.agreement.value + float(np.nan_to_num(self.across.value))


def judge_pairs(trainer: Trainer, data: RoundDataModule, module: RankingModule) -> JudgedPairs:
    """Judge the report split's pairs one by one, on every process."""
    accuracy = module.new_accuracy()[module.score_by]
    found = []
    for batch in data.test_dataloader():
        pairs = trainer.strategy.batch_to_device(batch)  # Lightning's hooks, the device pass included
        difference, levels = module.answers(pairs, module.judge(pairs.sides(), pairs.keys))[module.score_by]
        accuracy.update(difference, levels, pairs)
        found.append((pairs.levels, levels, difference, pairs.order(), pairs.simulator()))
    columns = (torch.cat(column).float().cpu() for column in zip(*found, strict=True))
    return JudgedPairs({name: float(value) for name, value in accuracy.compute().items()}, *columns)


def judge_student(
    student: StudentScores,
    best: StudentScores | None,
    probe: Sequence[Request],
    known: Mapping[Key, float],
    references: Sequence[Request],
) -> Verdict:
    """Judge a round's student by the probe: known orders within contents, and a metric across them.

    The student is rejected if its scores of the training videos are one and the same, or if either agreement
    is below that of the best student that was kept by more than chance, that is, if the whole interval of the
    paired difference lies below 0.

    Args:
        student: of the round.
        best: the best of the students that were kept, by `Verdict.worth`; None in the first round.
        probe: distorted versions of the select split's videos.
        known: what a full-reference metric says of `references`.
        references: versions of the select split's clean sources.
    """
    agreement = synthetic_agreement(student.table, student.fingerprint, probe)
    across = _across([student], known, references)

    def verdict(reason: str) -> Verdict:
        return Verdict(agreement, across, not reason, reason)

    if not np.nanmax(student.train) > np.nanmin(student.train):
        return verdict("it gives all training videos one score")
    if best is None:
        return verdict("")
    before, after = ((one.table, one.fingerprint) for one in (best, student))
    change = agreement_change(before, after, probe)
    if np.isnan(change.interval[1]):
        return verdict("no ladder of the probe could be scored whole")
    for name, found, requests in (
        ("known orders", change, probe),
        ("the metric across contents", _across([best, student], known, references), references),
    ):
        low, high = found.interval
        # One content has no interval: all resamples are the same.
        if high < 0 and len({request.video.content for request in requests}) > 1:
            by = f"{found.value:+.3f} [{low:+.3f}, {high:+.3f}]"
            return verdict(f"its agreement with {name} changed by {by}")
    return verdict("")


def _across(
    students: Sequence[StudentScores], known: Mapping[Key, float], references: Sequence[Request]
) -> Agreement:
    """Return the last student's SRCC with the metric, less that of the student before it if there is one."""
    scores = [scores_of(student.table, student.fingerprint) for student in students]
    asked = [one for one in references if one.key in known and all(one.key in own for own in scores)]
    if len({one.video.content for one in asked}) < 2:
        return Agreement(np.nan, (np.nan, np.nan), 0)
    said = [[own[one.key] for one in asked] for own in scores]
    metric, contents = [known[one.key] for one in asked], [one.video.content for one in asked]

    def change(metric: np.ndarray, *said: np.ndarray) -> float:
        *before, after = (srcc(own, metric) for own in said)
        return after - sum(before)

    value = change(np.array(metric), *map(np.array, said))
    return Agreement(value, bootstrap_interval(change, metric, *said, groups=contents), len(asked))


def label_entropy(consensus: Consensus) -> float:
    """Return the entropy in bits, at most log2(5), of random pairs' levels under METHOD's own cuts.

    The cuts of later rounds keep the balance of the classes whatever the scores are worth; under fixed ones
    scores that hardly exceed their errors call all pairs similar, and the entropy falls to 0.
    """
    inner, outer = CUTS
    level = np.searchsorted(np.array([-outer, -inner, inner, outer]), random_margins(consensus))
    share = np.bincount(level, minlength=len(LEVELS)) / len(level)
    return float(-(share[share > 0] * np.log2(share[share > 0])).sum())


def score_spread(consensus: Consensus) -> float:
    """Return how far scores differ between videos, in root-mean-square standard errors of one score."""
    return float(np.std(consensus.score) / max(np.sqrt(np.mean(consensus.variance)), 1e-12))


def signs_of_collapse(rows: Sequence[RoundRow]) -> list[str]:
    """Return a sentence for each figure whose last value is less than `COLLAPSE` of the largest before."""
    told = []
    for name in ("label_entropy", "score_spread"):
        *before, last = (getattr(row, name) for row in rows)
        if before and last < COLLAPSE * max(before):
            told.append(
                f"{name} is {last:.2f} after {max(before):.2f}: the student tells videos apart less and "
                "less, so look at its scores before its labels are used further."
            )
    return told


def rounds_without_rise(rows: Sequence[RoundRow]) -> int:
    """Return for how many rounds agreement with the probe has not been higher than ever before."""
    agreement = np.nan_to_num([row.probe[0] for row in rows], nan=-1)
    agreement = agreement + [0 if row.probe_across is None else row.probe_across[0] for row in rows]
    return len(rows) - 1 - int(np.argmax(agreement))
