"""Opinions of people and scores of other tools on videos, read from the lists in which they are published.

Imports `datamodules.corpus` and `datamodules.video`.
"""

from datamodules.opinions.benchmarks import BENCHMARKS
from datamodules.opinions.mos import Opinions, read_opinions
from datamodules.opinions.predictions import Predictions, read_predictions

__all__ = ["BENCHMARKS", "Opinions", "Predictions", "read_opinions", "read_predictions"]
