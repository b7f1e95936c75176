"""Distortions on native windows of real clips: what each does, and that severity rises with the level."""

import io
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from kornia.filters import gaussian_blur2d
from PIL import Image
from scipy.interpolate import PchipInterpolator
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure as ssim

from datamodules.decoding import Sampling, probe, read_clip
from datamodules.distortions import DISTORTIONS, Distortion, apply, tone_curve
from datamodules.errors import InputError

CLIPS = Path(__file__).resolve().parents[2].parent / "shared/data/clips"


@pytest.fixture(scope="module")
def natural() -> dict[str, Tensor]:
    """Clips (4, 3, 96, 96) of four consecutive frames by file name: the middle of every natural clip."""
    paths = sorted(CLIPS.glob("*")) if CLIPS.is_dir() else []
    if not paths:
        pytest.skip(f"there are no clips in {CLIPS}")
    sampling = Sampling(segments=1, frames=4, window=96)
    return {path.name: read_clip(probe(path), sampling).frames.float() / 255 for path in paths}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips_of(*shape: int) -> Tensor:
    return torch.rand(shape, generator=seeded(7))


def similarity_of(version: Tensor, clip: Tensor) -> float:
    value = ssim(version, clip, data_range=1.0)
    assert isinstance(value, Tensor)
    return value.item()


def all_levels(distortion: Distortion, clip: Tensor, **arguments: Tensor) -> Tensor:
    """The clip at level 0, 1, ..., one batch."""
    level = torch.arange(len(distortion.levels) + 1)
    clips = clip.expand(len(level), *clip.shape)
    return distortion(clips, level, generator=seeded(), **arguments)


class Operator:
    """What holds for every simulator; a subclass names it and adds its feature."""

    name: str
    identities: int = 0
    """Number of mildest levels that METHOD's own values make an identity."""

    @property
    def distortion(self) -> Distortion:
        return DISTORTIONS[self.name]

    def test_smoke(self) -> None:
        clips = clips_of(len(self.distortion.levels) + 1, 3, 3, 24, 32)
        level = torch.arange(len(clips))
        before = clips.clone()
        result = self.distortion(clips, level, generator=seeded())
        assert result.dtype == clips.dtype
        assert result.min() >= 0
        assert result.max() <= 1
        assert torch.equal(result[0], clips[0])  # the source, bit for bit
        assert torch.equal(clips, before)
        again = self.distortion(clips, level, generator=seeded())
        assert torch.equal(result, again)
        assert not torch.equal(result[-1], clips[-1])

    @pytest.mark.parametrize("wrong", [-1, 99])
    def test_exception(self, wrong: int) -> None:
        with pytest.raises(InputError, match=f"{wrong} of '{self.name}' is out of range: give 0"):
            self.distortion(clips_of(2, 2, 3, 16, 16), torch.tensor([0, wrong]), generator=seeded())

    @pytest.mark.parametrize("shape", [(1, 1, 3, 16, 16), (2, 4, 3, 33, 47), (3, 2, 3, 9, 5)])
    def test_cardinality(self, shape: tuple[int, ...]) -> None:
        for dtype in (torch.float16, torch.float32, torch.float64):
            clips = clips_of(*shape).to(dtype)
            level = torch.full(shape[:1], len(self.distortion.levels))
            result = self.distortion(clips, level, generator=seeded())
            assert result.shape == shape
            assert result.dtype == dtype
            assert result.isfinite().all()

    def test_severity_order(self, natural: dict[str, Tensor]) -> None:
        for clip_name, clip in natural.items():
            similarity = [similarity_of(version, clip) for version in all_levels(self.distortion, clip)]
            for level in range(1, self.identities + 1):
                assert similarity[level] == pytest.approx(similarity[0], abs=1e-6), clip_name
            assert all(a > b for a, b in pairwise(similarity[self.identities :])), (clip_name, similarity)


class TestResize(Operator):
    name = "resize"

    def test_feature(self) -> None:
        stripes = torch.zeros(1, 1, 3, 64, 64)
        stripes[..., ::2] = 1  # the finest detail there is
        for level in range(1, 6):
            flat = self.distortion(stripes, torch.tensor([level]))[..., 8:-8]
            # antialiasing leaves the mean and no alias; bicubic's stop band leaks under 10 % at factor 2
            assert flat.sub(0.5).abs().max() < 0.1
        constant = torch.full((1, 1, 3, 30, 50), 0.3)
        assert torch.allclose(self.distortion(constant, torch.tensor([3])), constant, atol=1e-6)  # rounding


