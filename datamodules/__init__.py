"""Where clips, labels and pairs come from: corpus, distortions, teachers, label store, datamodules.

Names are loaded when they are first used: the processes that render or read need no Lightning, and a teacher
costs nothing to those who do not use it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datamodules.arniqa import ARNIQA
    from datamodules.artefacts import Artefacts
    from datamodules.benchmark_data import BenchmarkDataModule
    from datamodules.clip_iqa import CLIPIQA
    from datamodules.exported import ExportedModel
    from datamodules.ffmpeg_filters import FFmpegDetector
    from datamodules.full_reference import FullReference
    from datamodules.niqe import NIQE
    from datamodules.pyiqa_teacher import PyIQA
    from datamodules.qalign import QAlign
    from datamodules.round_data import RoundDataModule
    from datamodules.scores_file import ScoresFile
    from datamodules.siti import SITI
    from datamodules.teachers import Laplacian, Teacher
    from datamodules.video_data import VideoDataModule

__all__ = [
    "ARNIQA",
    "CLIPIQA",
    "NIQE",
    "SITI",
    "Artefacts",
    "BenchmarkDataModule",
    "ExportedModel",
    "FFmpegDetector",
    "FullReference",
    "Laplacian",
    "PyIQA",
    "QAlign",
    "RoundDataModule",
    "ScoresFile",
    "Teacher",
    "VideoDataModule",
]

TEACHERS = (
    "NIQE", "Artefacts", "ScoresFile", "Laplacian", "SITI", "FFmpegDetector", "CLIPIQA", "ARNIQA", "PyIQA",
    "QAlign", "ExportedModel",
)  # fmt: skip
"""Names of the annotators that need no model of ours."""

_HOMES = {
    "ARNIQA": "arniqa",
    "Artefacts": "artefacts",
    "BenchmarkDataModule": "benchmark_data",
    "CLIPIQA": "clip_iqa",
    "ExportedModel": "exported",
    "FFmpegDetector": "ffmpeg_filters",
    "FullReference": "full_reference",
    "Laplacian": "teachers",
    "NIQE": "niqe",
    "PyIQA": "pyiqa_teacher",
    "QAlign": "qalign",
    "RoundDataModule": "round_data",
    "SITI": "siti",
    "ScoresFile": "scores_file",
    "Teacher": "teachers",
    "VideoDataModule": "video_data",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"datamodules.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
