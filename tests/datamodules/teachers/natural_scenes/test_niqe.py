from pathlib import Path

import av
import numpy as np
import pytest
import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

from datamodules.distortions import DISTORTIONS
from datamodules.errors import InputError
from datamodules.labels import Request
from datamodules.teachers.natural_scenes.distributions import asymmetric_gaussian, moments
from datamodules.teachers.natural_scenes.niqe import NIQE, PUBLISHED
from datamodules.teachers.natural_scenes.niqe_features import patch_features
from datamodules.teachers.natural_scenes.normalising import halve
from datamodules.teachers.natural_scenes.pristine import LEAST_VIDEOS, fit_pristine, load_pristine, niqe
from datamodules.video import Sampling, luma, probe, read_clip

DATA = Path(__file__).resolve().parents[4].parent / "shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the shared references are not at {DATA}")
MODEL = DATA / "reference/niqe/niqe_image_params.mat"


@pytest.fixture(scope="module")
def baboon() -> Tensor:
    with av.open(str(DATA / "reference/niqe/baboon.png")) as container:
        image = next(container.decode(video=0)).to_ndarray(format="rgb24")
    return torch.from_numpy(image).permute(2, 0, 1).double()


@needs_data
class TestReference:
    def test_luma(self, baboon: Tensor) -> None:
        # Studio-range BT.601 luma, rounded to code values: 16 to 235, the convention of the reference figure.
        red, green, blue = baboon / 255
        y = (16 + 65.481 * red + 128.553 * green + 24.966 * blue).round()
        score = niqe(y[None], load_pristine(MODEL)).item()
        assert score == pytest.approx(5.7296, abs=1e-4)  # the figure's own digits

    def test_gray(self, baboon: Tensor) -> None:
        score = niqe(luma(baboon).round()[None], load_pristine(MODEL)).item()
        assert score == pytest.approx(5.7315, abs=1e-4)

    def test_teacher_turns_the_sign(self, baboon: Tensor) -> None:
        clips = (baboon / 255).float()[None, None]
        assert NIQE().score(clips).item() == pytest.approx(-5.7315, abs=1e-4)

    def test_the_model_that_comes_along_is_that_of_both_files(self) -> None:
        for file in (MODEL, MODEL.with_name("niqe_pris_params.npz")):
            teacher = NIQE(str(file))
            assert teacher.model is not None
            assert all(
                torch.equal(a, b) for a, b in zip(load_pristine(PUBLISHED), teacher.model, strict=True)
            )
            assert teacher.fingerprint == NIQE().fingerprint

    def test_the_notice_comes_along(self) -> None:
        notice = MODEL.with_name("niqe_model_NOTICE.txt").read_text()
        assert PUBLISHED.with_name("niqe_NOTICE.txt").read_text() == notice


class TestParts:
    @pytest.mark.parametrize("shape", [0.5, 1.0, 2.0, 4.0])
    def test_fit_recovers_known_distributions(self, shape: float) -> None:
        rng = np.random.default_rng(0)
        # |x / b|^a of a generalised Gaussian is gamma distributed with shape 1 / a; its sides differ.
        size = rng.gamma(1 / shape, size=(4, 300, 300)) ** (1 / shape)
        left = rng.random(size.shape) < 2 / 5  # a side's share of the mass is its share of the scales
        values = torch.from_numpy(np.where(left, -2 * size, 3 * size))
        found = asymmetric_gaussian(moments(values.float()))
        fitted, lower, upper = found.shape[0], found.left_scale[0], found.right_scale[0]
        # 90 000 samples: about three standard errors of a moment fit.
        assert fitted.numpy() == pytest.approx(shape, rel=0.03)
        assert lower.numpy() == pytest.approx(2, rel=0.05)
        assert upper.numpy() == pytest.approx(3, rel=0.05)

    def test_values_on_one_side_have_no_shape(self) -> None:
        values = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(0)) + 0.1
        values[2] = -values[2]
        values[1, 0, 0] = -0.1
        assert asymmetric_gaussian(moments(values)).shape[0].isfinite().tolist() == [False, True, False]

    def test_halving_keeps_constants_and_ramps(self) -> None:
        ramp = torch.arange(64, dtype=torch.float64)[None, None].expand(1, 32, 64)
        halved = halve(ramp)
        assert halved.shape == (1, 16, 32)
        # A cubic kernel reproduces lines, away from the mirrored border: sample i lies between 2i and 2i + 1.
        assert torch.allclose(halved[0, 5, 2:-2], torch.arange(32, dtype=torch.float64)[2:-2] * 2 + 0.5)
        assert torch.allclose(halve(torch.full((1, 8, 8), 7.0).double()), torch.full((1, 4, 4), 7.0).double())

    def test_features_of_a_batch_are_those_of_its_frames(self) -> None:
        frames = torch.rand(3, 200, 300, generator=torch.Generator().manual_seed(0)) * 255
        features = patch_features(frames)
        assert features.shape == (3, 6, 36)
        assert torch.equal(features[1], patch_features(frames[1:2])[0])

    def test_flat_patches_are_left_out_and_flat_frames_say_nothing(self) -> None:
        frames = torch.rand(2, 192, 192, generator=torch.Generator().manual_seed(0)) * 255
        model = fit_pristine([frames])
        frames[0, :96] = 0
        frames[1] = 16
        scores = niqe(frames, model)
        assert scores[0].isfinite()
        assert scores[1].isnan()

    @pytest.mark.parametrize("size", [(40, 64), (96, 96), (31, 31)])
    def test_frames_down_to_a_few_pixels_have_a_score(self, size: tuple[int, int]) -> None:
        generator = torch.Generator().manual_seed(0)
        model = fit_pristine([torch.rand(2, 192, 192, generator=generator) * 255])
        assert niqe(torch.rand(1, *size, generator=generator) * 255, model).isfinite().all()