class TestGaussianBlur(Operator):
    name = "gaussian_blur"
    identities = 1  # sigma 0.1

    def test_feature(self) -> None:
        clips = clips_of(5, 2, 3, 48, 40)
        together = self.distortion(clips, torch.arange(1, 6))
        for sample, sigma in enumerate(self.distortion.levels):
            alone = gaussian_blur2d(clips[sample], 47 if sigma > 4 else 41, (sigma, sigma))
            # a kernel cut at four deviations lacks 6e-5 of its weight
            assert torch.allclose(together[sample], alone.clamp(0, 1), atol=2e-4)


class TestGaussianNoise(Operator):
    name = "gaussian_noise"

    def test_exception(self) -> None:  # type: ignore[override]
        clips = torch.full((2, 2, 3, 16, 16), 0.5)
        with pytest.raises(InputError, match="'gaussian_noise' draws at random and got no generator"):
            self.distortion(clips, torch.tensor([1, 0]))
        assert torch.equal(self.distortion(clips, torch.tensor([0, 0])), clips)  # nothing to draw

    def test_feature(self) -> None:
        grey = torch.full((5, 4, 3, 64, 64), 0.5)
        noise = self.distortion(grey, torch.arange(1, 6), generator=seeded()) - 0.5
        for sample, variance in enumerate(self.distortion.levels):
            # 49152 draws: the estimate's relative deviation is sqrt(2 / 49152) = 0.6 %
            assert float(noise[sample].var()) == pytest.approx(variance, rel=0.03)
        rows = noise[-1].flatten(2).flatten(0, 1)  # frames x channels
        off_diagonal = torch.corrcoef(rows) - torch.eye(len(rows))
        assert off_diagonal.abs().max() < 0.08  # independent: 4096 draws a row, five deviations


class ToneCurve(Operator):
    sign: float

    def test_feature(self) -> None:
        ramp = torch.linspace(0, 1, 1001).view(1, 1, 1, 1, -1)
        graded = all_levels(self.distortion, ramp[0])[1:].flatten(1)
        for curve, strength in zip(graded, self.distortion.levels, strict=True):
            middle = 0.5 + self.sign * 0.5 * strength
            assert curve[0] == 0
            assert curve[-1] == pytest.approx(1, abs=1e-6)
            assert curve[500] == pytest.approx(min(1, middle), abs=1e-6)
            assert (curve.diff() >= -1e-6).all()  # monotone to float32 rounding
            reference = PchipInterpolator([0, 0.5, 1], [0, middle, 1])(ramp.flatten().double().numpy())
            assert torch.allclose(curve.double(), torch.from_numpy(reference).clamp(0, 1), atol=1e-6)


class TestDarken(ToneCurve):
    name = "darken"
    sign = -1


class TestBrighten(ToneCurve):
    name = "brighten"
    sign = 1


class TestJpeg(Operator):
    name = "jpeg"

    def test_feature(self, natural: dict[str, Tensor]) -> None:
        for clip_name in ("carphone_pristine.mp4", "vsfa_test.mp4"):
            clip = natural[clip_name][:, :, :87, :91]  # not a multiple of 16
            graded = all_levels(self.distortion, clip)
            for quality, version in zip(self.distortion.levels, graded[1:], strict=True):
                stored = io.BytesIO()
                pixels = clip[0].mul(255).round().byte().permute(1, 2, 0).numpy()
                Image.fromarray(pixels).save(stored, "jpeg", quality=int(quality))
                libjpeg = torch.from_numpy(np.array(Image.open(stored))).permute(2, 0, 1)
                error = (version[0] * 255 - libjpeg).abs().mean()
                # a coefficient half-way between two steps may fall to either side: under one grey level
                assert error < 1, (clip_name, quality)


