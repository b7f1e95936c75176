"""Where clips, labels and pairs come from: corpus, distortions, teachers, label store, datamodules.

Names are loaded when they are first used: the processes that render or read need no Lightning, and a teacher
costs nothing to those who do not use it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datamodules.benchmark_data import BenchmarkDataModule
    from datamodules.round_data import RoundDataModule
    from datamodules.teachers.artefacts import Artefacts
    from datamodules.teachers.ffmpeg_filters import FFmpegDetector
    from datamodules.teachers.full_reference import FullReference
    from datamodules.teachers.laplacian import Laplacian
    from datamodules.teachers.natural_scenes.brisque import BRISQUE
    from datamodules.teachers.natural_scenes.niqe import NIQE
    from datamodules.teachers.networks.arniqa import ARNIQA
    from datamodules.teachers.networks.clip_iqa import CLIPIQA
    from datamodules.teachers.networks.exported import ExportedModel
    from datamodules.teachers.networks.pyiqa import PyIQA
    from datamodules.teachers.networks.qalign import QAlign
    from datamodules.teachers.scores_file import ScoresFile
    from datamodules.teachers.siti import SITI
    from datamodules.teachers.teacher import Teacher
    from datamodules.video_data import VideoDataModule

__all__ = [
    "ARNIQA",
    "BRISQUE",
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
    "NIQE", "BRISQUE", "Artefacts", "ScoresFile", "Laplacian", "SITI", "FFmpegDetector", "CLIPIQA", "ARNIQA",
    "PyIQA", "QAlign", "ExportedModel",
)  # fmt: skip
"""Names of the annotators that need no model of ours."""

_HOMES = {
    "ARNIQA": "teachers.networks.arniqa",
    "Artefacts": "teachers.artefacts",
    "BRISQUE": "teachers.natural_scenes.brisque",
    "BenchmarkDataModule": "benchmark_data",
    "CLIPIQA": "teachers.networks.clip_iqa",
    "ExportedModel": "teachers.networks.exported",
    "FFmpegDetector": "teachers.ffmpeg_filters",
    "FullReference": "teachers.full_reference",
    "Laplacian": "teachers.laplacian",
    "NIQE": "teachers.natural_scenes.niqe",
    "PyIQA": "teachers.networks.pyiqa",
    "QAlign": "teachers.networks.qalign",
    "RoundDataModule": "round_data",
    "SITI": "teachers.siti",
    "ScoresFile": "teachers.scores_file",
    "Teacher": "teachers.teacher",
    "VideoDataModule": "video_data",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"datamodules.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
