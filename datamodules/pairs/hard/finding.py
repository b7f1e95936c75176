"""Hard pairs, of which the next round learns most: found among the student's answers, and among disputes.

Synthetic pairs are hard where the student got their known order wrong; pairs of different videos where the
student and a defender disagree most (gMAD), in both directions. The simpler rules take both from what the
student answered while it trained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor

from datamodules.labels.consensus import Consensus
from datamodules.labels.labelling import Labelling
from datamodules.pairs.hard.disputed import hard_real
from datamodules.pairs.hard.recorded import HardPairs, hard_recorded, other_clips
from datamodules.pairs.relabelling import relabelled
from datamodules.pairs.table import PAIR_SCHEMA


@dataclass(frozen=True)
class RoundBefore:
    """What the round before has left for the hard pairs of the next one.

    Attributes:
        pairs: the pairs that may be drawn again.
        answers: (len(pairs), 3), columns `ANSWERS`; None: nothing is known of the pairs.
        kept: whether the next round keeps these pairs too; hard pairs among them then show other clips.
        student: what the student says of the videos; it attacks in gMAD.
        defenders: what the teachers, and the student of the round before, say of the videos.
    """

    pairs: pa.Table
    answers: Tensor | None
    kept: bool
    student: Consensus
    defenders: Sequence[Consensus] = field(default=())


def find_hard(
    hard: HardPairs,
    wanted: Mapping[str, int],
    before: RoundBefore,
    consensus: Consensus,
    labelling: Labelling,
    draws: int,
    seed: Sequence[int],
    each: Mapping[str, int] | None = None,
) -> pa.Table:
    """Find the hard pairs of a round, and say where they are fewer than were wanted.

    Args:
        hard: which pairs.
        wanted: source -> number of hard pairs.
        before: the round before.
        consensus: the round's annotators, on the videos that may be drawn.
        labelling: how scores become labels.
        draws: number of different clips of a video that pairs are drawn from.
        seed: ends in the round; with the kind of pairs, all that the draw depends on besides its arguments.
        each: number of hard synthetic pairs of each simulator, by name; None: whichever are hard.
    """
    found = [PAIR_SCHEMA.empty_table()]
    for purpose, source in ((1, "synthetic"), (3, "teacher")):
        generator = np.random.default_rng([*seed, purpose])
        count = wanted[source]
        if source == "teacher" and hard.rule == "gmad":
            if not before.defenders:
                continue
            pairs = hard_real(
                generator, consensus, before.student, before.defenders, count, hard, labelling, draws
            )
        else:
            if before.answers is None:
                continue
            most = each if each is not None and source == "synthetic" else count
            pairs = hard_recorded(before.pairs, before.answers, source, most, generator, hard.rule)
            pairs = relabelled(pairs, consensus, labelling)
            pairs = other_clips(pairs, generator, draws) if before.kept else pairs
        if len(pairs) < count:
            rank_zero_info(
                f"round {seed[-1]}: {len(pairs)} of {count} hard {source} pairs were found by the rule "
                f"{hard.rule}; the others are drawn as in the first round"
            )
        found.append(pairs)
    return pa.concat_tables(found)
