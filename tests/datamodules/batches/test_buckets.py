from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, SequentialSampler

from datamodules.batches.buckets import CHUNK, BucketBatchSampler

# Frames as uploaded: 240p to 1080p in 16:9, upright 9:16, and 4:3.
FRAMES = [
    (426, 240),
    (640, 360),
    (854, 480),
    (1280, 720),
    (1920, 1080),
    (720, 1280),
    (1080, 1920),
    (640, 480),
]
CAP = 768 * 768
"""Pixels to which frames are scaled down, as families with native aspect do."""


def pair_costs(count: int) -> list[int]:
    """Pixels of both sides of random pairs."""
    pixels = np.array([min(width * height, CAP) for width, height in FRAMES])
    return np.random.default_rng(0).choice(pixels, (count, 2)).sum(axis=1).tolist()  # type: ignore[no-any-return]


def padding(batches: Sequence[Sequence[int]], costs: Sequence[int]) -> float:
    """What is padded when every sample is brought to its batch's costliest, beside what is not padding."""
    padded = sum(len(batch) * max(costs[sample] for sample in batch) for batch in batches)
    real = sum(costs[sample] for batch in batches for sample in batch)
    return padded / real - 1


def buckets(
    costs: Sequence[int], batch_size: int = 8, drop_last: bool = False, seed: int = 0
) -> list[list[int]]:
    return list(BucketBatchSampler(range(len(costs)), batch_size, drop_last, costs, seed))


class TestBucketBatchSampler:
    @pytest.mark.parametrize("drop_last", [False, True])
    def test_uses_the_samples_that_unsorted_batches_use_in_as_many_batches(self, drop_last: bool) -> None:
        costs = pair_costs(1003)
        plain = BatchSampler(range(1003), 8, drop_last)
        sampler = BucketBatchSampler(range(1003), 8, drop_last, costs, seed=0)
        batches = list(sampler)
        assert sorted(chain(*batches)) == list(chain(*plain))
        assert len(batches) == len(sampler) == len(plain)
        assert sorted(map(len, batches)) == sorted(map(len, plain))

    @pytest.mark.parametrize("batch_size", [4, 8, 24])
    def test_pads_less_than_batches_in_the_order_of_the_table(self, batch_size: int) -> None:
        costs = pair_costs(4800)
        plain = padding(list(BatchSampler(range(4800), batch_size, False)), costs)
        # Some twenty different costs of pairs: within 50 batches nearly every batch holds a single one.
        assert padding(buckets(costs, batch_size), costs) < plain / 5

    def test_the_order_follows_from_the_seed_alone_and_is_not_sorted(self) -> None:
        costs = pair_costs(1600)
        first, again, other = buckets(costs), buckets(costs), buckets(costs, seed=1)
        assert first == again
        assert first != other
        assert sorted(first) == sorted(other)
        by_batch = np.array([sum(costs[sample] for sample in batch) for batch in first])
        neighbours = np.corrcoef(by_batch[:-1], by_batch[1:])[0, 1]
        assert abs(neighbours) < 0.25  # 200 batches: three and a half standard errors of no correlation

    def test_the_costliest_batch_comes_first(self) -> None:
        costs = list(range(1, 1601))
        assert buckets(costs)[0][-1] == 1599

    def test_goes_on_within_an_epoch_of_the_same_length(self) -> None:
        costs = pair_costs(100)
        whole = buckets(costs)
        rest = BucketBatchSampler(range(100), 8, False, costs, 0, done=5)
        assert list(rest) == whole[5:]
        assert len(rest) == len(whole)

    def test_stays_within_chunks_of_the_order_it_is_given(self) -> None:
        costs = pair_costs(4 * CHUNK * 8)
        assert all(len({sample // (CHUNK * 8) for sample in batch}) == 1 for batch in buckets(costs))

    def test_costs_that_do_not_differ_leave_batches_as_they_were(self) -> None:
        assert sorted(buckets([1] * 100)) == list(BatchSampler(range(100), 8, False))

    def test_replicas_share_the_samples_and_meet_at_like_costs(self) -> None:
        costs = pair_costs(3200)
        halves: list[DistributedSampler[int]] = [
            DistributedSampler(range(3200), num_replicas=2, rank=rank, shuffle=False)  # type: ignore[arg-type]
            for rank in range(2)
        ]
        ranks = [list(BucketBatchSampler(half, 8, False, costs, seed=0)) for half in halves]
        assert sorted(chain(*ranks[0], *ranks[1])) == list(range(3200))
        assert len(ranks[0]) == len(ranks[1])
        first, second = (np.array([max(costs[i] for i in batch) for batch in rank]) for rank in ranks)
        waiting = np.abs(first - second).sum() / (first + second).sum()
        shuffled = np.abs(first - np.random.default_rng(0).permutation(second)).sum() / (first + second).sum()
        assert waiting < shuffled / 3  # two halves of a chunk differ in their quantiles by a few samples


class Indices(LightningDataModule):
    def predict_dataloader(self) -> DataLoader[Any]:
        order = SequentialSampler(range(20))
        batches = BucketBatchSampler(order, batch_size=8, drop_last=True, costs=[*range(20)], seed=3)
        return DataLoader(torch.arange(20), batch_sampler=batches)  # type: ignore[arg-type]


class Echo(LightningModule):
    def predict_step(self, batch: torch.Tensor) -> list[int]:
        return batch.tolist()


def test_lightning_makes_it_anew_around_a_sampler_of_its_own() -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    found = trainer.predict(Echo(), datamodule=Indices())
    # In prediction Lightning turns drop_last off, by building the sampler again.
    assert found == list(BucketBatchSampler(range(20), 8, False, [*range(20)], seed=3))
