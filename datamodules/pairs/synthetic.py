"""Pairs of one video under two severities of one simulator: the order is known, whatever the video."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from datamodules.errors import InputError
from datamodules.labels.levels import severity_levels
from datamodules.pairs.table import id_column, label_column, pair_table, side_column


def synthetic_pairs(
    generator: np.random.Generator,
    video_ids: Sequence[str],
    count: int | Mapping[str, int],
    ladder: Mapping[str, int],
    draws: int,
    *,
    bases: Mapping[str, Sequence[str]] | None = None,
    composed: float = 0.0,
) -> pa.Table:
    """Draw synthetic pairs of each simulator.

    Args:
        generator: draws the pairs.
        video_ids: the split's videos.
        count: number of pairs, shared out so that those of any two simulators differ by one at most; or the
            number of each simulator's pairs, by name.
        ladder: simulator name -> number of levels above the source.
        draws: number of different clips of a video that pairs are drawn from.
        bases: simulator name -> the simulators that may lie under both sides of its pairs.
        composed: share of the pairs with such a base, where there is one.

    Raises:
        InputError: there is no video or no simulator.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> pairs = synthetic_pairs(generator, ["a", "b"], 6, {"jpeg": 5, "jitter": 3}, draws=4)
        >>> pairs.num_rows, set(pairs["source"].to_pylist())
        (6, {'synthetic'})
    """
    if not video_ids or not ladder:
        raise InputError("no pairs can be drawn: the split has no videos or no simulator is named.")
    names = list(ladder)
    tops = np.array([ladder[name] for name in names])
    # A random draw of the simulator would leave small rounds uneven.
    if isinstance(count, int):
        each = np.arange(count) % len(names)
    else:
        each = np.repeat(np.arange(len(names)), [count[name] for name in names])
    simulator = generator.permutation(each)
    count = len(simulator)
    top = tops[simulator]
    first = generator.integers(0, top + 1)
    second = (first + generator.integers(1, top + 1)) % (top + 1)
    video = generator.integers(len(video_ids), size=count)
    draw = generator.integers(draws, size=count)

    base, under = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    if composed:
        for index, name in enumerate(names):
            allowed = np.array([names.index(other) for other in (bases or {}).get(name, ())], dtype=np.int64)
            rows = np.flatnonzero(simulator == index)
            rows = rows[generator.random(len(rows)) < composed] if len(allowed) else rows[:0]
            base[rows] = allowed[generator.integers(len(allowed), size=len(rows))] if len(rows) else 0
            under[rows] = generator.integers(1, tops[base[rows]] + 1)

    def side(level: npt.NDArray[Any]) -> pa.Array:
        return side_column(names, np.stack([base, simulator], axis=1), np.stack([under, level], axis=1))

    ids = id_column(video_ids, video)
    return pair_table(
        "synthetic",
        first=ids,
        second=ids,
        draw_first=draw,
        draw_second=draw,
        distortions_first=side(first),
        distortions_second=side(second),
        levels=label_column(severity_levels(torch.from_numpy(first), torch.from_numpy(second))),
    )
