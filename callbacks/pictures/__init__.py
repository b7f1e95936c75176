"""What TensorBoard shows of a run: hardest pairs, confusion, severity, flows of labels, scalars by source.

Imports `callbacks.rounds` and what lies below it.
"""

from callbacks.pictures.pair_gallery import PairGallery
from callbacks.pictures.round_pictures import RoundPictures
from callbacks.pictures.source_scalars import SourceScalars

__all__ = ["PairGallery", "RoundPictures", "SourceScalars"]
