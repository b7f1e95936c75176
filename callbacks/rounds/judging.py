"""How a round's student is judged: by pairs of the report split, and by the probe.

The probe is ladders of the select split, the same in all rounds. A model that labels its own training data
can talk itself into anything. The order of severities within a ladder is known whatever the model says, so
that a student that gets it worse than the last kept student, by more than chance, is not believed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from callbacks.rounds.labels import StudentScores
from callbacks.rounds.rows import RoundRow
from datamodules.labels import CUTS, LEVELS, Consensus, Request
from datamodules.labels.consensus import random_margins
from datamodules.labels.teacher_weights import Agreement, agreement_change, synthetic_agreement
from datamodules.round_data import RoundDataModule
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
        kept: whether it labels the next round and its weights stay.
        reason: one clause, empty where it is kept.
    """

    agreement: Agreement
    kept: bool
    reason: str


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


def judge_student(student: StudentScores, kept: StudentScores | None, probe: Sequence[Request]) -> Verdict:
    """Judge a round's student by the probe.

    The student is rejected if its scores of the training videos are one and the same, or if its agreement is
    below that of the last student that was kept by more than chance, that is, if the whole interval of the
    paired difference lies below 0.

    Args:
        student: of the round.
        kept: the last student that was kept; None in the first round.
        probe: distorted versions of the select split's videos.
    """
    agreement = synthetic_agreement(student.table, student.fingerprint, probe)
    if not np.nanmax(student.train) > np.nanmin(student.train):
        return Verdict(agreement, False, "it gives all training videos one score")
    if kept is None:
        return Verdict(agreement, True, "")
    before, after = ((one.table, one.fingerprint) for one in (kept, student))
    change = agreement_change(before, after, probe)
    low, high = change.interval
    if np.isnan(high):
        return Verdict(agreement, False, "no ladder of the probe could be scored whole")
    # One content has no interval: all resamples are the same.
    if high < 0 and len({request.video.content for request in probe}) > 1:
        changed = f"its agreement with known orders changed by {change.value:+.3f} [{low:+.3f}, {high:+.3f}]"
        return Verdict(agreement, False, changed)
    return Verdict(agreement, True, "")


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
    return len(rows) - 1 - int(np.argmax(agreement))
