import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.ndimage import correlate
from scipy.special import gamma

from datamodules.distortions import DISTORTIONS
from datamodules.labels import Request
from datamodules.teachers.natural_scenes.brisque import (
    BRISQUE,
    PUBLISHED,
    brisque,
    brisque_features,
    published_machine,
)
from datamodules.video import Sampling, luma, probe, read_clip

DATA = Path(__file__).resolve().parents[4].parent / "shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the shared references are not at {DATA}")
REFERENCE = DATA / "reference/brisque"
NATURAL = ("Seeking_30_480_1050.mp4", "foreman_cif.y4m", "park_joy_480x270_10f.y4m")

Floats = npt.NDArray[np.float64]
SHAPES = np.arange(0.2, 10.0005, 0.001)
RATIOS = gamma(2 / SHAPES) ** 2 / (gamma(1 / SHAPES) * gamma(3 / SHAPES))


def shrink(picture: Floats) -> Floats:
    """MATLAB's imresize(picture, 0.5), one row of weights for each line of the result."""
    for _ in range(2):
        length = len(picture)
        rows = np.zeros((-(-length // 2), length))
        for out in range(len(rows)):
            centre = 2 * out + 0.5
            for tap in range(2 * out - 3, 2 * out + 5):
                d = abs(centre - tap) / 2
                cubic = 1.5 * d**3 - 2.5 * d**2 + 1 if d <= 1 else -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
                mirrored = -1 - tap if tap < 0 else min(tap, 2 * length - 1 - tap)
                rows[out, mirrored] += cubic
        picture = (rows / rows.sum(axis=1, keepdims=True) @ picture).T
    return picture


def plain_features(picture: Floats) -> list[float]:
    """The 36 features of one picture, as the paper defines them, in a loop."""
    axis = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
    window = np.outer(axis, axis) / axis.sum() ** 2
    features: list[float] = []
    for _ in range(2):
        mean = correlate(picture, window, mode="constant")
        deviation = np.sqrt(np.abs(correlate(picture**2, window, mode="constant") - mean**2))
        field = (picture - mean) / (deviation + 1)
        field[np.abs(picture - mean) < 1e-6] = 0  # a flat area has no sides, however its sum was rounded
        ratio = np.mean(field**2) / np.mean(np.abs(field)) ** 2
        features += [SHAPES[np.abs(1 / RATIOS - ratio).argmin()], np.mean(field**2)]
        for shift in ((0, 1), (1, 0), (1, 1), (-1, 1)):
            product = field * np.roll(field, shift, axis=(0, 1))
            left, right = np.mean(product[product < 0] ** 2), np.mean(product[product > 0] ** 2)
            balance = np.sqrt(left / right)
            ratio = np.mean(np.abs(product)) ** 2 / np.mean(product**2)
            ratio *= (balance**3 + 1) * (balance + 1) / (balance**2 + 1) ** 2
            shape = SHAPES[np.abs(RATIOS - ratio).argmin()]
            scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
            offset = (np.sqrt(right) - np.sqrt(left)) * gamma(2 / shape) / gamma(1 / shape) * scale
            features += [shape, offset, left, right]
        picture = shrink(picture)
    return features


def frame(name: str) -> torch.Tensor:
    """Luma (1, H, W) of the middle of a clip, code values."""
    clip = read_clip(probe(DATA / "clips" / name), Sampling(frames=1, window=None))
    return luma(clip.frames.float()).round().view(1, *clip.frames.shape[-2:])


@needs_data
class TestReference:
    @pytest.mark.parametrize("odd", [False, True])
    def test_features_are_those_of_a_plain_computation(self, odd: bool) -> None:
        y = frame("foreman_cif.y4m")
        y = y[:, :201, :237] if odd else y
        expected = np.array(plain_features(y[0].double().numpy()))
        # Shapes lie on a grid of .001, where rounding may choose the neighbour, and move the mean with them.
        # The rest is single precision: 1e-7 of numbers about .1, summed over 50 000 pixels.
        tolerance = np.where(np.isin(np.arange(36) % 18, (0, 2, 6, 10, 14)), 0.0011, 2e-6)
        tolerance[[index for index in range(36) if index % 18 in (3, 7, 11, 15)]] = 1e-4
        assert (np.abs(brisque_features(y)[0].numpy() - expected) <= tolerance).all()

    def test_the_machine_is_that_of_the_published_file(self) -> None:
        head, body = (REFERENCE / "svm.txt").read_text().split("SV\n", 1)
        settings = dict(line.split(maxsplit=1) for line in head.splitlines())
        machine = published_machine(torch.device("cpu"))
        assert machine.gamma.item() == float(settings["gamma"])
        assert machine.rho.item() == float(settings["rho"])
        assert len(machine.coefficients) == int(settings["total_sv"])
        for row, (vector, weight) in zip(
            body.splitlines(),
            zip(machine.support_vectors.numpy(), machine.coefficients.numpy(), strict=True),
            strict=True,
        ):
            first, *items = row.split()
            assert weight == np.float32(first)
            given = {int(item.split(":")[0]) - 1: float(item.split(":")[1]) for item in items}
            assert (vector == np.float32([given.get(index, 0) for index in range(36)])).all()
        ranges = json.loads((REFERENCE / "scale.json").read_text())
        assert machine.lowest.tolist() == ranges["min_"]
        assert machine.highest.tolist() == ranges["max_"]
        assert PUBLISHED.with_name("brisque_LICENSE.txt").read_text() == (REFERENCE / "LICENSE").read_text()

    def test_the_score_is_the_sum_over_support_vectors(self) -> None:
        y = frame("park_joy_480x270_10f.y4m")
        machine = published_machine(torch.device("cpu"))
        low, high = machine.lowest.numpy(), machine.highest.numpy()
        scaled = -1 + 2 * (brisque_features(y)[0].numpy() - low) / (high - low)
        total = -machine.rho.item()
        for vector, weight in zip(machine.support_vectors, machine.coefficients, strict=True):
            total += weight.item() * np.exp(-0.05 * ((scaled - vector.numpy()) ** 2).sum())
        assert brisque(y).item() == pytest.approx(total, abs=1e-6)  # the order of a sum of about 1e5


@needs_data
class TestTeacher:
    @pytest.mark.parametrize("name", ["gaussian_blur", "gaussian_noise", "jpeg", "resize"])
    def test_the_worst_level_is_worse_than_the_source(self, name: str) -> None:
        simulator = DISTORTIONS[name]
        for clip in NATURAL:
            source = probe(DATA / "clips" / clip)
            versions = [Request(source), Request(source, simulator, len(simulator.levels))]
            best, worst = (row.score for row in BRISQUE(segments=2).annotate(versions))
            assert best > worst, clip

    def test_a_batch_scores_as_its_frames_do(self) -> None:
        clips = torch.stack([frame(name)[0, :200, :300] for name in NATURAL])[:, None, None] / 255
        clips = clips.expand(-1, -1, 3, -1, -1)
        scores = BRISQUE().score(clips)
        # Single precision of the batch's sums moves a shape by a step of its grid at most.
        for clip, score in zip(clips, scores, strict=True):
            assert BRISQUE().score(clip[None]).item() == pytest.approx(score.item(), abs=0.05)


def test_frames_without_texture_say_nothing() -> None:
    clips = torch.full((2, 2, 3, 64, 64), 0.5)
    clips[1, 1] = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    scores = BRISQUE().score(clips)
    assert scores.isfinite().tolist() == [False, True]


@pytest.mark.parametrize("size", [(7, 9), (31, 40), (96, 96)])
def test_frames_down_to_a_few_pixels_have_a_score(size: tuple[int, int]) -> None:
    frames = torch.rand(1, *size, generator=torch.Generator().manual_seed(0)) * 255
    assert brisque(frames).isfinite().all()
