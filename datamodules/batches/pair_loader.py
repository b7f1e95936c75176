"""The loader of an epoch's pairs.

Every epoch has one of its own, and what it gives follows from pair table and seed alone: not from the number
of workers, and not from where in the epoch a run goes on.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, SequentialSampler

from datamodules.batches.buckets import BucketBatchSampler, ResumedBatchSampler
from datamodules.batches.pair_dataset import PairCollate, PairDataset
from datamodules.processes import WorkerLoader


def pair_loader(
    dataset: PairDataset,
    batch_size: int,
    workers: int,
    seed: int,
    *,
    costs: Sequence[Any] | None = None,
    training: bool = False,
    done: int = 0,
) -> DataLoader[dict[str, Any]]:
    """PairBatches in the order of the pair table.

    Args:
        dataset: the pairs.
        batch_size: pairs a batch.
        workers: processes that read; 0 reads in this one.
        seed: of the noise, and of the order of sorted batches.
        costs: of each pair, by which they are sorted into batches (`BucketBatchSampler`); None: they are not.
        training: mirrors half of the pairs and leaves out what remains after the last whole batch.
        done: batches that were trained on before, left out at the beginning.
    """
    order = SequentialSampler(dataset)
    if costs is None:
        batches = ResumedBatchSampler(order, batch_size, training, done)
    else:
        batches = BucketBatchSampler(order, batch_size, training, costs, seed, done)
    return WorkerLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=PairCollate(seed, mirror=training),
        pin_memory=torch.cuda.is_available(),
    )
