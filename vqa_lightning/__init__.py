"""What is learnt and how a score is made: LMM, losses, LightningModule, scales and the command line.

Names are loaded when they are first used: importing the package costs no more than finding it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vqa_lightning.annotators.checkpoint_teacher import Checkpoint
    from vqa_lightning.annotators.scorer import Comparison, Scorer, VideoScore
    from vqa_lightning.annotators.teacher_module import TeacherModule
    from vqa_lightning.training.module import RankingModule
    from vqa_lightning.training.optimizers import MuonAdamW
    from vqa_lightning.training.schedule import CosineWithWarmup

__all__ = [
    "Checkpoint",
    "Comparison",
    "CosineWithWarmup",
    "MuonAdamW",
    "RankingModule",
    "Scorer",
    "TeacherModule",
    "VideoScore",
]

_HOMES = {
    "Checkpoint": "annotators.checkpoint_teacher",
    "Comparison": "annotators.scorer",
    "CosineWithWarmup": "training.schedule",
    "MuonAdamW": "training.optimizers",
    "RankingModule": "training.module",
    "Scorer": "annotators.scorer",
    "TeacherModule": "annotators.teacher_module",
    "VideoScore": "annotators.scorer",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"vqa_lightning.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
