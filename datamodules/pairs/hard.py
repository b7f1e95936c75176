"""Hard pairs: those of which the next round learns most.

Synthetic pairs are hard where the student got their known order wrong; pairs of different videos where the
student and a defender disagree most (gMAD), in both directions. The simpler rules take both from what the
student answered while it trained.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor

from datamodules.labels import Consensus
from datamodules.pairs.gmad import gmad_pairs
from datamodules.pairs.relabelling import position, relabelled
from datamodules.pairs.scored import confident, pairs_from_scores
from datamodules.pairs.table import PAIR_SCHEMA
from vqa_lightning.families import InputError

ANSWERS = ("advantage", "loss", "confidence")
"""Columns of what the student answered of each pair of a round when it last trained on it, nan where it never
did: how far it preferred the right side (negative: wrong; nan for pairs without an order), the loss, and the
largest probability among its five levels."""

Rule = Literal["gmad", "loss", "confidence", "random"]

BLOCKS, BLOCK_PAIRS = 10, 100
"""Parts of a round in which the student's skill is told apart, and the pairs that each needs at least: a
skill is then known to a tenth."""

LEAST_SKILL = 0.1
"""What an answer of a student at chance counts, beside one of a student that makes no mistake."""


@dataclass(frozen=True)
class Hardness:
    """Which pairs are hard, and how many of a round's are to be.

    Attributes:
        share: of the synthetic and of the teacher pairs that a round draws anew.
        rule: gmad, or a simpler one.
        bins: as `gmad_pairs` has them.
        gap: as `gmad_pairs` has it.

    Raises:
        InputError: a value out of range.
    """

    share: float
    rule: Rule
    bins: int
    gap: float | None

    def __post_init__(self) -> None:
        """Checks the values."""
        if not 0 <= self.share <= 1:
            raise InputError(f"data.hard_share is {self.share}: give a number from 0 to 1.")
        if self.rule not in get_args(Rule):
            raise InputError(f"data.hard is {self.rule!r}: choose among {', '.join(get_args(Rule))}.")
        if self.bins < 1:
            raise InputError(f"data.hard_bins is {self.bins}: give 1 or more.")
        if self.gap is not None and not self.gap > 0:
            raise InputError(f"data.hard_gap is {self.gap}: give more than 0, or null for any gap in a bin.")


def merged_answers(every: Tensor) -> Tensor:
    """What was said of each pair (n, 3) by the first process that met it.

    Args:
        every: (processes, n, 3), columns ANSWERS; nan where a process did not meet a pair.
    """
    met = ~every.isnan().all(dim=-1)
    return every[met.int().argmax(dim=0), torch.arange(every.shape[1])]


def find_hard(
    hardness: Hardness,
    drawn: Mapping[str, int],
    pairs: pa.Table,
    answers: Tensor | None,
    consensus: Consensus,
    student: Consensus,
    defenders: Sequence[Consensus],
    kept: pa.Table,
    seed: Sequence[int],
    *,
    draws: int,
    blur: float,
    smoothing: float = 0.0,
    min_confidence: float = 0.0,
) -> pa.Table:
    """Find the hard pairs of a round, and say so where they are fewer than were wanted.

    Args:
        hardness: which pairs, and how many.
        drawn: source -> pairs that the round draws anew.
        pairs: of the round before, those that may be drawn again.
        answers: (len(pairs), 3), columns ANSWERS; None: nothing is known of them.
        consensus: the round's annotators, on the videos that may be drawn.
        student: who attacks in gMAD.
        defenders: who defends there: the teachers, the student of the round before.
        kept: pairs that the round keeps of those before; hard ones among them are shown by other clips.
        seed: with the kind of pairs, all that the draw depends on besides its arguments.
        draws: clips of a video to draw from.
        blur: of the labels, in margins.
        smoothing: of the labels, as `draw_pairs` has it.
        min_confidence: of the labels, as `draw_pairs` has it.
    """
    found = [PAIR_SCHEMA.empty_table()]
    for purpose, source in ((1, "synthetic"), (3, "teacher")):
        generator = np.random.default_rng([*seed, purpose])
        wanted = int(hardness.share * drawn[source])
        if source == "teacher" and hardness.rule == "gmad":
            if not defenders:
                continue
            hard = hard_real(
                consensus,
                student,
                defenders,
                wanted,
                generator,
                draws=draws,
                blur=blur,
                smoothing=smoothing,
                min_confidence=min_confidence,
                bins=hardness.bins,
                gap=hardness.gap,
            )
        else:
            if answers is None:
                continue
            hard = hard_recorded(pairs, answers, source, wanted, generator, hardness.rule)
            hard = relabelled(hard, consensus, blur, smoothing, min_confidence)
            hard = other_clips(hard, generator, draws) if len(kept) else hard
        if len(hard) < wanted:
            rank_zero_info(
                f"round {seed[-1]}: {len(hard)} of {wanted} hard {source} pairs were found by the rule "
                f"{hardness.rule}; the others are drawn as in the first round"
            )
        found.append(hard)
    return pa.concat_tables(found)


def hard_recorded(
    pairs: pa.Table, answers: Tensor, source: str, count: int, generator: np.random.Generator, rule: Rule
) -> pa.Table:
    """Take pairs of a round that were hard for the student, flagged hard.

    Rule gmad draws, without replacement, among those that the student got wrong, with a probability
    proportional to how wrong it was and to its skill at the time (`_skill`): an answer of a student at chance
    says nothing of the pair. Loss and confidence take the highest loss and the lowest confidence; random
    draws among all.

    Args:
        pairs: the round's table.
        answers: (len(pairs), 3), columns ANSWERS.
        source: of the pairs.
        count: how many at most.
        generator: draws them, and the order of equals.
        rule: which.
    """
    rows = np.flatnonzero(pc.equal(pairs["source"], source).to_numpy())
    advantage, loss, confidence = answers.double().numpy()[rows].T
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
    return flagged_hard(pairs.take(rows[order[possible[order]][:count]]))


def _skill(advantage: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Kendall's tau (n,) with the known order over the part of the round in which each answer was given.

    Pairs of windows are trained on in the order of their table; of whole frames in any, and the parts are
    alike. At least LEAST_SKILL, for a part's own tau is uncertain.
    """
    ordered = np.isfinite(advantage)
    blocks = int(np.clip(ordered.sum() // BLOCK_PAIRS, 1, BLOCKS))
    block = np.arange(len(advantage)) * blocks // max(len(advantage), 1)
    right = np.bincount(block[ordered], np.sign(advantage[ordered]), minlength=blocks)
    tau = right / np.maximum(np.bincount(block[ordered], minlength=blocks), 1)
    return np.maximum(tau, LEAST_SKILL)[block]


def hard_real(
    consensus: Consensus,
    student: Consensus,
    defenders: Sequence[Consensus],
    count: int,
    generator: np.random.Generator,
    *,
    draws: int,
    blur: float,
    smoothing: float = 0.0,
    min_confidence: float = 0.0,
    bins: int = 5,
    gap: float | None = None,
) -> pa.Table:
    """Find pairs of different videos by maximum differentiation (gMAD), flagged hard.

    The student and each defender attack each other; these lists take turns, so that each gives the same
    number of pairs until it ends. No two videos meet twice among them, in whichever order; that they may have
    met in an earlier round is no reason to leave out what is still disputed.

    Args:
        consensus: who labels the pairs, on the videos that may be drawn.
        student: on its own linear scale, as each defender.
        defenders: the teachers, the student of the round before.
        count: how many at most.
        generator: draws the order of the sides and the clips.
        draws: clips of a video to draw from.
        blur: of the soft labels, in margins.
        smoothing: of the labels, as `draw_pairs` has it.
        min_confidence: of the labels, as `draw_pairs` has it.
        bins: quality bins, as `gmad_pairs` has them.
        gap: of the defending side's scores, as `gmad_pairs` has it.
    """
    queues = []
    student = student.restrict(consensus.video_ids)
    for defender in defenders:
        defender = defender.restrict(student.video_ids)
        scores = student.restrict(defender.video_ids).score, defender.score
        place = position(defender.video_ids, consensus)
        for one, other in (scores, scores[::-1]):
            found = place[gmad_pairs(one, other, count, bins, gap)]
            sure = confident(consensus, found[:, 0], found[:, 1], blur, min_confidence)
            queues.append(map(tuple, found[sure].tolist()))
    found = np.array(list(_in_turns(queues, count)), dtype=np.int64).reshape(-1, 2)
    swap = generator.integers(2, size=len(found)).astype(bool)
    found[swap] = found[swap][:, ::-1]
    first, second = found.T
    return flagged_hard(
        pairs_from_scores(generator, consensus, first, second, draws, blur, smoothing=smoothing)
    )


def _in_turns(queues: Iterable[Iterator[tuple[int, int]]], count: int) -> Iterator[tuple[int, int]]:
    """At most `count` pairs, one from each queue in turn, none twice or turned round."""
    open_queues = list(queues)
    taken: set[tuple[int, int]] = set()
    while open_queues:
        for queue in tuple(open_queues):
            if not count:
                return
            new = next((pair for pair in queue if not {pair, pair[::-1]} & taken), None)
            if new is None:
                open_queues.remove(queue)
            else:
                taken.add(new)
                count -= 1
                yield new


def other_clips(pairs: pa.Table, generator: np.random.Generator, draws: int) -> pa.Table:
    """The same pairs with clips drawn anew, of one video the same on both sides."""
    new = generator.integers(draws, size=(2, len(pairs)))
    new[1] = np.where(pc.equal(pairs["first"], pairs["second"]), *new)
    for name, column in zip(("draw_first", "draw_second"), new, strict=True):
        pairs = pairs.set_column(PAIR_SCHEMA.get_field_index(name), PAIR_SCHEMA.field(name), pa.array(column))
    return pairs


def flagged_hard(pairs: pa.Table) -> pa.Table:
    """The same pairs, hard."""
    column = PAIR_SCHEMA.get_field_index("hard")
    return pairs.set_column(column, PAIR_SCHEMA.field("hard"), pa.array([True] * len(pairs), pa.bool_()))
