"""What crosses to the device: clips read in workers, collated as uint8, distorted on arrival.

Imports pairs, labels and what lies below them; the DataModules are built on it.
"""

from datamodules.batches.pair_batch import PairBatch
from datamodules.batches.pair_dataset import PairDataset
from datamodules.batches.video_batch import VideoBatch

__all__ = ["PairBatch", "PairDataset", "VideoBatch"]
