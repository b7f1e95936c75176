"""Simulators on any clip: level 0 changes nothing, each further level takes it further from its source."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from datamodules.codecs import CODECS
from datamodules.distortions import DISTORTIONS

LEAST = {"ladder": 96}
"""Pixels a side from which a simulator's order holds: rungs of a smaller frame have a few dozen pixels."""


@st.composite
def clips(draw: st.DrawFn, least: int) -> Tensor:
    """Moving patterns of all scales, coarse ones strong as in nature; uint8 (12, 3, H, W)."""
    height, width = (2 * draw(st.integers(least // 2, 64)) for _ in range(2))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    side = (height + 48, width + 48)
    canvas = torch.zeros(1, 3, *side)
    for scale in (1, 2, 4, 8, 16):
        small = [-(-one // scale) for one in side]
        octave = torch.randn(1, 3, *small, generator=generator)
        canvas += scale * torch.nn.functional.interpolate(octave, side, mode="bicubic")
    canvas = (0.5 + 0.12 * canvas / canvas.std()).clamp(0, 1)
    step = draw(st.integers(1, 4))
    shown = [canvas[0, :, t * step : t * step + height, t * step : t * step + width] for t in range(12)]
    return (torch.stack(shown) * 255).round().to(torch.uint8)


def distorted(clip: Tensor, name: str, level: int) -> Tensor:
    if name in CODECS:
        return CODECS[name](clip, level, 25.0) if level else clip
    times = torch.arange(len(clip))[None] / 25
    generator = torch.Generator().manual_seed(0)
    one = DISTORTIONS[name](clip[None] / 255, torch.tensor([level]), times=times, generator=generator)
    return (one[0] * 255).round().to(torch.uint8)


@pytest.mark.parametrize("name", [*DISTORTIONS, *CODECS])
@settings(max_examples=settings.default.max_examples // 5)
@given(data=st.data())
def test_each_level_is_further_from_the_source(name: str, data) -> None:
    clip = data.draw(clips(LEAST.get(name, 32)))
    levels = len((CODECS.get(name) or DISTORTIONS[name]).levels)
    shown = [distorted(clip, name, level) for level in range(levels + 1)]
    assert torch.equal(shown[0], clip)
    away = [(one.float() - clip.float()).square().mean().item() for one in shown]
    assert all(one.shape == clip.shape for one in shown)
    assert away == sorted(away), away
    assert away[1] > 0 or name == "gaussian_blur"  # whose mildest level, the paper's, is the identity
