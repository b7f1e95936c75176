"""Batches that a run which goes on can begin in the middle of, and batches of like cost.

A batch is padded to its longest sample, so samples that differ in size are sorted by cost; only within a few
dozen batches, which leaves little to pad and an epoch's order still random.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch.utils.data import BatchSampler, DistributedSampler, Sampler

CHUNK = 50
"""Batches within which samples are sorted."""


class ResumedBatchSampler(BatchSampler):
    """Batches in the order of a sampler, without those that were trained on before.

    Lightning counts on from the batch after the last one, and expects the length of the whole epoch.

    Args:
        sampler: of known length.
        batch_size: samples a batch.
        drop_last: leave out what remains after the last whole batch.
        done: batches that are left out at the beginning.
    """

    def __init__(
        self, sampler: Sampler[int] | Iterable[int], batch_size: int, drop_last: bool, done: int = 0
    ) -> None:
        if isinstance(sampler, DistributedSampler):
            sampler.shuffle = False  # Lightning shuffles what it shares out, whatever the order was
        super().__init__(sampler, batch_size, drop_last)
        self.done = done

    def batches(self) -> Iterator[list[int]]:
        """All batches of the epoch."""
        return super().__iter__()

    def __iter__(self) -> Iterator[list[int]]:
        """Return the batches, the same every time."""
        return islice(self.batches(), self.done, None)


class BucketBatchSampler(ResumedBatchSampler):
    """Sorts chunks of CHUNK batches by cost and hands out all batches in random order, the costliest first.

    What does not fit into the device's memory thus fails at the first step. Which samples are used, and which
    are dropped at the end, is as without sorting. Lightning makes it anew around a distributed sampler: ranks
    share the seed, so that batches of about the same cost meet in a step.

    Args:
        sampler: gives the order from which chunks are cut; of known length.
        batch_size: samples a batch.
        drop_last: leave out what remains after the last whole batch.
        costs: of each sample of the data set, in any unit that can be ordered, such as a tuple.
        seed: of the order of the batches.
        done: batches that are left out at the beginning.
    """

    def __init__(
        self,
        sampler: Sampler[int] | Iterable[int],
        batch_size: int,
        drop_last: bool,
        costs: Sequence[Any],
        seed: int,
        done: int = 0,
    ) -> None:
        super().__init__(sampler, batch_size, drop_last, done)
        self.costs = costs
        self.seed = seed

    def batches(self) -> Iterator[list[int]]:
        """All batches of the epoch."""
        samples = list(self.sampler)
        if self.drop_last:
            del samples[len(self) * self.batch_size :]
        chunk = CHUNK * self.batch_size
        ordered = [
            sample
            for start in range(0, len(samples), chunk)
            for sample in sorted(samples[start : start + chunk], key=self.costs.__getitem__)
        ]
        batches = [
            ordered[start : start + self.batch_size] for start in range(0, len(ordered), self.batch_size)
        ]
        order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(self.seed)).tolist()
        costliest = max(order, key=lambda index: self.costs[batches[index][-1]], default=None)
        order.sort(key=lambda index: index != costliest)
        yield from (batches[index] for index in order)
