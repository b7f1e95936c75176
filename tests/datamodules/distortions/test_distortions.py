"""What each distortion does to pixels and frames; that severity rises is in test_severity_order.py."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from kornia.color import rgb_to_grayscale, rgb_to_ycbcr
from kornia.filters import gaussian_blur2d
from PIL import Image
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from datamodules.distortions import DISTORTIONS, Distortion
from datamodules.distortions.compression import BANDS
from datamodules.errors import InputError
from datamodules.video import Sampling, probe, read_clip

CLIPS = Path(__file__).resolve().parents[3].parent / "shared/data/clips"


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


TWO_SEGMENTS = torch.tensor([0, 1, 2, 3, 30, 31, 32, 33]) / 30
"""Seconds of eight frames: two segments of four, with a gap between."""


def clips_of(*shape: int) -> Tensor:
    return torch.rand(shape, generator=seeded(7))


def all_levels(distortion: Distortion, clip: Tensor, **arguments: Tensor) -> Tensor:
    """The clip at level 0, 1, ..., one batch."""
    level = torch.arange(len(distortion.levels) + 1)
    clips = clip.expand(len(level), *clip.shape)
    return distortion(clips, level, generator=seeded(), **arguments)


class Operator:
    """What holds for every simulator; a subclass names it and adds its feature."""

    name: str

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
        with pytest.raises(InputError, match=f"level of '{self.name}' must be from 0 to .*; got {wrong}"):
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
        with pytest.raises(InputError, match="'gaussian_noise' draws at random: its generator must be given"):
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
        with pytest.raises(InputError, match="'jitter' draws at random: its generator must be given"):
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


class TestMotionBlur(Operator):
    name = "motion_blur"

    def test_feature(self) -> None:
        """A line across the motion becomes a bar of the length; a line along it stays."""
        line = torch.zeros(1, 3, 80, 81)
        line[..., 40] = 1
        across = all_levels(self.distortion, line)[1:]
        along = all_levels(self.distortion, line.mT)[1:]
        for bar, same, length in zip(across, along, self.distortion.levels, strict=True):
            row = bar[0, 0, 40]
            assert row.sum() == pytest.approx(1, abs=1e-5)  # float32 sums
            assert row.max() == pytest.approx(1 / length, rel=1e-5)
            assert 0 <= (row > 0).sum() - length <= 1  # an even length ends in the middle of two pixels
            assert torch.allclose(same, line.mT, atol=1e-6)
        clips = clips_of(4, 2, 3, 20, 40)
        together = self.distortion(clips, torch.arange(1, 5))
        for sample in range(4):
            alone = self.distortion(clips[sample : sample + 1], torch.tensor([sample + 1]))
            assert torch.allclose(together[sample], alone[0], atol=1e-6)


class TestContrast(Operator):
    name = "contrast"

    def test_feature(self) -> None:
        clip = clips_of(3, 3, 24, 24)
        for version, strength in zip(
            all_levels(self.distortion, clip)[1:], self.distortion.levels, strict=True
        ):
            assert rgb_to_grayscale(version).mean() == pytest.approx(float(rgb_to_grayscale(clip).mean()))
            assert float(version.std() / clip.std()) == pytest.approx(1 - strength, rel=0.01)  # grey by luma
            assert torch.allclose(version.diff(dim=-1), clip.diff(dim=-1) * (1 - strength), atol=1e-6)


class TestSaturation(Operator):
    name = "saturation"

    def test_feature(self) -> None:
        clip = clips_of(3, 3, 24, 24)
        source = rgb_to_ycbcr(clip)
        for version, strength in zip(
            all_levels(self.distortion, clip)[1:], self.distortion.levels, strict=True
        ):
            converted = rgb_to_ycbcr(version)
            assert torch.allclose(converted[:, 0], source[:, 0], atol=1e-5)
            # kornia's chroma factors have three digits
            assert torch.allclose(converted[:, 1:] - 0.5, (source[:, 1:] - 0.5) * (1 - strength), atol=1e-3)


class TestBanding(Operator):
    name = "banding"

    def test_feature(self) -> None:
        ramp = torch.linspace(0, 1, 1201).expand(1, 3, 1, 1201)
        graded = all_levels(self.distortion, ramp)[1:, 0, 0, 0]
        assert len(set(graded[-1].mul(BANDS).round().tolist())) == BANDS + 1
        assert torch.allclose(graded[-1], graded[-1].mul(BANDS).round() / BANDS, atol=1e-6)
        for curve, strength in zip(graded, self.distortion.levels, strict=True):
            jumps = curve.diff() > strength / BANDS / 2
            assert jumps.sum() == BANDS
            # beside the jump the ramp itself rises by 1 / 1200
            assert torch.allclose(curve.diff()[jumps], torch.tensor(strength / BANDS), atol=1e-3)
        coloured = 0.3 + 0.4 * clips_of(2, 3, 16, 16)  # far from the ends, where a value would be clipped
        changed = all_levels(self.distortion, coloured)[1:] - coloured
        assert torch.allclose(changed, changed[:, :, :1].expand_as(changed), atol=1e-6)  # grey: no chroma


class Temporal(Operator):
    """What holds for simulators that choose which frame is shown: frames are numbered by their value."""

    def shown(self, seconds: Tensor, level: int, samples: int = 300) -> Tensor:
        """The number of the frame that is shown at each place, (samples, T)."""
        count = len(seconds)
        clips = torch.arange(count).div(count).view(1, count, 1, 1, 1).expand(samples, count, 3, 2, 2)
        times = seconds.expand(samples, count)
        result = self.distortion(clips, torch.full((samples,), level), times=times, generator=seeded(level))
        return (result[:, :, 0, 0, 0] * count).round().long()

    def test_exception(self) -> None:  # type: ignore[override]
        clips = clips_of(1, 4, 3, 8, 8)
        with pytest.raises(InputError, match=f"'{self.name}' draws at random: its generator must be given"):
            self.distortion(clips, torch.tensor([1]))
        with pytest.raises(InputError, match=r"Times must be seconds of shape \(1, 4\); got \(1, 3\)"):
            self.distortion(clips, torch.tensor([1]), times=torch.zeros(1, 3), generator=seeded())

    def test_segments(self) -> None:
        """Nothing is copied across a gap, and without times a clip is one segment."""
        for level in range(1, len(self.distortion.levels) + 1):
            shown = self.shown(TWO_SEGMENTS, level)
            assert (shown[:, 0] == 0).all()
            assert (shown[:, 4] == 4).all()
            repeated = shown.diff(dim=1) == 0
            own = shown == torch.arange(8)
            assert (own[:, 1:] | repeated).all()  # each frame is itself or the one shown before
            clips = clips_of(20, 8, 3, 2, 2)
            levels = torch.full((20,), level)
            timed = self.distortion(
                clips, levels, times=torch.arange(8.0).expand(20, 8) / 30, generator=seeded()
            )
            assert torch.equal(self.distortion(clips, levels, generator=seeded()), timed)


class TestStutter(Temporal):
    name = "stutter"

    def test_feature(self) -> None:
        for level, repeats in ((1, 2), (2, 3), (3, 5)):  # of six that have a frame before them
            repeated = self.shown(TWO_SEGMENTS, level).diff(dim=1) == 0
            assert (repeated.sum(dim=1) == repeats).all()
            share = repeated[:, [0, 1, 2, 4, 5, 6]].float().mean(dim=0)
            assert (share - repeats / 6).abs().max() < 0.14  # all alike: five deviations of 300 draws


class TestFrameRate(Temporal):
    name = "frame_rate"

    def test_feature(self) -> None:
        """The fewest new pictures that any phase shows, evenly spaced, at every phase that shows so few."""
        for level, factor in enumerate(self.distortion.levels, 1):
            for count in (4, 8, 16):
                shown = self.shown(torch.arange(count) / 25, level)
                anew = shown.diff(dim=1) > 0
                assert (anew.sum(dim=1) == (count - 1) // factor).all()
                for row in torch.unique(shown, dim=0):
                    spacing = torch.unique(row).diff()[1:]  # from the second on: the first hold began before
                    assert ((spacing == int(factor)) | (spacing == math.ceil(factor))).all()
        assert len(torch.unique(self.shown(torch.arange(4) / 25, 1), dim=0)) > 1

    def test_dropped_frames(self) -> None:
        """A frame that is missing from the file counts as time that passed."""
        seconds = torch.tensor([0, 1, 2, 3.4, 4.4, 5.4, 6.4]) / 30  # under 1.5 steps: no new segment
        rows = self.shown(seconds, 2)  # a third of the rate
        assert (rows[:, 1:3] == 0).any()
        assert (rows.diff(dim=1) > 0).sum(dim=1).max() <= 2


class TestFreeze(Temporal):
    name = "freeze"

    def test_feature(self) -> None:
        """One stretch of each segment, anywhere, and after it the picture is where it would have been."""
        for level, frozen in ((1, 1), (2, 2), (3, 3)):
            for part in self.shown(TWO_SEGMENTS, level).sub(torch.tensor([0] * 4 + [4] * 4)).chunk(2, dim=1):
                lag = torch.arange(4) - part
                assert ((lag > 0).sum(dim=1) == frozen).all()
                assert lag.amax(dim=1).eq(frozen).all()  # in one piece: 1, 2, ..., frozen
                assert (lag > 0).any(dim=0)[1:].all()  # at every place in some draw