@needs_data
class TestPristineFromVideos:
    def test_blur_and_noise_lie_farther_from_a_model_of_the_train_split(self) -> None:
        clips = DATA / "clips"
        teacher = NIQE("fitted", segments=2)
        teacher.prepare([probe(clips / name) for name in ("park_joy_480x270_10f.y4m", "foreman_cif.y4m")])
        source = probe(clips / "Seeking_30_480_1050.mp4")
        versions = [
            Request(source),
            Request(source, DISTORTIONS["gaussian_blur"], 4),
            Request(source, DISTORTIONS["gaussian_noise"], 5),
        ]
        best, blurred, noisy = (row.score for row in teacher.annotate(versions))
        assert best > blurred
        assert best > noisy

    def test_blurred_videos_are_left_out_of_the_model(self) -> None:
        clips = [probe(DATA / "clips" / name) for name in ("foreman_cif.y4m", "park_joy_480x270_10f.y4m")]
        sharp = [luma(read_clip(clip, Sampling(frames=1, window=None)).frames.float()) for clip in clips]
        blurred = [gaussian_blur2d(y[:, None], 9, (2.0, 2.0))[:, 0] for y in sharp]
        # Each clip counts as many videos, so that the least number does not decide.
        mixed = fit_pristine((sharp + blurred) * LEAST_VIDEOS, sharpest=0.5)
        expected = fit_pristine(sharp * LEAST_VIDEOS)
        assert all(torch.allclose(a, b) for a, b in zip(mixed, expected, strict=True))

    def test_the_model_is_fitted_alike_twice(self) -> None:
        models = []
        for _ in range(2):
            teacher = NIQE(str(DATA / "clips" / "foreman_cif.y4m"), segments=2)
            teacher.fit(workers=0)
            assert teacher.model is not None
            models.append(teacher.model)
        assert all(torch.equal(a, b) for a, b in zip(*models, strict=True))


class TestBadInput:
    def test_no_model(self) -> None:
        with pytest.raises(InputError, match="no pristine model"):
            _ = NIQE("fitted").fingerprint
        with pytest.raises(InputError, match="no pristine model"):
            NIQE("fitted").score(torch.rand(1, 1, 3, 96, 96))

    def test_a_path_without_videos(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=str(tmp_path)):
            NIQE(str(tmp_path))

    def test_files_that_are_no_model(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "other.npz", weights=np.zeros(3))
        with pytest.raises(InputError, match=r"must hold pop_mu with 36 values .*; got weights"):
            NIQE(str(tmp_path / "other.npz"))
        (tmp_path / "broken.mat").write_bytes(b"nothing")
        with pytest.raises(InputError, match=r"broken\.mat cannot be read"):
            NIQE(str(tmp_path / "broken.mat"))
        with pytest.raises(InputError, match=r"absent\.npz cannot be read"):
            NIQE(str(tmp_path / "absent.npz"))

    def test_nothing_but_flat_frames(self) -> None:
        with pytest.raises(InputError, match="2 or more patches with texture; got 0: "):
            fit_pristine([torch.zeros(2, 192, 192)])
