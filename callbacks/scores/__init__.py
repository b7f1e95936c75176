"""What predict and test leave behind: files of scores, a teacher's labels, reports on benchmarks.

Imports `datamodules` and `vqa_lightning`.
"""

from callbacks.scores.benchmark_report import BenchmarkReport
from callbacks.scores.label_writer import LabelWriter
from callbacks.scores.writer import ScoreWriter

__all__ = ["BenchmarkReport", "LabelWriter", "ScoreWriter"]
