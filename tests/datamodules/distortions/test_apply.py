"""A batch in which each clip has a distortion of its own, and distortions that a user makes."""

import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from datamodules.distortions import DISTORTIONS, Distortion, apply, tone_curve
from datamodules.errors import InputError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips_of(*shape: int) -> Tensor:
    return torch.rand(shape, generator=seeded(7))


class TestApply:
    def test_smoke(self) -> None:
        names = [name for name in DISTORTIONS for _ in range(2)] + [""]
        levels = torch.tensor([1, 2] * len(DISTORTIONS) + [0])
        clips = (clips_of(len(names), 4, 3, 20, 28) * 255).byte()
        times = torch.arange(4.0).expand(len(names), 4) / 25
        result = apply(clips, names, levels, times=times, generator=seeded())
        assert result.dtype == torch.float32
        assert torch.equal(result, apply(clips, names, levels, times=times, generator=seeded()))
        assert torch.equal(result[-1], clips[-1] / 255)

    def test_exception(self) -> None:
        clips = clips_of(2, 2, 3, 8, 8)
        with pytest.raises(InputError, match=r"distortion must be one of banding, .*; got 'blurr'"):
            apply(clips, ["", "blurr"], torch.tensor([0, 1]))
        with pytest.raises(InputError, match="number of names must be 2, one for each clip; got 1"):
            apply(clips, ["resize"], torch.tensor([0, 1]))
        with pytest.raises(InputError, match="must be one integer for each of 2 clips"):
            apply(clips, ["resize"] * 2, torch.tensor([0.0, 1.0]))
        with pytest.raises(InputError, match=r"must be floats of shape \(B, T, C, H, W\)"):
            apply(clips[0], ["resize"] * 2, torch.tensor([0, 1]))

    def test_feature(self) -> None:
        """A mixed batch gives each sample what its simulator alone gives it."""
        names = [name for name in ("resize", "darken", "jpeg", "brighten") for _ in range(3)][::-1]
        levels = torch.tensor([1, 3, 5] * 4)
        clips = clips_of(len(names), 2, 3, 24, 24)
        result = apply(clips, names, levels)
        for sample, name in enumerate(names):
            alone = DISTORTIONS[name](clips[sample : sample + 1], levels[sample : sample + 1])
            assert torch.allclose(result[sample], alone[0], atol=1e-5)  # sums in another order

    def test_generators(self) -> None:
        """With a generator for each clip, a clip is what it is alone, bit for bit, drawn or not."""
        names = [name for name in DISTORTIONS for _ in range(2)]
        levels = torch.tensor([1, 3] * len(DISTORTIONS))
        clips = clips_of(len(names), 4, 3, 24, 24)
        whole = apply(clips, names, levels, generator=[seeded(sample) for sample in range(len(names))])
        for sample, name in enumerate(names):
            here = slice(sample, sample + 1)
            assert torch.equal(
                whole[here], apply(clips[here], [name], levels[here], generator=seeded(sample))
            )
        with pytest.raises(InputError, match="number of generators must be 28, one for each clip; got 3"):
            apply(clips, names, levels, generator=[seeded(sample) for sample in range(3)])

    def test_own_distortion(self) -> None:
        def fade(
            clips: Tensor, strength: Tensor, times: Tensor | None, generator: torch.Generator | None
        ) -> Tensor:
            return clips + strength[:, None, None, None, None]

        mine = Distortion("fade", fade, levels=(0.25, 2.0))
        harsher = replace(DISTORTIONS["resize"], levels=(32,))
        clips = torch.full((3, 1, 3, 64, 64), 0.5)
        result = apply(
            clips,
            ["fade", "fade", "resize"],
            torch.tensor([1, 2, 1]),
            distortions={"fade": mine, "resize": harsher},
        )
        assert result[:, 0, 0, 0, 0].tolist() == pytest.approx([0.75, 1.0, 0.5])

    def test_function(self) -> None:
        with pytest.raises(InputError, match=r"function of 'mine' must be made with def"):
            Distortion("mine", partial(tone_curve), levels=(1,))

    @pytest.mark.parametrize("levels", [(), (0.1, 0.0), (float("nan"),)])
    def test_strengths(self, levels: tuple[float, ...]) -> None:
        with pytest.raises(InputError, match=r"of 'mine' must be"):
            Distortion("mine", tone_curve, levels=levels)  # type: ignore[arg-type]

    @pytest.mark.slow
    @pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler")
    def test_inductor(self) -> None:
        """What torch.compile makes of simulators in turn reads of a clip nothing that it has written."""
        names = ["darken", "saturation", "contrast", "banding"]
        clips = (clips_of(4, 2, 3, 24, 32) * 255).byte()

        def pass_of(clips: Tensor) -> Tensor:
            return apply(clips, names, [2, 2, 2, 2])

        found = torch.compile(pass_of, fullgraph=True)(clips)
        assert torch.allclose(found, pass_of(clips), atol=1e-6)  # sums in another order

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_device(self) -> None:
        """The device gives the host's pixels, and draws from its own generator, autocast or not."""
        names = [name for name in DISTORTIONS for _ in range(3)]
        levels = torch.tensor([1, 2, 3] * len(DISTORTIONS))
        clips = clips_of(len(names), 4, 3, 64, 64)
        host = apply(clips, names, levels, generator=seeded())
        with torch.autocast("cuda", torch.bfloat16):
            device = apply(
                clips.cuda(), names, levels.cuda(), generator=torch.Generator("cuda").manual_seed(0)
            )
        for sample, name in enumerate(names):
            if name not in ("gaussian_noise", "jitter", "stutter", "frame_rate", "freeze"):
                # JPEG's rounding may flip a coefficient: few pixels, hence the mean
                assert (device[sample].cpu() - host[sample]).abs().mean() < 1e-3, name
