import itertools
import sys
from pathlib import Path
from types import ModuleType
from typing import get_args

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.codecs import CODECS
from datamodules.distortions import DISTORTIONS
from datamodules.errors import InputError
from datamodules.fidelity import vmaf
from datamodules.fidelity.libvmaf import find_ffmpeg
from datamodules.fidelity.vmaf import VMAF_SMALLEST_SIDE, Route
from datamodules.video import Sampling, probe, read_clip

DATA = Path(__file__).resolve().parents[3].parent / "shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the shared clips are not at {DATA}")
needs_libvmaf = pytest.mark.skipif(find_ffmpeg() is None, reason="no FFmpeg with libvmaf is installed")
ROUTES = [pytest.param(route, marks=needs_libvmaf if route == "libvmaf" else []) for route in get_args(Route)]


def clip_of(name: str, frames: int, window: int | None) -> Tensor:
    """Full-range RGB (1, T, 3, H, W) in [0, 1]."""
    sampling = Sampling(segments=1, frames=frames, window=window)
    return read_clip(probe(DATA / "clips" / name), sampling).frames[None] / 255


def stored_luma(name: str, frames: int) -> Tensor:
    """Luma as the file holds it, on the scale of full-range luma (1, T, H, W)."""
    with av.open(str(DATA / "clips" / name)) as container:
        planes = [
            frame.to_ndarray()[: frame.height]
            for frame in itertools.islice(container.decode(video=0), frames)
        ]
    return (torch.from_numpy(np.stack(planes))[None].float() - 16) / 219


