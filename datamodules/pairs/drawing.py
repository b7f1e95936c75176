"""How pairs and their clips are drawn: the settings `data.drawing`, and tables put together in random order.

A round's table follows from (seed, round) alone, on the host, before training: no process, worker or device
draws anything later that could change a pair or its label.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from datamodules.checks import check_between, check_least
from datamodules.pairs.synthetic import synthetic_pairs


@dataclass(frozen=True)
class Drawing:
    """How pairs and their clips are drawn.

    Args:
        draws: different clips (times and windows) of each video that pairs are drawn from.
        composed: share of the synthetic pairs of compression and transmission that get one more distortion
            under both sides, at a random level.
        imported: Parquet of pairs that are added to every round, as `vqa-lightning pairs import` writes it;
            pairs whose videos are not both in the train split are left out.
        cache_mb: megabytes of clips that each reading process keeps from one epoch to the next.

    Raises:
        InputError: a value is out of its range.
    """

    draws: int = 8
    composed: float = 0.0
    imported: str | None = None
    cache_mb: int = 512

    def __post_init__(self) -> None:
        """Check the values."""
        check_least("data.drawing.draws", self.draws, 1)
        check_between("data.drawing.composed", self.composed, 0, 1)
        check_least("data.drawing.cache_mb", self.cache_mb, 0)


def shuffled(parts: Sequence[pa.Table], generator: np.random.Generator) -> pa.Table:
    """Put tables of pairs together, in random order."""
    table = pa.concat_tables(parts)
    return table.take(generator.permutation(len(table)))


def evaluation_pairs(
    video_ids: Sequence[str], ladder: Mapping[str, int], count: int, seed: int, draws: int = 8
) -> pa.Table:
    """Draw the synthetic pairs by which a split is judged, the same in every round.

    Args:
        video_ids: the split's videos.
        ladder: simulator name -> number of levels above the source.
        count: number of pairs.
        seed: of the draw.
        draws: number of different clips of a video that pairs are drawn from.

    Raises:
        InputError: there is no video or no simulator.
    """
    generator = np.random.default_rng([seed, 0])
    return shuffled([synthetic_pairs(generator, video_ids, count, ladder, draws)], generator)
