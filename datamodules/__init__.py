"""Where clips, labels and pairs come from: corpus, distortions, teachers, label store, datamodules.

Names are loaded when they are first used: the processes that render or read need no Lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datamodules.artefacts import Artefacts
    from datamodules.niqe import NIQE
    from datamodules.round_data import RoundDataModule
    from datamodules.teachers import Laplacian, ScoresFile, Teacher
    from datamodules.video_data import VideoDataModule

__all__ = ["NIQE", "Artefacts", "Laplacian", "RoundDataModule", "ScoresFile", "Teacher", "VideoDataModule"]

TEACHERS = ("NIQE", "Artefacts", "ScoresFile", "Laplacian")
"""Names of the annotators that need no model of ours."""

_HOMES = {
    "NIQE": "niqe",
    "Artefacts": "artefacts",
    "Laplacian": "teachers",
    "RoundDataModule": "round_data",
    "ScoresFile": "teachers",
    "Teacher": "teachers",
    "VideoDataModule": "video_data",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"datamodules.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