def versions(source: Tensor, seed: int) -> Tensor:
    """A source (1, T, 3, H, W) itself, and distorted at random levels: (6, T, 3, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    clips = [source]
    for name in ("gaussian_blur", "gaussian_noise", "jpeg", "contrast", "brighten"):
        distortion = DISTORTIONS[name]
        level = torch.randint(1, len(distortion.levels) + 1, (1,), generator=generator)
        clips.append(distortion(source, level, generator=generator))
    return torch.cat(clips)


class TestFunction:
    def test_a_score_depends_neither_on_the_batch_nor_on_the_clip_before(self) -> None:
        generator = torch.Generator().manual_seed(0)
        sources = torch.rand(4, 3, 64, 80, generator=generator)
        clips = (sources + 0.1 * torch.randn(sources.shape, generator=generator)).clamp(0, 1)
        alone = torch.cat([vmaf(a[None], b[None]) for a, b in zip(clips, sources, strict=True)])
        # Products of other sizes add float32 numbers up in another order.
        assert torch.allclose(vmaf(clips, sources), alone, atol=0.01)

    @needs_libvmaf
    def test_clips_of_one_process_know_nothing_of_each_other(self) -> None:
        generator = torch.Generator().manual_seed(0)
        sources = torch.rand(3, 2, 64, 81, generator=generator)
        clips = 0.9 * sources
        alone = [vmaf(a[None], b[None], route="libvmaf") for a, b in zip(clips, sources, strict=True)]
        # FFmpeg's log rounds to six digits, the regression adds up in another order.
        assert torch.allclose(vmaf(clips, sources, route="libvmaf"), torch.cat(alone), atol=0.01)

    def test_bytes_grey_and_colours_say_the_same(self) -> None:
        sources = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
        clips = sources // 2 + 40
        colour = [frames[:, :, None].expand(-1, -1, 3, -1, -1) for frames in (clips, sources)]
        scores = vmaf(clips, sources)
        # A luma on the border of two bytes may be rounded to either.
        assert torch.allclose(vmaf(clips / 255, sources / 255), scores, atol=0.05)
        assert torch.allclose(vmaf(*colour), scores, atol=0.05)

    @pytest.mark.parametrize("neg", [False, True])
    def test_scores_are_from_0_to_100_and_one_frame_is_enough(self, neg: bool) -> None:
        sources = torch.rand(2, 1, 64, 64)
        clips = torch.stack([torch.zeros_like(sources[0]), sources[1]])
        worst, itself = vmaf(clips, sources, neg=neg).tolist()
        assert 0 <= worst < 20  # black frames beside noise: "bad" on the scale of VMAF
        assert 97 < itself <= 100

    @pytest.mark.parametrize("shapes", [((1, 2, 40, 64), (1, 2, 40, 64)), ((1, 2, 64, 64), (1, 3, 64, 64))])
    def test_wrong_shapes_are_one_sentence(self, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
        with pytest.raises(InputError, match=r"must have equal shapes .* at least 48 x 48 pixels; got .*\.$"):
            vmaf(torch.zeros(shapes[0]), torch.zeros(shapes[1]))

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_a_device_says_what_the_processor_says(self) -> None:
        sources = torch.rand(2, 3, 96, 128)
        clips = (sources + 0.05 * torch.randn_like(sources)).clamp(0, 1)
        assert torch.allclose(vmaf(clips.cuda(), sources.cuda()).cpu(), vmaf(clips, sources), atol=0.05)


@needs_data
class TestRealClips:
    @pytest.mark.parametrize("route", ROUTES)
    @pytest.mark.parametrize(("neg", "published"), [(False, 35.8129), (True, 33.1324)])
    def test_carphone_has_the_score_that_others_give_it(
        self, route: Route, neg: bool, published: float
    ) -> None:
        pair = [stored_luma(f"carphone_{which}.mp4", 60) for which in ("distorted", "pristine")]
        assert vmaf(*pair, neg=neg, route=route).item() == pytest.approx(published, abs=0.01)

    def test_equals_vmaf_torch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("pandas", "yuvio"):  # imported there for tables and files, which nobody asks for here
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        oracle = pytest.importorskip("vmaf_torch")
        clip, source = (stored_luma(f"carphone_{which}.mp4", 8) for which in ("distorted", "pristine"))
        for neg in (False, True):
            model = oracle.VMAF(NEG=neg, clip_score=True)
            with torch.inference_mode():
                expected = model(*(16 + 219 * planes[0, :, None] for planes in (source, clip))).mean()
            # vmaf-torch does not round where libvmaf does.
            assert vmaf(clip, source, neg=neg).item() == pytest.approx(expected.item(), abs=0.01)

    @needs_libvmaf
    @pytest.mark.parametrize("neg", [False, True])
    @pytest.mark.parametrize("window", [VMAF_SMALLEST_SIDE, 71, 144])
    def test_both_routes_give_one_label(self, window: int, neg: bool) -> None:
        names = ("carphone_pristine.mp4", "bigbuckbunny.mp4", "1724.mp4", "vsfa_test.mp4")
        sources = [clip_of(name, 3, window) for name in names]
        clips = torch.cat([versions(source, seed) for seed, source in enumerate(sources)])
        beside = torch.cat([source.expand(6, -1, -1, -1, -1) for source in sources])
        both = [vmaf(clips, beside, neg=neg, route=route) for route in get_args(Route)]
        # libvmaf works in fixed point; .1 is what the label may depend on the route by.
        assert (both[0] - both[1]).abs().max() < 0.1

    @pytest.mark.parametrize("route", ROUTES)
    @pytest.mark.parametrize("name", ["h264", "h265", "vp9"])
    def test_scores_fall_with_the_severity_of_real_encoders(self, route: Route, name: str) -> None:
        source = (clip_of("bigbuckbunny.mp4", 8, 144)[0] * 255).byte()
        codec = CODECS[name]
        clips = torch.stack(
            [source, *(codec(source, level, 25.0) for level in range(1, len(codec.levels) + 1))]
        )
        scores = vmaf(clips, source.expand_as(clips), route=route).tolist()
        assert all(mild > strong for mild, strong in itertools.pairwise(scores))
