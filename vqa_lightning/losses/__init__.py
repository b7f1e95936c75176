"""The ranking losses of either judgement, each a small module after one paper.

Any can be the `class_path` of `model.pairwise_loss` or `model.pointwise_loss`; a loss of one's own derives
from `PairwiseLoss` or `PointwiseLoss`.
"""

from vqa_lightning.losses.pairwise import (
    ConfidenceCrossEntropy,
    LevelCrossEntropy,
    PairwiseLoss,
    position_entropy,
)
from vqa_lightning.losses.pointwise import (
    BradleyTerry,
    Fidelity,
    OrderedProbit,
    OrdinalThurstone,
    PointwiseLoss,
)

__all__ = [
    "BradleyTerry",
    "ConfidenceCrossEntropy",
    "Fidelity",
    "LevelCrossEntropy",
    "OrderedProbit",
    "OrdinalThurstone",
    "PairwiseLoss",
    "PointwiseLoss",
    "position_entropy",
]
