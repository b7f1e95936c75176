"""Encodes of one content beside each other: by how much one looks better, how sure that is, at what rate.

Imports `datamodules.errors` and `datamodules.video` alone: nothing here knows who gave the scores.
"""

from vqa_lightning.encodes.bd_rate import BDRate, bd_rate
from vqa_lightning.encodes.content import Content, Encode
from vqa_lightning.encodes.scores import Difference, EncodeScores

__all__ = ["BDRate", "Content", "Difference", "Encode", "EncodeScores", "bd_rate"]
