"""The ranking losses of either judgement, each a small module after one paper.

Imports `datamodules`. Any loss can be the `class_path` of `model.loss.pairwise` or `model.loss.pointwise`; a
loss of one's own derives from `PairwiseLoss` or `PointwiseLoss`.
"""

from vqa_lightning.losses.across import across_batch
from vqa_lightning.losses.ordinal import OrderedProbit, PointwiseLoss
from vqa_lightning.losses.pairwise import (
    ConfidenceCrossEntropy,
    LevelCrossEntropy,
    PairwiseLoss,
    position_entropy,
)
from vqa_lightning.losses.pointwise import BradleyTerry, Fidelity, OrdinalThurstone
from vqa_lightning.losses.settings import Losses

__all__ = [
    "BradleyTerry",
    "ConfidenceCrossEntropy",
    "Fidelity",
    "LevelCrossEntropy",
    "Losses",
    "OrderedProbit",
    "OrdinalThurstone",
    "PairwiseLoss",
    "PointwiseLoss",
    "across_batch",
    "position_entropy",
]
