"""How a run's pairs grow: how many of each source a round draws, and what it keeps of the rounds before.

All sizes are known before the first round, for the schedule of learning rates needs them: whatever a round
cannot keep or find is made up by pairs drawn afresh.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.pairs.table import SOURCES
from vqa_lightning.families import InputError

_KEY = ("first", "second", "draw_first", "draw_second", "source", "margin")

_APPLIED = ("distortions_first", "distortions_second")
"""Columns that tell an imported pair from those that a round has drawn."""


@dataclass(frozen=True)
class Growth:
    """Numbers of pairs by source and round.

    Attributes:
        first: source -> pairs of round 0.
        later: source -> share of them that each later round draws anew, 1 where nothing is given.
        union: whether a round has the pairs of all rounds before too.

    Raises:
        InputError: a source or share that cannot be.
    """

    first: Mapping[str, int]
    later: Mapping[str, float]
    union: bool

    def __post_init__(self) -> None:
        """Checks the shares."""
        for source, share in self.later.items():
            if source not in SOURCES or not 0 <= share < float("inf"):
                raise InputError(
                    f"data.later_pairs has {source}: {share}; give 0 or more to any of {', '.join(SOURCES)}."
                )

    def drawn(self, round: int, source: str) -> int:
        """Pairs of a source that a round draws anew."""
        return self.first[source] if round == 0 else int(self.later.get(source, 1.0) * self.first[source])

    def size(self, round: int, source: str) -> int:
        """Pairs of a source that a round trains on, imported ones apart."""
        earlier = range(round) if self.union else ()
        return self.drawn(round, source) + sum(self.drawn(before, source) for before in earlier)

    def total(self, round: int) -> int:
        """Pairs that a round trains on, imported ones apart."""
        return sum(self.size(round, source) for source in self.first)

    def require(self, batch_size: int) -> None:
        """Sees to it that every round fills a batch.

        Raises:
            InputError: one does not.
        """
        for round, kind in enumerate(("a round", "a later round by data.later_pairs")):
            if self.total(round) < batch_size:
                raise InputError(
                    f"{', '.join(f'data.{source}_pairs' for source in self.first)} make {self.total(round)} "
                    f"pairs {kind}, less than data.batch_size {batch_size}: lower that or draw more pairs."
                )


def drawn_among(pairs: pa.Table, video_ids: Collection[str], imported: pa.Table) -> pa.Array:
    """Which pairs of a table are of two of these videos, and not imported."""
    known = pa.array(video_ids, pa.string())
    wanted = pc.and_(pc.is_in(pairs["first"], known), pc.is_in(pairs["second"], known)).to_numpy()
    if len(imported):
        alike = np.flatnonzero(pc.is_in(_keys(pairs), _keys(imported)))
        given = {repr(row) for row in imported.select([*_KEY, *_APPLIED]).to_pylist()}
        rows = pairs.select([*_KEY, *_APPLIED]).take(alike).to_pylist()
        wanted[[place for place, row in zip(alike, rows, strict=True) if repr(row) in given]] = False
    return pa.array(wanted)


def _keys(pairs: pa.Table) -> pa.Array:
    columns = [pc.fill_null(pairs[name].cast(pa.string()), "") for name in _KEY]
    return pc.binary_join_element_wise(*columns, " ").combine_chunks()


def counts(pairs: pa.Table) -> dict[str, int]:
    """Source -> number of pairs."""
    return {source: pc.sum(pc.equal(pairs["source"], source)).as_py() or 0 for source in SOURCES}
