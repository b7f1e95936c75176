import pytest
import torch

from vqa_lightning.scoring.temperature import LevelTemperature


def test_it_is_found_again() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4000, 5, generator=generator)
    levels = torch.multinomial((logits / 3).softmax(-1), 1, generator=generator)[:, 0]
    targets = torch.nn.functional.one_hot(levels, 5).float()
    metric = LevelTemperature()
    for part in (slice(0, 1000), slice(1000, 4000)):
        metric.update(logits[None, part], targets[part])
    # 4000 draws: the likelihood is flat to some 4 %
    assert metric.compute().item() == pytest.approx(3, rel=0.1)


def test_the_second_order_is_held_against_the_mirrored_label() -> None:
    logits = torch.tensor([[0.0, 0, 0, 1, 3], [1, 1, 0, 0, 0]])
    targets = torch.tensor([[0, 0, 0, 0.3, 0.7], [0.5, 0.4, 0.1, 0, 0]])
    one, both = LevelTemperature(), LevelTemperature()
    one.update(logits[None], targets)
    both.update(torch.stack([logits, logits.flip(-1)]), targets)
    assert both.compute().item() == pytest.approx(one.compute().item(), rel=1e-4)


def test_without_pairs_it_changes_nothing() -> None:
    assert LevelTemperature().compute() == 1
