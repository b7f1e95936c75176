"""How well scores agree with a known order or with people, with intervals, and the plots of it.

Imports `datamodules` alone.
"""

from vqa_lightning.metrics.agreement import agreement, rank_accuracy, srcc
from vqa_lightning.metrics.bootstrap import bootstrap_interval, bootstrap_intervals

__all__ = ["agreement", "bootstrap_interval", "bootstrap_intervals", "rank_accuracy", "srcc"]
