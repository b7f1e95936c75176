from pathlib import Path

import pytest
import torch
from torch import Tensor

from datamodules.distortions import DISTORTIONS
from datamodules.labels import Request
from datamodules.teachers.artefacts import Artefacts, blockiness, exposure, noise, sharpness
from datamodules.video import Sampling, luma, probe, read_clip

DATA = Path(__file__).resolve().parents[3].parent / "shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the shared clips are not at {DATA}")
NATURAL = ("Seeking_30_480_1050.mp4", "foreman_cif.y4m", "park_joy_480x270_10f.y4m")


@pytest.fixture(scope="module", params=NATURAL)
def clip(request: pytest.FixtureRequest) -> Tensor:
    """One frame (1, 1, 3, H, W) of a natural video."""
    video = probe(DATA / "clips" / str(request.param))
    return read_clip(video, Sampling(frames=1, window=None)).frames[None] / 255


def ladder(clip: Tensor, name: str) -> Tensor:
    """Luma (levels + 1, H, W) of the clip at every level of a distortion."""
    simulator = DISTORTIONS[name]
    levels = torch.arange(len(simulator.levels) + 1)
    clips = clip.expand(len(levels), -1, -1, -1, -1)
    return luma(simulator(clips, levels, generator=torch.Generator().manual_seed(0))).flatten(0, 1)


@needs_data
class TestFaults:
    def test_jpeg_shows_its_grid_wherever_the_window_begins(self, clip: Tensor) -> None:
        for offset in (0, 3):
            hidden = blockiness(ladder(clip, "jpeg")[:, offset:, offset:])
            assert hidden[-1] < hidden[0]
            assert ((hidden > 0) & (hidden <= 1)).all()

    def test_sharpness_falls_with_blur(self, clip: Tensor) -> None:
        values = sharpness(ladder(clip, "gaussian_blur")[1:])  # the first level is the source to the eye
        assert (values.diff() < 0).all()
        assert ((values >= 0) & (values <= 1)).all()

    def test_sharpness_does_not_see_contrast(self, clip: Tensor) -> None:
        y = luma(clip)[0]
        assert torch.allclose(sharpness(y), sharpness(0.5 * y + 0.1), atol=1e-4)  # float32 differences

    def test_noise_rises_with_noise_and_not_with_blur(self, clip: Tensor) -> None:
        assert (noise(ladder(clip, "gaussian_noise")).diff() > 0).all()
        assert (noise(ladder(clip, "gaussian_blur")).diff() <= 1e-6).all()

    def test_every_fault_lowers_the_score(self, clip: Tensor) -> None:
        teacher = Artefacts()
        source = teacher.score(clip)
        for name in ("gaussian_blur", "gaussian_noise", "jpeg", "resize"):
            simulator = DISTORTIONS[name]
            worst = torch.tensor([len(simulator.levels)])
            distorted = simulator(clip, worst, generator=torch.Generator().manual_seed(0))
            assert teacher.score(distorted) < source, name


class TestNoise:
    @pytest.mark.parametrize("sigma", [1 / 255, 4 / 255, 16 / 255])
    def test_known_noise_on_a_plane_is_found(self, sigma: float) -> None:
        y = torch.linspace(0.3, 0.7, 256).expand(1, 256, 256)
        estimate = noise(y + sigma * torch.randn(1, 256, 256, generator=torch.Generator().manual_seed(0)))
        # The lowest decile of blocks of 256 samples lies some 10 % under their mean.
        assert estimate.item() == pytest.approx(sigma, rel=0.15)


class TestExposure:
    @pytest.mark.parametrize("name", ["darken", "brighten"])
    def test_it_falls_as_mid_tones_leave_the_middle(self, name: str) -> None:
        ramp = torch.linspace(0.1, 0.9, 64).expand(1, 1, 3, 64, 64)
        assert (exposure(ladder(ramp, name)).diff() < 0).all()

    def test_clipped_pixels_count_by_their_share(self) -> None:
        y = torch.full((1, 8, 8), 0.5)
        y[:, :2], y[:, 2:4] = 0, 1
        assert exposure(y).item() == pytest.approx(0.5)


class TestRange:
    @pytest.mark.parametrize("size", [(256, 320), (31, 17), (7, 9)])
    def test_any_frame_has_a_score_from_0_to_1(self, size: tuple[int, int]) -> None:
        generator = torch.Generator().manual_seed(0)
        clips = torch.cat([torch.zeros(1, 1, 3, *size), torch.ones(1, 1, 3, *size)])
        clips = torch.cat([clips, torch.rand(1, 1, 3, *size, generator=generator)])
        scores = Artefacts().score(clips)
        assert scores.shape == (3,)
        assert ((scores >= 0) & (scores <= 1)).all()


@needs_data
def test_the_known_order_of_carphone() -> None:
    pair = [probe(DATA / "clips" / f"carphone_{name}.mp4") for name in ("pristine", "distorted")]
    pristine, distorted = Artefacts().annotate([Request(video) for video in pair])
    assert pristine.score > distorted.score
