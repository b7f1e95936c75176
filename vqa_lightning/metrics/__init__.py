"""How well scores agree with a known order or with people, with intervals, and the plots of it.

Imports `datamodules` alone.
"""

from datamodules.bootstrap import bootstrap_interval, bootstrap_intervals
from vqa_lightning.metrics.correlation import agreement, rank_accuracy, srcc

__all__ = ["agreement", "bootstrap_interval", "bootstrap_intervals", "rank_accuracy", "srcc"]
