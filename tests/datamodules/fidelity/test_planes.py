import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from av import VideoFormat, VideoFrame
from av.filter import Graph
from scipy.stats import spearmanr
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from datamodules.distortions import DISTORTIONS
from datamodules.errors import InputError
from datamodules.fidelity import gmsd, ssim, xpsnr
from datamodules.labels.reference_labels import eligible
from datamodules.video import Sampling, Video, probe, read_clip

DATA = Path(__file__).resolve().parents[3].parent / "shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the shared clips are not at {DATA}")
LADDERS = tuple(eligible(DISTORTIONS))

PlaneMetric = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture(scope="module")
def videos() -> list[Video]:
    return [
        probe(DATA / "clips" / name) for name in ("carphone_pristine.mp4", "bigbuckbunny.mp4", "1724.mp4")
    ]


def ladder(source: Tensor, name: str) -> Tensor:
    """Levels 1 to the strongest (L, T, C, H, W) of a uint8 source (T, C, H, W)."""
    distortion = DISTORTIONS[name]
    levels = torch.arange(1, len(distortion.levels) + 1)
    clips = (source / 255).expand(len(levels), -1, -1, -1, -1)
    return distortion(clips, levels, generator=torch.Generator().manual_seed(0))


def ffmpeg_ssim(first: Tensor, second: Tensor) -> float:
    """SSIM of two grey planes (H, W) uint8 by FFmpeg's filter."""
    graph = Graph()
    height, width = first.shape
    inputs = [
        graph.add_buffer(width=width, height=height, format=VideoFormat("gray"), time_base=Fraction(1, 25))
        for _ in range(2)
    ]
    compare, sink = graph.add("ssim"), graph.add("buffersink")
    for position, buffer in enumerate(inputs):
        buffer.link_to(compare, 0, position)
    compare.link_to(sink)
    graph.configure()
    for buffer, plane in zip(inputs, (first, second), strict=True):
        frame = VideoFrame.from_ndarray(plane.numpy(), format="gray")
        frame.pts = 0
        buffer.push(frame)
        buffer.push(None)
    return float(sink.pull().metadata["lavfi.ssim.Y"])


class TestMetrics:
    @pytest.mark.parametrize(("metric", "perfect"), [(ssim, 1.0), (gmsd, 0.0)])
    def test_equal_planes_are_perfect_to_the_bit(self, metric: PlaneMetric, perfect: float) -> None:
        planes = torch.rand(5, 3, 33, 70)
        planes[0] = 0.9 + 0.001 * planes[0]  # where float32 leaves a variance few digits
        assert torch.equal(metric(planes, planes.clone()), torch.full((5, 3), perfect))

    @pytest.mark.parametrize("metric", [ssim, gmsd])
    def test_a_value_depends_neither_on_order_nor_on_the_batch(self, metric: PlaneMetric) -> None:
        first, second = torch.rand(2, 4, 48, 48)
        assert torch.equal(metric(first, second), metric(second, first))
        alone = torch.stack([metric(a, b) for a, b in zip(first, second, strict=True)])
        assert torch.allclose(metric(first, second), alone, atol=1e-6)  # float32 sums in another order

    @pytest.mark.parametrize("metric", [ssim, gmsd])
    @pytest.mark.parametrize("shapes", [((31, 64), (31, 64)), ((40, 40), (40, 41))])
    def test_wrong_shapes_are_one_sentence(
        self, metric: PlaneMetric, shapes: tuple[tuple[int, int], tuple[int, int]]
    ) -> None:
        with pytest.raises(InputError, match=r"must have equal shapes .* at least 32 pixels; got .*\.$"):
            metric(torch.zeros(shapes[0]), torch.zeros(shapes[1]))

    def test_ssim_of_flat_planes_is_the_luminance_term(self) -> None:
        first, second = torch.full((40, 40), 0.2), torch.full((40, 40), 0.6)
        expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
        # Variances of flat float32 blocks are rounding beside the constant .0009.
        assert ssim(first, second).item() == pytest.approx(expected, abs=1e-3)

    def test_gmsd_of_one_edge_against_none(self) -> None:
        """A step of height s between halved columns gives gradient s in the two columns beside it, else 0."""
        step, size = 0.5, 64
        edge = torch.zeros(size, size)
        edge[:, size // 2 :] = step
        c, columns = 170 / 255**2, size // 2 - 2
        similarity = torch.ones(columns, dtype=torch.float64)
        similarity[:2] = c / (step**2 + c)
        expected = similarity.std(correction=0).item()
        assert gmsd(edge, torch.zeros(size, size)).item() == pytest.approx(expected, rel=1e-5)
        assert gmsd(edge.T, torch.zeros(size, size)).item() == pytest.approx(expected, rel=1e-5)

    def test_gmsd_does_not_see_a_constant_or_a_sign(self) -> None:
        first, second = torch.rand(2, 64, 64)
        value = gmsd(first, second).item()
        assert gmsd(first + 0.25, second).item() == pytest.approx(value, abs=1e-5)  # float32 differences
        assert gmsd(1 - first, second).item() == pytest.approx(value, abs=1e-5)


@needs_data
class TestRealClips:
    @pytest.mark.parametrize("side", [72, 144])
    def test_ssim_is_that_of_ffmpeg(self, videos: list[Video], side: int) -> None:
        plane = read_clip(videos[0], Sampling(frames=1, window=side)).frames[0, 1]
        for distorted in ladder(plane.expand(1, 3, -1, -1), "jpeg")[:, 0, 1]:
            stored = (distorted * 255).round().byte()
            ours = ssim(plane / 255, stored / 255).item()
            # FFmpeg's variances have 63 and not 64 for a divisor, and its values six digits.
            assert ours == pytest.approx(ffmpeg_ssim(plane.contiguous(), stored), abs=2e-3)

    def test_ssim_orders_as_the_gaussian_window_does(self, videos: list[Video]) -> None:
        ours, gaussian = [], []
        for video in videos:
            source = read_clip(video, Sampling(frames=1, window=96)).frames
            for name in LADDERS:
                clips = ladder(source, name)[:, 0]
                reference = (source / 255).expand_as(clips)
                ours += ssim(clips, reference).mean(1).tolist()
                similarity = structural_similarity_index_measure(
                    clips, reference, data_range=1.0, reduction="none"
                )
                assert isinstance(similarity, Tensor)
                gaussian += similarity.tolist()
        # .99 is what two windows of one formula may differ by; SSIM and GMSD reach .9.
        assert spearmanr(ours, gaussian).statistic > 0.99

    def test_xpsnr_falls_with_severity_and_is_infinite_for_equal_clips(self, videos: list[Video]) -> None:
        source = read_clip(videos[0], Sampling(window=72)).frames
        assert xpsnr(source, source) == math.inf
        for name in ("gaussian_noise", "jpeg", "saturation"):
            stored = (ladder(source, name) * 255).round().byte()
            values = [xpsnr(clip, source) for clip in stored]
            assert values == sorted(values, reverse=True)
            assert 10 < values[-1] < values[0] < 60  # decibels, as PSNR

    def test_xpsnr_refuses_what_would_end_the_process(self) -> None:
        small = torch.zeros(2, 3, 40, 40, dtype=torch.uint8)
        with pytest.raises(InputError, match=r"at least 48 x 48 pixels; got .*\.$"):
            xpsnr(small, small)
