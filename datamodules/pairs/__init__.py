"""The pair table of a round: one module for each source of pairs, and one that puts them together.

Imports labels and what lies below them; batches are built on it.
"""

from datamodules.pairs.counts import LaterRounds, PairCounts
from datamodules.pairs.drawing import Drawing
from datamodules.pairs.hard.recorded import ANSWERS, HardPairs
from datamodules.pairs.table import PAIR_SCHEMA, SOURCES, read_pairs

__all__ = [
    "ANSWERS",
    "PAIR_SCHEMA",
    "SOURCES",
    "Drawing",
    "HardPairs",
    "LaterRounds",
    "PairCounts",
    "read_pairs",
]
