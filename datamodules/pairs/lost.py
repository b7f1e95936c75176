"""Pairs of a round that taught nothing: those that could not be read, and those without a finite loss.

Both are rare and neither stops a run, so they are told once, when the round ends.
"""

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa
from torch import Tensor

from datamodules.pairs.hard.recorded import ANSWERS
from datamodules.video import Video

NAMED = 5
"""Videos or pairs that a sentence names; of more it gives the number."""


def told_of_lost_pairs(
    pairs: pa.Table, answers: Tensor, lost: Collection[str], videos: Mapping[str, Video]
) -> list[str]:
    """Return one sentence for each kind of loss that occurred.

    Args:
        pairs: the round's table.
        answers: (pairs, 3), columns `ANSWERS`; the loss is nan for a pair that was not met, and inf for a
            pair that was met and had no finite loss.
        lost: ids of videos that could not be read (`PairBatch.lost`).
        videos: id -> Video.
    """
    loss = answers[:, ANSWERS.index("loss")]
    sides = list(zip(pairs["first"].to_pylist(), pairs["second"].to_pylist(), strict=True))
    unmet = loss.isnan().nonzero().flatten().tolist()
    unread = sum(bool({*sides[row]} & {*lost}) for row in unmet)
    infinite = [sides[row] for row in loss.isinf().nonzero().flatten().tolist()]
    told = []
    if lost:
        gone = _listed(sorted(videos[name].path for name in lost))
        told.append(f"{unread} of {len(sides)} pairs were left out, for these videos cannot be read: {gone}.")
    if infinite:
        named = _listed([" and ".join(sorted({videos[name].path for name in pair})) for pair in infinite])
        told.append(
            f"{len(infinite)} of {len(sides)} pairs had no finite loss, and their batches taught nothing: "
            f"{named}."
        )
    return told


def _listed(names: Sequence[str]) -> str:
    more = [f"and {len(names) - NAMED} more"] if len(names) > NAMED else []
    return ", ".join([*names[:NAMED], *more])
