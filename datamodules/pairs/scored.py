"""Pairs of different videos, labelled by scores: of teachers and students, full-reference metrics, people.

Each source of labels has one function from its own scores to a table. All of them balance the five levels as
far as the scored pairs allow, and label by the margin of the scores.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from datamodules.errors import InputError
from datamodules.labels.consensus import Consensus, Versions
from datamodules.labels.human_labels import HumanScores
from datamodules.labels.labelling import Labelling, confident, labels_from_scores
from datamodules.labels.levels import LEVELS
from datamodules.pairs.table import id_column, label_column, pair_table, side_column

CANDIDATES = 2**20
"""Random pairs looked at in one go: what drawing from a large corpus needs of memory."""


def teacher_pairs(
    generator: np.random.Generator, consensus: Consensus, count: int, draws: int, labelling: Labelling
) -> pa.Table:
    """Draw pairs of different videos, labelled by the round's annotators.

    Args:
        generator: draws the pairs.
        consensus: what the annotators say of the split's videos.
        count: number of pairs; where the corpus has fewer, pairs come again.
        draws: number of different clips of a video that pairs are drawn from.
        labelling: how scores become labels; less certain pairs than it asks for are not drawn.

    Raises:
        InputError: fewer than two videos are scored, or no pair is certain enough.
    """
    if len(consensus.video_ids) < 2:
        raise InputError(
            "data.counts.teacher needs two or more videos with teacher scores in the split; got "
            f"{len(consensus.video_ids)}: name teachers that cover the videos, or set the count to 0."
        )
    first, second = balanced(generator, consensus, count, labelling)
    return scored_pairs(generator, consensus, first, second, draws, labelling)


def human_pairs(
    generator: np.random.Generator, lists: Sequence[HumanScores], count: int, draws: int
) -> pa.Table:
    """Draw pairs labelled by people, each within one list: the scales of two lists cannot be compared.

    A list's share of the pairs is its share of the videos.

    Args:
        generator: draws the pairs.
        lists: what each list says of the split's videos.
        count: number of pairs; where a list has fewer, its pairs come again.
        draws: number of different clips of a video that pairs are drawn from.
    """
    videos = np.cumsum([len(scores.consensus.video_ids) for scores in lists])
    counts = np.diff(np.round(videos / videos[-1] * count).astype(int), prepend=0)
    parts = []
    for (consensus, blur), share in zip(lists, counts, strict=True):
        first, second = balanced(generator, consensus, int(share))
        labelling = Labelling(blur=blur)
        nowhere = np.full(len(consensus.video_ids), np.nan)  # scales of two lists cannot be compared
        parts.append(scored_pairs(generator, consensus, first, second, draws, labelling, "human", nowhere))
    return pa.concat_tables(parts)


def scored_pairs(
    generator: np.random.Generator,
    scored: Consensus | Versions,
    first: npt.NDArray[Any],
    second: npt.NDArray[Any],
    draws: int,
    labelling: Labelling,
    source: str = "teacher",
    places: npt.NDArray[Any] | None = None,
) -> pa.Table:
    """Label chosen pairs by their margins, and draw the clips that they show.

    Args:
        generator: draws the clips.
        scored: scores of videos, or of versions of videos.
        first: (m,) positions in the scores of the pairs' first sides.
        second: (m,) positions of their second sides.
        draws: number of different clips of a video that pairs are drawn from.
        labelling: how scores become labels.
        source: of the labels.
        places: (n,) where the scored ones stand beside those of other pairs; None: by these scores.
    """
    if isinstance(scored, Versions):
        consensus, levels = scored.consensus, scored.levels
        names, which = np.unique(np.array(scored.simulators), return_inverse=True)
    else:
        consensus, names = scored, np.array([""])
        which = levels = np.zeros(len(consensus.video_ids), dtype=np.int64)
    margin, labels = labels_from_scores(consensus, first, second, labelling)
    places = consensus.places if places is None else places

    def side(chosen: npt.NDArray[Any]) -> pa.Array:
        return side_column(list(names), which[chosen][:, None], levels[chosen][:, None])

    return pair_table(
        source,
        first=id_column(consensus.video_ids, first),
        second=id_column(consensus.video_ids, second),
        draw_first=generator.integers(draws, size=len(first)),
        draw_second=generator.integers(draws, size=len(first)),
        distortions_first=side(first),
        distortions_second=side(second),
        margin=pa.array(margin.numpy()),
        place_first=_place_column(places[first]),
        place_second=_place_column(places[second]),
        levels=label_column(labels),
    )


def _place_column(places: npt.NDArray[Any]) -> pa.Array:
    return pa.array(places.astype(np.float32), from_pandas=True)  # not a number: null


def balanced(
    generator: np.random.Generator,
    consensus: Consensus,
    count: int,
    labelling: Labelling = Labelling(),  # noqa: B008 - frozen, plain values
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Choose ordered pairs, as evenly over the five hard levels as the candidates allow.

    Two versions of one video are no candidates, nor are pairs that are less certain than the labelling asks.

    Args:
        generator: draws the candidates.
        consensus: the scores, of n videos or versions.
        count: number of pairs; where there are fewer candidates, pairs come again.
        labelling: gives the blur and the least confidence.

    Returns:
        Positions (count,) in the consensus of the first and of the second sides.

    Raises:
        InputError: no pair is certain enough.
    """
    if not count:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    n = len(consensus.video_ids)
    video = pa.array(consensus.video_ids, pa.string()).dictionary_encode().indices.to_numpy()
    inner, outer = consensus.cuts
    edges = np.array([-outer, -inner, inner, outer])
    few = n * (n - 1) <= 2 * CANDIDATES
    kept: list[tuple[npt.NDArray[np.int64], ...]] = []
    counts = np.zeros(len(LEVELS), dtype=np.int64)
    seen = 0
    while seen < max(20 * count, CANDIDATES) and counts.min() < -(-count // len(LEVELS)):
        codes = (
            generator.permutation(n * (n - 1)) if few else generator.integers(n * (n - 1), size=CANDIDATES)
        )
        seen += len(codes)
        first = codes // (n - 1)
        second = codes % (n - 1)
        second += second >= first
        wanted = (video[first] != video[second]) & confident(consensus, first, second, labelling)
        first, second = first[wanted], second[wanted]
        level = np.searchsorted(edges, consensus.margin(first, second))
        kept.append((first, second, level))
        counts += np.bincount(level, minlength=len(LEVELS))
        if few:  # these were all pairs there are
            break
    first, second, level = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    if not len(first):
        raise InputError(
            f"data.labelling.min_confidence must be at most what some pair of the {n} scored videos reaches; "
            f"got {labelling.min_confidence}: lower it, or set data.counts.teacher to 0."
        )
    # Rank within its level: taking pairs in order of that rank takes each level in turn until one is used up.
    order = np.argsort(level, kind="stable")
    starts = np.searchsorted(level[order], np.arange(len(LEVELS)))
    turn = np.empty(len(level), dtype=np.int64)
    turn[order] = np.arange(len(level)) - starts[level[order]]
    chosen = np.resize(np.argsort(turn, kind="stable")[:count], count)
    return first[chosen], second[chosen]
