"""Hard pairs by what the student answered while it trained, and the settings `data.later.hard`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from datamodules.checks import check_above, check_between, check_choice, check_least
from datamodules.pairs.families import simulators_of
from datamodules.pairs.table import with_columns

ANSWERS = ("advantage", "loss", "confidence")
"""Columns of what the student answered of each pair of a round when it last trained on the pair: how far it
preferred the right side (negative: wrong; nan for pairs without an order), the loss, and the largest
probability among its five levels. All are nan for pairs that it never trained on."""

Rule = Literal["gmad", "loss", "confidence", "random"]

BLOCKS, BLOCK_PAIRS = 10, 100
"""Parts of a round in which the student's skill is told apart, and the pairs that each part needs at least: a
skill is then known to a tenth."""

LEAST_SKILL = 0.1
"""What an answer of a student at chance counts, beside an answer of a student that makes no mistake."""


@dataclass(frozen=True)
class HardPairs:
    """Which pairs are hard, and how many of a later round's pairs are hard pairs.

    Args:
        share: largest share of hard pairs among the synthetic and among the teacher pairs that later rounds
            draw anew.
        rule: gmad: the synthetic pairs that the student got wrong, and the pairs of videos on which it and a
            teacher or its predecessor disagree most; or pairs of the round before by a simpler rule: the
            highest loss, the lowest confidence, random pairs.
        bins: quality bins of equally many videos within which gmad looks for pairs.
        gap: largest difference of the defending side's scores of a pair in gmad, in standard deviations of
            these scores; null: any two videos of a bin.

    Raises:
        InputError: a value is out of its range.
    """

    share: float = 0.1
    rule: Rule = "gmad"
    bins: int = 5
    gap: float | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        check_between("data.later.hard.share", self.share, 0, 1)
        check_choice("data.later.hard.rule", self.rule, get_args(Rule))
        check_least("data.later.hard.bins", self.bins, 1)
        if self.gap is not None:
            check_above("data.later.hard.gap", self.gap, 0)


def merged_answers(every: Tensor) -> Tensor:
    """Return what the first process that met a pair answered, for each pair (n, 3).

    Args:
        every: (processes, n, 3), columns ANSWERS; nan where a process did not meet a pair.
    """
    met = ~every.isnan().all(dim=-1)
    return every[met.int().argmax(dim=0), torch.arange(every.shape[1])]


def hard_recorded(
    pairs: pa.Table,
    answers: Tensor,
    source: str,
    count: int | Mapping[str, int],
    generator: np.random.Generator,
    rule: Rule,
) -> pa.Table:
    """Take pairs of a round that were hard for the student, flagged hard.

    Rule gmad draws, without replacement, among the pairs that the student got wrong, with a probability
    proportional to how wrong the answer was and to the student's skill at the time (`_skill`): an answer of a
    student at chance says nothing of the pair. Loss and confidence take the highest loss and the lowest
    confidence; random draws among all.

    Args:
        pairs: the round's table.
        answers: (len(pairs), 3), columns ANSWERS.
        source: of the pairs.
        count: how many at most; of synthetic pairs also how many of each simulator, by name.
        generator: draws them, and the order of equals.
        rule: which pairs are hard.
    """
    rows = np.flatnonzero(pc.equal(pairs["source"], source).to_numpy())
    advantage, loss, confidence = answers.cpu().double().numpy()[rows].T
    if rule == "gmad":
        weight = np.nan_to_num(np.maximum(-advantage, 0) * _skill(advantage))
        possible = weight > 0
        # Efraimidis and Spirakis, 2006: the largest u^(1/w) are a weighted sample without replacement.
        urgency = -generator.exponential(size=len(rows)) / np.where(possible, weight, 1)
    else:
        shuffled = generator.random(len(rows))
        urgency = {"loss": loss, "confidence": -confidence, "random": shuffled}[rule]
        possible = np.isfinite(urgency)
    order = np.argsort(-urgency, kind="stable")
    ordered = pairs.take(rows[order[possible[order]]])
    return flagged_hard(ordered[:count] if isinstance(count, int) else _first_of_each(ordered, count))


def _first_of_each(synthetic: pa.Table, count: Mapping[str, int]) -> pa.Table:
    """Return the first pairs of each simulator, as many as `count` says."""
    names = simulators_of(synthetic).to_numpy(zero_copy_only=False)
    places = [np.flatnonzero(names == name)[:most] for name, most in count.items()]
    return synthetic.take(np.sort(np.concatenate([np.empty(0, dtype=np.int64), *places])))


def _skill(advantage: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return Kendall's tau (n,) with the known order over the part of the round where each answer was given.

    Pairs of windows are trained on in the order of their table; pairs of whole frames in any order, and the
    parts are alike. The least value is LEAST_SKILL, for a part's own tau is uncertain.
    """
    ordered = np.isfinite(advantage)
    blocks = int(np.clip(ordered.sum() // BLOCK_PAIRS, 1, BLOCKS))
    block = np.arange(len(advantage)) * blocks // max(len(advantage), 1)
    right = np.bincount(block[ordered], np.sign(advantage[ordered]), minlength=blocks)
    tau = right / np.maximum(np.bincount(block[ordered], minlength=blocks), 1)
    return np.maximum(tau, LEAST_SKILL)[block]


def other_clips(pairs: pa.Table, generator: np.random.Generator, draws: int) -> pa.Table:
    """Draw the clips of the pairs anew; both sides of one video show the same clip."""
    new = generator.integers(draws, size=(2, len(pairs)))
    new[1] = np.where(pc.equal(pairs["first"], pairs["second"]), *new)
    return with_columns(pairs, draw_first=new[0], draw_second=new[1])


def flagged_hard(pairs: pa.Table) -> pa.Table:
    """Return the same pairs, flagged hard."""
    return with_columns(pairs, hard=np.ones(len(pairs), dtype=bool))
