"""Pairs of different videos, labelled by the scores of annotators and balanced over the five levels."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from datamodules.labels import LEVELS, Consensus, Versions
from datamodules.labels.levels import soft_levels
from datamodules.pairs.table import id_column, label_column, pair_table, side_column
from vqa_lightning.families import InputError


def labels_from_scores(
    consensus: Consensus,
    first: npt.NDArray[Any],
    second: npt.NDArray[Any],
    blur: float,
    smoothing: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Margins (m,) and labels (m, 5), float32, of the consensus's positions `first` and `second` (m,)."""
    margin = torch.from_numpy(consensus.margin(first, second)).float()
    labels = soft_levels(margin, consensus.cuts, blur)
    if smoothing:
        weight = smoothing * torch.from_numpy(consensus.doubt(first, second)).float()
        labels = torch.lerp(labels, torch.full_like(labels, 1 / len(LEVELS)), weight[:, None])
    return margin, labels


def confident(
    consensus: Consensus,
    first: npt.NDArray[Any],
    second: npt.NDArray[Any],
    blur: float,
    least: float,
) -> npt.NDArray[np.bool_]:
    """Which (m,) of these pairs have a level of probability `least` or more, any smoothing apart."""
    if least <= 0:
        return np.ones(len(first), dtype=bool)
    _, labels = labels_from_scores(consensus, first, second, blur)
    return np.asarray(labels.amax(dim=-1).numpy() >= least)


def pairs_from_scores(
    generator: np.random.Generator,
    consensus: Consensus,
    first: npt.NDArray[Any],
    second: npt.NDArray[Any],
    draws: int,
    blur: float,
    versions: Versions | None = None,
    smoothing: float = 0.0,
    source: str = "teacher",
) -> pa.Table:
    """Pairs of the consensus's positions `first` and `second`, labelled by its margins."""
    margin, labels = labels_from_scores(consensus, first, second, blur, smoothing)
    count = len(first)
    if versions is None:
        names = np.array([""])
        which = levels = np.zeros(len(consensus.video_ids), dtype=np.int64)
    else:
        names, which = np.unique(np.array(versions.simulators), return_inverse=True)
        levels = versions.levels

    def side(chosen: npt.NDArray[Any]) -> pa.Array:
        return side_column(list(names), which[chosen][:, None], levels[chosen][:, None])

    return pair_table(
        {
            "first": id_column(consensus.video_ids, first),
            "second": id_column(consensus.video_ids, second),
            "draw_first": generator.integers(draws, size=count),
            "draw_second": generator.integers(draws, size=count),
            "distortions_first": side(first),
            "distortions_second": side(second),
            "source": pa.repeat(source, count),
            "hard": pa.repeat(False, count),
            "margin": pa.array(margin.numpy()),
            "levels": label_column(labels),
        }
    )


CANDIDATES = 2**20
"""Random pairs looked at in one go: what drawing from a large corpus needs of memory."""


def balanced(
    generator: np.random.Generator,
    consensus: Consensus,
    count: int,
    blur: float = 0.5,
    min_confidence: float = 0.0,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positions of `count` ordered pairs, as evenly over the five hard levels as the candidates allow.

    Two versions of one video are no candidates, nor are pairs whose likeliest level has less than
    `min_confidence`.

    Raises:
        InputError: no pair is confident enough.
    """
    if not count:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    n = len(consensus.video_ids)
    known = pa.array(consensus.video_ids, pa.string()).dictionary_encode()
    video = known.indices.to_numpy()
    inner, outer = consensus.cuts
    edges = np.array([-outer, -inner, inner, outer])
    total = n * (n - 1)
    few = total <= 2 * CANDIDATES
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
        wanted = video[first] != video[second]
        wanted &= confident(consensus, first, second, blur, min_confidence)
        first, second = first[wanted], second[wanted]
        level = np.searchsorted(edges, consensus.margin(first, second))
        kept.append((first, second, level))
        counts += np.bincount(level, minlength=len(LEVELS))
        if few:  # these were all pairs there are
            break
    first, second, level = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    if not len(first):
        raise InputError(
            f"no pair of the {n} scored videos has a label that gives one level {min_confidence}: lower "
            "data.min_confidence, or set data.teacher_pairs to 0."
        )
    # Rank within its level: taking pairs in order of that rank takes each level in turn until one is used up.
    order = np.argsort(level, kind="stable")
    starts = np.searchsorted(level[order], np.arange(len(LEVELS)))
    turn = np.empty(len(level), dtype=np.int64)
    turn[order] = np.arange(len(level)) - starts[level[order]]
    chosen = np.argsort(turn, kind="stable")[:count]
    chosen = np.resize(chosen, count)  # a small corpus has fewer pairs than were asked for: they come again
    return first[chosen], second[chosen]
