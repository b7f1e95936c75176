"""Labels: who scores which clips, where the scores are kept, and what all of them say together.

Imports simulators, opinions and what lies below them; teachers and pairs are built on it.
"""

from datamodules.labels.annotation import Annotator, Request, annotate_missing, fingerprint_of
from datamodules.labels.clips import ClipDataset, ClipItem
from datamodules.labels.consensus import Consensus, Versions
from datamodules.labels.fitted_consensus import FittedConsensus, fit_consensus
from datamodules.labels.label_store import Annotation, Key, LabelStore
from datamodules.labels.labelling import Labelling
from datamodules.labels.levels import CUTS, LEVELS, hard_levels, preference

__all__ = [
    "CUTS",
    "LEVELS",
    "Annotation",
    "Annotator",
    "ClipDataset",
    "ClipItem",
    "Consensus",
    "FittedConsensus",
    "Key",
    "LabelStore",
    "Labelling",
    "Request",
    "Versions",
    "annotate_missing",
    "fingerprint_of",
    "fit_consensus",
    "hard_levels",
    "preference",
]
