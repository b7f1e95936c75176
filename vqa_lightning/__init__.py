"""What is learnt and how a score is made: LMM, losses, LightningModule, scales and the command line.

Names are loaded when they are first used: importing the package costs no more than finding it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vqa_lightning.checkpoint_teacher import Checkpoint
    from vqa_lightning.module import RankingModule
    from vqa_lightning.scorer import Comparison, Scorer, VideoScore
    from vqa_lightning.teacher_module import TeacherModule

__all__ = ["Checkpoint", "Comparison", "RankingModule", "Scorer", "TeacherModule", "VideoScore"]

_HOMES = {
    "Checkpoint": "vqa_lightning.checkpoint_teacher",
    "Comparison": "vqa_lightning.scorer",
    "RankingModule": "vqa_lightning.module",
    "Scorer": "vqa_lightning.scorer",
    "TeacherModule": "vqa_lightning.teacher_module",
    "VideoScore": "vqa_lightning.scorer",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
