"""What happens around training: self-improvement, pictures for TensorBoard, writing scores.

Imports `datamodules` and `vqa_lightning`, and is imported by the command line alone.
"""

from callbacks.pictures import PairGallery, RoundPictures, SourceScalars
from callbacks.rounds import SelfImprovement
from callbacks.runs import RunSettings
from callbacks.scores import BenchmarkReport, LabelWriter, ScoreWriter

__all__ = [
    "BenchmarkReport",
    "LabelWriter",
    "PairGallery",
    "RoundPictures",
    "RunSettings",
    "ScoreWriter",
    "SelfImprovement",
    "SourceScalars",
]
