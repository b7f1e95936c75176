"""Comparisons across the pairs of a batch: all sides of one source, and nothing else."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from vqa_lightning.losses import across_batch
from vqa_lightning.losses.pointwise import margin_cross_entropy


def pairs(places: list[list[float]], source: list[int]) -> SimpleNamespace:
    return SimpleNamespace(places=torch.tensor(places), source=torch.tensor(source))


def one_by_one(scores: Tensor, batch: SimpleNamespace) -> Tensor:
    """The definition, side by side."""
    value, place = scores.flatten().tolist(), batch.places.flatten().tolist()
    source = batch.source.repeat(2).tolist()
    costs = []
    for side in range(len(value)):
        others = [
            margin_cross_entropy(
                torch.tensor([value[other] - value[side]]), torch.tensor([place[other] - place[side]])
            ).item()
            for other in range(len(value))
            if other != side and source[other] == source[side] and not math.isnan(place[other])
        ]
        costs.append(sum(others) / len(others) if others and not math.isnan(place[side]) else math.nan)
    half = len(costs) // 2
    return torch.tensor([(costs[b] + costs[half + b]) / 2 for b in range(half)])


def test_is_what_the_sides_give_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    places = torch.randn(2, 7, generator=generator)
    places[:, 2] = math.nan
    batch = SimpleNamespace(places=places, source=torch.tensor([0, 1, 0, 1, 1, 0, 2]))
    scores = torch.randn(2, 7, generator=generator)
    assert torch.allclose(across_batch(scores, batch), one_by_one(scores, batch), equal_nan=True)  # type: ignore[arg-type]


def test_of_one_pair_alone_it_is_the_pair_s_own_loss() -> None:
    batch = pairs([[0.3], [1.1]], [2])
    scores = torch.tensor([[0.2], [0.5]])
    own = margin_cross_entropy(torch.tensor([0.3]), torch.tensor([0.8]))
    assert across_batch(scores, batch).item() == pytest.approx(own.item())  # type: ignore[arg-type]


def test_a_pair_without_places_moves_nothing() -> None:
    scores = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    batch = pairs([[0.0, math.nan, 2.0], [1.0, math.nan, 3.0]], [1, 1, 1])
    loss = across_batch(scores, batch)  # type: ignore[arg-type]
    loss[[0, 2]].sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert (scores.grad[:, 1] == 0).all()
    assert loss.isnan().tolist() == [False, True, False]
