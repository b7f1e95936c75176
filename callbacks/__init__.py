"""What happens around training: self-improvement, pictures for TensorBoard, writing scores."""

from callbacks.benchmark_report import BenchmarkReport
from callbacks.label_writer import LabelWriter
from callbacks.pair_gallery import PairGallery
from callbacks.round_pictures import RoundPictures
from callbacks.run_settings import RunSettings
from callbacks.score_writer import ScoreWriter
from callbacks.self_improvement import SelfImprovement
from callbacks.source_scalars import SourceScalars

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
