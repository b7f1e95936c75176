"""Pairs that people have labelled, each within one list."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from datamodules.labels.human_labels import HumanScores
from datamodules.pairs.scored import balanced, pairs_from_scores


def draw_human_pairs(
    lists: Sequence[HumanScores], count: int, generator: np.random.Generator, draws: int
) -> pa.Table:
    """Draw pairs of different videos, each within one list: the scales of two lists cannot be compared.

    A list has a share of the pairs that is its share of the videos. Within a list the five levels are
    balanced, as far as its pairs go; where they are fewer than were asked for they come again.

    Args:
        lists: what each says of the train split.
        count: number of pairs.
        generator: draws them.
        draws: number of different clips of a video that pairs are drawn from.

    Returns:
        A table of `pairs.PAIR_SCHEMA`, source "human".
    """
    videos = np.cumsum([len(scores.consensus.video_ids) for scores in lists])
    counts = np.diff(np.round(videos / videos[-1] * count).astype(int), prepend=0)
    parts = []
    for (consensus, blur), share in zip(lists, counts, strict=True):
        first, second = balanced(generator, consensus, int(share))
        parts.append(pairs_from_scores(generator, consensus, first, second, draws, blur, source="human"))
    return pa.concat_tables(parts)
