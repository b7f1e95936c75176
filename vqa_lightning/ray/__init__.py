"""Scoring on Ray Data, of more videos than one machine reads: `predict --engine ray`, and `score`.

Imports Ray only where it is used (extra ray), `callbacks.scores`, `vqa_lightning.annotators` and what lies
below them. Distribution, retries and the flow between the stages are Ray's.
"""

from vqa_lightning.ray.pipeline import score

__all__ = ["score"]
