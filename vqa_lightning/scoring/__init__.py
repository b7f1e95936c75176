"""From judgements to scores: anchors, exact scale values, calibrated standard errors, a published scale.

Imports the LMM, checkpoints and what lies below them.
"""

from vqa_lightning.scoring.anchors import Anchors
from vqa_lightning.scoring.calibration import ErrorModel
from vqa_lightning.scoring.module import ScoringModule
from vqa_lightning.scoring.settings import Judgement, Scoring

__all__ = ["Anchors", "ErrorModel", "Judgement", "Scoring", "ScoringModule"]
