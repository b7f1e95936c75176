"""Counts by hand, calibration against torchmetrics, and sums over processes."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassCalibrationError

from datamodules.batches import PairBatch
from datamodules.labels import hard_levels
from vqa_lightning.metrics.pair_accuracy import BINS, PairAccuracy


def pairs(labels: Tensor, simulators: Tensor) -> PairBatch:
    """Pairs with these levels (B,), each under level 1 of its simulator against the source."""
    count = len(labels)
    which = simulators.view(1, count, 1).expand(2, count, 1)
    return PairBatch(
        clips=torch.empty(2, count, 0),
        times=torch.empty(2, count, 0),
        simulators=which,
        severities=torch.stack([torch.zeros(count, 1), torch.ones(count, 1)]).long(),
        done=torch.zeros(2, count, 1, dtype=torch.bool),
        one_clip=torch.ones(count, dtype=torch.bool),
        levels=torch.eye(5)[labels],
        margin=torch.full((count,), math.nan),
        places=torch.full((2, count), math.nan),
        source=torch.zeros(count, dtype=torch.long),
        row=torch.arange(count),
        seed=0,
    )


def predictions() -> Iterator[tuple[Tensor, Tensor, PairBatch]]:
    """Four batches of 100 pairs with predictions from unsure to certain."""
    generator = torch.Generator().manual_seed(0)
    for sharpness in (0.1, 1.0, 5.0, 1e3):  # the last: many confidences of exactly 1
        labels = torch.randint(5, (100,), generator=generator)
        logits = sharpness * (torch.eye(5)[labels] + torch.randn(100, 5, generator=generator))
        simulators = torch.randint(2, (100,), generator=generator)
        yield torch.randn(100, generator=generator), logits.softmax(-1), pairs(labels, simulators)


def test_by_hand() -> None:
    metric = PairAccuracy(["blur", "noise"])
    metric.update(
        torch.tensor([0.3, 0.1, 5.0, 0.0]),
        torch.eye(5)[[4, 4, 2, 2]],
        pairs(torch.tensor([4, 0, 2, 3]), torch.tensor([0, 0, 1, 1])),
    )
    assert {name: value.item() for name, value in metric.compute().items()} == {
        "rank_accuracy": 0.5,  # right, wrong, no order, tie
        "level_accuracy": 0.5,
        "ece": 0.5,  # sure of everything, right in half
        "rank_accuracy/blur": 0.5,
        "level_accuracy/blur": 0.5,
        "rank_accuracy/noise": 0.5,
        "level_accuracy/noise": 0.5,
    }


def test_calibration_error_is_that_of_torchmetrics() -> None:
    metric, reference = PairAccuracy(["blur", "noise"]), MulticlassCalibrationError(5, n_bins=BINS, norm="l1")
    for difference, levels, batch in predictions():
        metric.update(difference, levels, batch)
        reference.update(levels, hard_levels(batch.levels))
        # float32 sums of 400 numbers below 1
        assert metric.compute()["ece"].item() == pytest.approx(reference.compute().item(), abs=1e-6)


def test_over_and_underconfidence_in_one_bin_cancel() -> None:
    metric = PairAccuracy(["blur"])
    levels = torch.tensor([[0.1, 0.1, 0.1, 0.1, 0.6]]).expand(5, 5)
    batch = pairs(torch.tensor([4, 4, 4, 0, 1]), torch.zeros(5, dtype=torch.long))
    metric.update(torch.ones(5), levels, batch)
    assert metric.compute()["ece"].item() == pytest.approx(0, abs=1e-6)  # says .6, and .6 are right


def test_parts_add_up() -> None:
    """What processes count apart is summed to what one would have counted."""
    whole, parts = PairAccuracy(["blur", "noise"]), [PairAccuracy(["blur", "noise"]) for _ in range(2)]
    for index, answer in enumerate(predictions()):
        whole.update(*answer)
        parts[index % 2].update(*answer)
    parts[0].merge_state(parts[1])
    merged = parts[0].compute()
    for name, value in whole.compute().items():
        assert merged[name].item() == pytest.approx(value.item(), abs=1e-6), name  # float32


def test_half_precision_is_counted_in_single() -> None:
    metric = PairAccuracy(["blur", "noise"])
    with torch.autocast("cpu", torch.bfloat16):
        for difference, levels, batch in predictions():
            metric.update(difference.bfloat16(), levels.bfloat16(), batch)
    assert metric.compute()["ece"].dtype == torch.float32
    assert metric.compute()["rank_accuracy"].isfinite()
