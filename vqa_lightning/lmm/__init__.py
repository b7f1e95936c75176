"""The large multimodal model that compares two clips and scores one, and which of its parts are trained.

Imports families and `datamodules`; knows nothing of Lightning.
"""

from vqa_lightning.lmm.config import LMMConfig
from vqa_lightning.lmm.lmm import LMM, Clips, Judged
from vqa_lightning.lmm.trained_parts import TrainedParts

__all__ = ["LMM", "Clips", "Judged", "LMMConfig", "TrainedParts"]
