"""Pairs of one source under two severities of one simulator."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from datamodules.labels.levels import severity_levels
from datamodules.pairs.table import id_column, label_column, pair_table, side_column


def synthetic_pairs(
    generator: np.random.Generator,
    video_ids: Sequence[str],
    count: int,
    ladder: Mapping[str, int],
    bases: Mapping[str, Sequence[str]],
    composed: float,
    draws: int,
) -> pa.Table:
    """Draw pairs of one source under two severities; every simulator gives the same number to within one."""
    names = list(ladder)
    tops = np.array([ladder[name] for name in names])
    # Every simulator gets its share to within one pair: a random draw would leave small rounds uneven.
    simulator = generator.permutation(np.arange(count) % len(names))
    top = tops[simulator]
    first = generator.integers(0, top + 1)
    second = (first + generator.integers(1, top + 1)) % (top + 1)
    video = generator.integers(len(video_ids), size=count)
    draw = generator.integers(draws, size=count)

    base, under = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    if composed:
        for index, name in enumerate(names):
            allowed = np.array([names.index(other) for other in bases.get(name, ())], dtype=np.int64)
            rows = np.flatnonzero(simulator == index)
            rows = rows[generator.random(len(rows)) < composed] if len(allowed) else rows[:0]
            base[rows] = allowed[generator.integers(len(allowed), size=len(rows))] if len(rows) else 0
            under[rows] = generator.integers(1, tops[base[rows]] + 1)

    def side(level: npt.NDArray[Any]) -> pa.Array:
        return side_column(names, np.stack([base, simulator], axis=1), np.stack([under, level], axis=1))

    ids = id_column(video_ids, video)
    return pair_table(
        {
            "first": ids,
            "second": ids,
            "draw_first": draw,
            "draw_second": draw,
            "distortions_first": side(first),
            "distortions_second": side(second),
            "source": pa.repeat("synthetic", count),
            "hard": pa.repeat(False, count),
            "margin": pa.nulls(count, pa.float32()),
            "levels": label_column(severity_levels(torch.from_numpy(first), torch.from_numpy(second))),
        }
    )
