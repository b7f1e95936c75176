"""What a new annotation makes of pairs that are there already: new labels, and what they change.

Only pairs of source `teacher` are labelled by annotators. A pair of a video that the new annotators do not
know has no label any more, and a pair that is less certain than the labelling asks is not kept.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from datamodules.labels import LEVELS, Consensus, hard_levels
from datamodules.labels.labelling import Labelling, confident, labels_from_scores
from datamodules.pairs.table import PLACES, label_column, with_columns

Integers = npt.NDArray[np.int64]


def relabelled(pairs: pa.Table, consensus: Consensus, labelling: Labelling) -> pa.Table:
    """Label a table's pairs of source `teacher` anew; all other pairs are left as they are.

    Args:
        pairs: table of `PAIR_SCHEMA`.
        consensus: who labels the pairs.
        labelling: how scores become labels.

    Returns:
        The pairs in their order. Pairs of source `teacher` are left out where the consensus does not know
        both videos, or is less certain than the labelling asks.
    """
    first, second = positions(pairs, consensus)
    real = _is_real(pairs)
    kept = ~real | ((first >= 0) & (second >= 0))
    rows = np.flatnonzero(kept & real)
    kept[rows] = confident(consensus, first[rows], second[rows], labelling)
    pairs, real, first, second = pairs.filter(pa.array(kept)), real[kept], first[kept], second[kept]
    margin, labels = labels_from_scores(consensus, first[real], second[real], labelling)
    levels = torch.from_numpy(_levels(pairs))
    levels[torch.from_numpy(real)] = labels
    # A pair without scores has no margin: null, and not a number of another kind.
    new = pa.array(margin.numpy()).take(pa.array(np.cumsum(real) - 1, mask=~real))
    margins = pc.if_else(pa.array(real), new, pairs["margin"].combine_chunks())
    places = {}
    for name, side in zip(PLACES, (first, second), strict=True):
        own = np.array(pairs[name].to_numpy(), dtype=np.float32)
        own[real] = consensus.places[side[real]]
        places[name] = own
    return with_columns(pairs, margin=margins, levels=label_column(levels), **places)


def level_flow(pairs: pa.Table, consensus: Consensus, labelling: Labelling) -> Integers:
    """Count how pairs of source `teacher` move between the levels under another consensus.

    Args:
        pairs: table of `PAIR_SCHEMA`.
        consensus: who labels them now; pairs of a video that it does not know are left out.
        labelling: how scores become labels.

    Returns:
        (5, 5), the likeliest level before by the likeliest level after, inferior first.
    """
    first, second = positions(pairs, consensus)
    rows = np.flatnonzero(_is_real(pairs) & (first >= 0) & (second >= 0))
    before = hard_levels(torch.from_numpy(_levels(pairs)[rows]))
    after = hard_levels(labels_from_scores(consensus, first[rows], second[rows], labelling)[1])
    counts = np.bincount(len(LEVELS) * before.numpy() + after.numpy(), minlength=len(LEVELS) ** 2)
    return counts.reshape(len(LEVELS), len(LEVELS))


def flipped(pairs: pa.Table, consensus: Consensus, labelling: Labelling) -> float:
    """Return the share of the pairs of `level_flow` whose level changes; nan without any."""
    flow = level_flow(pairs, consensus, labelling)
    return float(1 - flow.trace() / flow.sum()) if flow.any() else float("nan")


def positions(pairs: pa.Table, consensus: Consensus) -> tuple[Integers, Integers]:
    """Return where in the consensus the videos of either side stand, each (len(pairs),), -1 for nowhere."""
    return position(pairs["first"], consensus), position(pairs["second"], consensus)


def position(video_ids: pa.ChunkedArray | Sequence[str], consensus: Consensus) -> Integers:
    """Return where in the consensus videos stand, -1 for nowhere."""
    ids = video_ids if isinstance(video_ids, pa.ChunkedArray) else pa.array(video_ids, pa.string())
    found = pc.index_in(ids, pa.array(consensus.video_ids, pa.string()))
    return np.asarray(pc.fill_null(found, -1).to_numpy(), dtype=np.int64)


def _is_real(pairs: pa.Table) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.equal(pairs["source"], "teacher").to_numpy())


def _levels(pairs: pa.Table) -> npt.NDArray[np.float32]:
    """Return a copy of the labels (len(pairs), 5)."""
    column = pairs["levels"].combine_chunks().flatten()
    return np.array(column.to_numpy(), dtype=np.float32).reshape(-1, len(LEVELS))
