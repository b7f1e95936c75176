import math

import pytest
import torch

from datamodules.levels import LEVELS
from vqa_lightning.losses import OrderedProbit, level_cross_entropy, margin_cross_entropy


def phi(z: float) -> float:
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def test_level_cross_entropy_of_a_soft_label() -> None:
    logits = torch.tensor([[0.0, 0.0, math.log(2), 0.0, 0.0]])
    target = torch.tensor([[0.0, 0.0, 0.5, 0.5, 0.0]])
    expected = -0.5 * math.log(2 / 6) - 0.5 * math.log(1 / 6)
    assert level_cross_entropy(logits, target).item() == pytest.approx(expected)


class TestMarginCrossEntropy:
    def test_by_hand(self) -> None:
        loss = margin_cross_entropy(torch.tensor([0.5]), torch.tensor([1.0]))
        expected = -phi(1) * math.log(phi(0.5)) - (1 - phi(1)) * math.log(1 - phi(0.5))
        assert loss.item() == pytest.approx(expected, rel=1e-5)

    def test_is_least_where_the_difference_is_the_margin(self) -> None:
        difference = torch.tensor([1.0], requires_grad=True)
        margin_cross_entropy(difference, torch.tensor([1.0])).sum().backward()
        assert difference.grad is not None
        assert difference.grad.item() == pytest.approx(0, abs=1e-6)

    def test_stays_finite_far_on_the_wrong_side(self) -> None:
        assert margin_cross_entropy(torch.tensor([-30.0]), torch.tensor([8.0])).isfinite().all()


class TestOrderedProbit:
    def test_by_hand(self) -> None:
        probit = OrderedProbit(2)
        inner, outer = probit.cuts()[1].tolist()
        found = probit(torch.tensor([0.4]), torch.tensor([1])).exp()[0].tolist()
        below = [phi(edge - 0.4) for edge in (-outer, -inner, inner, outer)]
        expected = [below[0], *(below[i + 1] - below[i] for i in range(3)), 1 - below[3]]
        assert found == pytest.approx(expected, abs=1e-6)

    def test_swapping_mirrors(self) -> None:
        probit = OrderedProbit(1)
        difference = torch.linspace(-6, 6, 25)
        source = torch.zeros(25, dtype=torch.long)
        assert torch.allclose(probit(difference, source), probit(-difference, source).flip(-1), atol=1e-5)

    def test_a_confident_mistake_still_has_a_gradient(self) -> None:
        difference = torch.tensor([9.0], requires_grad=True)
        OrderedProbit(1)(difference, torch.tensor([0]))[0, LEVELS.index("inferior")].backward()
        assert difference.grad is not None
        assert difference.grad.item() < -1

    def test_cuts_are_learnt_per_source(self) -> None:
        probit = OrderedProbit(2)
        probit(torch.tensor([1.0]), torch.tensor([1]))[0, 3].backward()
        assert probit.steps.grad is not None
        assert probit.steps.grad[0].abs().sum() == 0
        assert probit.steps.grad[1].abs().sum() > 0
