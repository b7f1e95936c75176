"""Hard pairs: those of which the next round learns most, and what a re-annotation has changed.

Synthetic pairs are hard where the student ranked them wrongly, for their order is known; pairs of different
videos where student and teachers disagree most (gMAD).
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from datamodules.gmad import gmad_pairs
from datamodules.levels import hard_levels, soft_levels
from datamodules.pairs import PAIR_SCHEMA, Consensus, pairs_from_scores


def hard_synthetic(
    pairs: pa.Table, wrong: torch.Tensor, count: int, generator: np.random.Generator
) -> pa.Table:
    """Draws at most `count` of a round's synthetic pairs that were ranked wrongly, flagged hard.

    Args:
        pairs: the round's table.
        wrong: (len(pairs),) bool.
        count: how many at most.
        generator: draws them.
    """
    synthetic = pc.equal(pairs["source"], "synthetic").to_numpy()
    rows = np.flatnonzero(synthetic & wrong.numpy())
    found = pairs.take(generator.permutation(rows)[:count])
    return _flagged_hard(found)


def hard_teacher(
    attacker: Consensus,
    defender: Consensus,
    count: int,
    generator: np.random.Generator,
    *,
    draws: int,
    blur: float,
    smoothing: float = 0.0,
    bins: int = 5,
) -> pa.Table:
    """Finds pairs of different videos by maximum differentiation (gMAD, Ma et al. 2018), flagged hard.

    Inside each quality bin of one side, which finds the bin's videos alike, the pairs on which the other
    side's scores differ most: half of the pairs with the attacker attacking, half with the roles swapped.

    Args:
        attacker: this round's annotator.
        defender: the teachers.
        count: how many at most.
        generator: draws the order of the sides and the clips.
        draws: clips of a video to draw from.
        blur: of the soft labels, in margins.
        smoothing: of the labels, as `draw_pairs` has it.
        bins: quality bins.
    """
    common = defender.restrict(attacker.video_ids)
    attacker = attacker.restrict(common.video_ids)
    half = -(-count // 2)
    ordered = np.concatenate(
        [
            gmad_pairs(attacker.score, common.score, half, bins),
            gmad_pairs(common.score, attacker.score, count - half, bins),
        ]
    )
    swap = generator.integers(2, size=len(ordered)).astype(bool)
    ordered[swap] = ordered[swap][:, ::-1]
    first, second = ordered.T
    return _flagged_hard(
        pairs_from_scores(generator, attacker, first, second, draws, blur, smoothing=smoothing)
    )


def _flagged_hard(pairs: pa.Table) -> pa.Table:
    column = pairs.schema.get_field_index("hard")
    return pairs.set_column(column, PAIR_SCHEMA.field("hard"), pa.array([True] * len(pairs), pa.bool_()))


def flipped(pairs: pa.Table, consensus: Consensus, blur: float = 0.5) -> float:
    """Share of the pairs labelled from scores whose level another consensus changes; nan without any.

    Pairs of a video that the other consensus does not know are left out.
    """
    real = pairs.filter(pc.equal(pairs["source"], "teacher"))
    known = pa.array(consensus.video_ids, pa.string())
    real = real.filter(pc.and_(pc.is_in(real["first"], known), pc.is_in(real["second"], known)))
    if not len(real):
        return float("nan")
    first = pc.index_in(real["first"], known).to_numpy()
    second = pc.index_in(real["second"], known).to_numpy()
    before = hard_levels(torch.tensor(real["levels"].to_pylist()))
    margin = torch.from_numpy(consensus.margin(first, second))
    after = hard_levels(soft_levels(margin, consensus.cuts, blur))
    return float((before != after).float().mean())