class TestJitter(Operator):
    name = "jitter"

    def test_exception(self) -> None:  # type: ignore[override]
        with pytest.raises(InputError, match="'jitter' draws at random and got no generator"):
            self.distortion(clips_of(1, 2, 3, 32, 32), torch.tensor([1]))

    def test_feature(self) -> None:
        # a still ramp turns shifts into values: the centre of a frame tells where the camera looked
        ramp = torch.linspace(0, 1, 49).expand(1, 4, 3, 49, 49)
        clips = torch.cat([ramp, ramp.mT]).repeat(100, 1, 1, 1, 1)
        for level, pixels in enumerate(self.distortion.levels, 1):
            shaken = self.distortion(clips, torch.full((200,), level), generator=seeded(level))
            shift = (shaken[:, :, 0, 24, 24] - 0.5) * 48
            assert shift.abs().max() <= pixels * 1.001  # float32 rounding
            assert shift.abs().max() > 0.9 * pixels
            assert (
                shift.mean().abs() < 0.1 * pixels
            )  # 1600 draws of deviation below 0.7 pixels: five deviations

    def test_severity_order(self, natural: dict[str, Tensor]) -> None:
        """SSIM to the source falls, and a still scene moves more from frame to frame, in every draw."""
        super().test_severity_order(natural)
        for clip_name, clip in natural.items():
            still = clip[:1].expand(clip.shape)
            for seed in range(5):
                clips = still.expand(4, *still.shape)
                shaken = self.distortion(clips, torch.arange(4), generator=seeded(seed))
                motion = shaken.diff(dim=1).abs().mean(dim=(1, 2, 3, 4))
                assert (motion.diff() > 0).all(), (clip_name, seed, motion)


class TestStutter(Operator):
    name = "stutter"

    def test_smoke(self) -> None:
        clips = clips_of(4, 4, 3, 8, 8)
        result = self.distortion(clips, torch.arange(4), generator=seeded())
        assert torch.equal(result[0], clips[0])
        assert torch.equal(result, self.distortion(clips, torch.arange(4), generator=seeded()))

    def test_exception(self) -> None:  # type: ignore[override]
        clips = clips_of(1, 4, 3, 8, 8)
        with pytest.raises(InputError, match="'stutter' draws at random and got no generator"):
            self.distortion(clips, torch.tensor([1]))
        with pytest.raises(InputError, match=r"Times have the shape \(1, 3\)"):
            self.distortion(clips, torch.tensor([1]), times=torch.zeros(1, 3), generator=seeded())

    def test_feature(self) -> None:
        """Frames numbered by value: a repeated one shows the number before it, and none crosses a gap."""
        clips = torch.arange(8.0).div(8).view(1, 8, 1, 1, 1).expand(300, 8, 3, 2, 2)
        seconds = torch.tensor([0, 1, 2, 3, 30, 31, 32, 33]) / 30
        for level, repeats in ((1, 2), (2, 3), (3, 5)):  # of six that have a frame before them
            result = self.distortion(
                clips, torch.full((300,), level), times=seconds.expand(300, 8), generator=seeded()
            )
            shown = (result[:, :, 0, 0, 0] * 8).round().long()
            repeated = shown.diff(dim=1) == 0
            assert (repeated.sum(dim=1) == repeats).all()
            assert (shown[:, 0] == 0).all()
            assert (shown[:, 4] == 4).all()
            own = shown == torch.arange(8)
            assert (own[:, 1:] | repeated).all()  # each frame is itself or the one shown before
            share = repeated[:, [0, 1, 2, 4, 5, 6]].float().mean(dim=0)
            assert (share - repeats / 6).abs().max() < 0.14  # all alike: five deviations of 300 draws

    def test_severity_order(self, natural: dict[str, Tensor]) -> None:
        """One, two and three of four frames repeat in every draw, whatever pixels say."""
        for clip_name, clip in natural.items():
            for seed in range(5):
                level = torch.arange(4)
                graded = self.distortion(clip.expand(4, *clip.shape), level, generator=seeded(seed))
                repeats = (graded.diff(dim=1).abs().amax(dim=(2, 3, 4)) == 0).sum(dim=1)
                assert repeats.tolist() == [0, 1, 2, 3], (clip_name, seed)


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
        with pytest.raises(InputError, match="no distortion 'blurr': choose from brighten, "):
            apply(clips, ["", "blurr"], torch.tensor([0, 1]))
        with pytest.raises(InputError, match="1 names of distortions came with 2 clips"):
            apply(clips, ["resize"], torch.tensor([0, 1]))
        with pytest.raises(InputError, match="give one integer for each of 2 clips"):
            apply(clips, ["resize"] * 2, torch.tensor([0.0, 1.0]))
        with pytest.raises(InputError, match=r"give floats of shape \(B, T, C, H, W\)"):
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

    @pytest.mark.parametrize("levels", [(), (0.1, 0.0), (float("nan"),)])
    def test_strengths(self, levels: tuple[float, ...]) -> None:
        with pytest.raises(InputError, match=r"'mine'.*: give"):
            Distortion("mine", tone_curve, levels=levels)  # type: ignore[arg-type]

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
            if name not in ("gaussian_noise", "jitter", "stutter"):
                # JPEG's rounding may flip a coefficient: few pixels, hence the mean
                assert (device[sample].cpu() - host[sample]).abs().mean() < 1e-3, name
