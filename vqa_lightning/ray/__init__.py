"""Scoring and near-duplicates on Ray Data, of more videos than one machine reads: for commands and pipelines.

Imports Ray only where it is used (extra ray), `callbacks.scores`, `vqa_lightning.annotators` and what lies
below them. Distribution, retries and the flow between the stages are Ray's.
"""

from vqa_lightning.ray.hashes import near_duplicates
from vqa_lightning.ray.pipeline import score

__all__ = ["near_duplicates", "score"]
