import pytest
import torch

from vqa_lightning.metrics.order_consistency import OrderConsistency

INFERIOR, WORSE, SIMILAR, BETTER, SUPERIOR = torch.eye(5)


def consistency(*pairs: tuple[torch.Tensor, torch.Tensor]) -> float:
    metric = OrderConsistency()
    metric.update(torch.stack([f for f, _ in pairs]), torch.stack([b for _, b in pairs]))
    return float(metric.compute())


def test_by_hand() -> None:
    assert consistency((SUPERIOR, INFERIOR)) == 1
    assert consistency((BETTER, INFERIOR)) == 1  # the same clip, if not by as much
    assert consistency((WORSE, BETTER)) == 1
    assert consistency((BETTER, BETTER)) == 0  # whichever is second
    assert consistency((INFERIOR, WORSE)) == 0  # whichever is first
    assert consistency((SUPERIOR, INFERIOR), (BETTER, BETTER)) == 0.5


def test_no_preference_is_half() -> None:
    assert consistency((SIMILAR, BETTER)) == 0.5
    assert consistency((SIMILAR, SIMILAR)) == 0.5
    symmetric = torch.tensor([1.3, -0.7, 0.1, -0.7, 1.3]).softmax(-1)  # weights that no float holds exactly
    assert consistency((symmetric, symmetric)) == 0.5


def test_answers_that_ignore_the_clips_are_half() -> None:
    generator = torch.Generator().manual_seed(0)
    metric = OrderConsistency()
    for _ in range(4):
        metric.update(*torch.randn(2, 1000, 5, generator=generator).softmax(-1))
    assert metric.compute().item() == pytest.approx(0.5, abs=0.03)  # four standard errors of 4000 tosses


def test_parts_add_up() -> None:
    whole, parts = OrderConsistency(), [OrderConsistency(), OrderConsistency()]
    for part, count in zip(parts, (3, 50), strict=True):
        answers = torch.randn(2, count, 5, generator=torch.Generator().manual_seed(count)).softmax(-1)
        part.update(*answers)
        whole.update(*answers)
    parts[0].merge_state(parts[1])
    assert parts[0].compute() == whole.compute()
