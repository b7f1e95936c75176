"""The probe: ladders of the select split that judge every round's student, the same in all rounds.

A model that labels its own training data can talk itself into anything. The order of severities within a
ladder is known whatever it says, so a round that gets it worse than the round before is not believed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from datamodules.labels import CUTS, LEVELS, Consensus, Request
from datamodules.labels.consensus import random_margins
from datamodules.labels.teacher_weights import Agreement, agreement_change, synthetic_agreement

COLLAPSE = 0.5
"""Of the largest label entropy or score spread so far: below it a round is told to be collapsing."""


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


def judge_round(
    student: tuple[pa.Table, str],
    kept: tuple[pa.Table, str] | None,
    probe: Sequence[Request],
    scores: npt.NDArray[np.float64],
) -> Verdict:
    """Judges a round's student by the probe.

    It is rejected if its agreement is below that of the last student that was kept by more than chance, that
    is, if the whole interval of the paired difference lies below 0, or if its scores of the training videos
    are one and the same.

    Args:
        student: its rows of `LabelStore.read` and its fingerprint.
        kept: the same of the last student that was kept; None in the first round.
        probe: distorted versions of the select split's videos.
        scores: (n,) its scores of the training videos, nan where it has none.
    """
    agreement = synthetic_agreement(*student, probe)
    if not np.nanmax(scores) > np.nanmin(scores):
        return Verdict(agreement, False, "it gives all training videos one score")
    if kept is None:
        return Verdict(agreement, True, "")
    change = agreement_change(kept, student, probe)
    low, high = change.interval
    if np.isnan(high):
        return Verdict(agreement, False, "no ladder of the probe could be scored whole")
    # One content has no interval: all resamples are the same.
    if high < 0 and len({request.video.content for request in probe}) > 1:
        return Verdict(
            agreement,
            False,
            f"its agreement with known orders changed by {change.value:+.3f} [{low:+.3f}, {high:+.3f}]",
        )
    return Verdict(agreement, True, "")


def label_entropy(consensus: Consensus) -> float:
    """Entropy in bits, at most log2(5), of the levels that random pairs have under METHOD's own cuts.

    The cuts of later rounds keep the balance of the classes whatever the scores are worth; under fixed ones
    scores that hardly exceed their errors call all pairs similar, and the entropy falls to 0.
    """
    inner, outer = CUTS
    level = np.searchsorted(np.array([-outer, -inner, inner, outer]), random_margins(consensus))
    share = np.bincount(level, minlength=len(LEVELS)) / len(level)
    return float(-(share[share > 0] * np.log2(share[share > 0])).sum())


def score_spread(consensus: Consensus) -> float:
    """By how much scores differ between videos, in root-mean-square standard errors of one score."""
    return float(np.std(consensus.score) / max(np.sqrt(np.mean(consensus.variance)), 1e-12))


def collapsing(values: Sequence[float]) -> bool:
    """Whether the last of a figure's values is less than `COLLAPSE` of the largest before."""
    return len(values) > 1 and values[-1] < COLLAPSE * max(values[:-1])
