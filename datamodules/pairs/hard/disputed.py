"""Hard pairs of different videos: those on which the student and a defender disagree most (gMAD)."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from datamodules.labels.consensus import Consensus
from datamodules.labels.labelling import Labelling, confident
from datamodules.pairs.hard.gmad import gmad_pairs
from datamodules.pairs.hard.recorded import HardPairs, flagged_hard
from datamodules.pairs.relabelling import position
from datamodules.pairs.scored import scored_pairs


def hard_real(
    generator: np.random.Generator,
    consensus: Consensus,
    student: Consensus,
    defenders: Sequence[Consensus],
    count: int,
    hard: HardPairs,
    labelling: Labelling,
    draws: int,
) -> pa.Table:
    """Find pairs of different videos by maximum differentiation (gMAD), flagged hard.

    The student and each defender attack each other; these lists take turns, so that each list gives the same
    number of pairs until it ends. No two videos meet twice in the result, in whichever order; that they may
    have met in an earlier round is no reason to leave out what is still disputed.

    Args:
        generator: draws the order of the sides and the clips.
        consensus: labels the pairs, on the videos that may be drawn.
        student: on its own linear scale, as each defender.
        defenders: the teachers, the student of the round before.
        count: how many at most.
        hard: gives the bins and the gap of `gmad_pairs`.
        labelling: how scores become labels; less certain pairs than it asks for are left out.
        draws: number of different clips of a video that pairs are drawn from.
    """
    queues = []
    student = student.restrict(consensus.video_ids)
    for defender in defenders:
        defender = defender.restrict(student.video_ids)
        scores = student.restrict(defender.video_ids).score, defender.score
        place = position(defender.video_ids, consensus)
        for one, other in (scores, scores[::-1]):
            found = place[gmad_pairs(one, other, count, hard.bins, hard.gap)]
            sure = confident(consensus, found[:, 0], found[:, 1], labelling)
            queues.append(map(tuple, found[sure].tolist()))
    found = np.array(list(_in_turns(queues, count)), dtype=np.int64).reshape(-1, 2)
    swap = generator.integers(2, size=len(found)).astype(bool)
    found[swap] = found[swap][:, ::-1]
    first, second = found.T
    return flagged_hard(scored_pairs(generator, consensus, first, second, draws, labelling))


def _in_turns(queues: Iterable[Iterator[tuple[int, int]]], count: int) -> Iterator[tuple[int, int]]:
    """Yield at most `count` pairs, one from each queue in turn, none twice or turned round."""
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
