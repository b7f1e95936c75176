"""Frozen eyes say what the model with its trained parts will say of the same clips."""

import pytest
import torch

from datamodules.video import Sampling
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMM, LMMConfig
from vqa_lightning.lmm.frozen_eyes import frozen_eyes

TINY = EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=1)
SAMPLING = Sampling(segments=2, frames=4, window=48)


def config(**settings: object) -> LMMConfig:
    chosen = {"quality_tower": "efficientnet_lite0", "motion": "differences", "pictures": False}
    return LMMConfig(embedded=TINY, **{**chosen, "feature_cache": "memory", **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize("motion", ["differences", None])
def test_they_see_what_the_model_will_see(motion: str | None) -> None:
    clips = torch.rand(3, 8, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    look = frozen_eyes(config(motion=motion), SAMPLING)
    assert look is not None
    assert torch.equal(look(clips), LMM(config(motion=motion), SAMPLING).eyes(clips))


def test_making_them_draws_nothing() -> None:
    torch.manual_seed(0)
    frozen_eyes(config(), SAMPLING)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), drawn)


@pytest.mark.parametrize("settings", [{"pictures": True}, {"feature_cache": None}, {"motion": "r2plus1d_18"}])
def test_a_model_that_sees_otherwise_has_none(settings: dict[str, object]) -> None:
    assert frozen_eyes(config(**settings), SAMPLING) is None
