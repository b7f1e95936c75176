"""The LightningModule, and how it is built, optimised and kept from steps that are not finite.

Imports scoring, losses, metrics, budget and what lies below them.
"""

from vqa_lightning.training.module import RankingModule

__all__ = ["RankingModule"]
