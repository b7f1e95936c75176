"""Each metric does what its name says, on real clips and on frames whose value is known in closed form."""

import json
import math
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from datamodules.corpus import build_corpus
from datamodules.errors import UnreadableVideo
from datamodules.selection.corpus_metrics import (
    METRICS,
    colourfulness,
    flickering,
    measure,
    measure_run,
    measure_video,
    noise,
)
from datamodules.selection.cpbd import cpbd
from datamodules.video import Sampling, Video, luma, probe, read_clip

DATA = Path(__file__).resolve().parents[3].parent / "shared/data"
CLIPS = ["10053703034.mp4", "1724.mp4", "Seeking_30_480_1050.mp4", "carphone_pristine.mp4", "nasa_13013.mp4"]

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real clips under ../shared/data are absent")


def frame_of(name: str) -> Tensor:
    """The middle frame, uint8 (3, H, W)."""
    return read_clip(probe(DATA / "clips" / name), Sampling(segments=1, frames=1, window=None)).frames[0]


def measured(frames: Tensor) -> dict[str, float]:
    return dict(zip(METRICS, measure_run(frames), strict=True))


def jpeg_of(frame: Tensor, quality: int) -> Tensor:
    file = BytesIO()
    Image.fromarray(frame.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1)


def smoothed(frame: Tensor, sigma: float) -> Tensor:
    blurred = ndimage.gaussian_filter(frame.numpy().astype(np.float32), (0, sigma, sigma))
    return torch.from_numpy(blurred.round().astype(np.uint8))


@needs_data
@pytest.mark.parametrize("name", CLIPS)
def test_a_fault_raises_its_metric(name: str) -> None:
    frame = frame_of(name)
    source = measured(frame[None])
    assert measured(smoothed(frame, 1.5)[None])["blur"] > source["blur"]
    jpeg = [measured(jpeg_of(frame, quality)[None])["blockiness"] for quality in (50, 10)]
    assert max(source["blockiness"], jpeg[0]) < jpeg[1]  # quality 50 adds nothing to blocks that are there
    grain = torch.randn(frame.shape, generator=torch.Generator().manual_seed(0))
    noisy = [
        measured((frame + sigma * grain).clamp(0, 255).to(torch.uint8)[None])["noise"] for sigma in (5, 15)
    ]
    assert source["noise"] < noisy[0] < noisy[1]
    pale = measured((frame.float() / 2 + 64).to(torch.uint8)[None])
    assert pale["contrast"] == pytest.approx(source["contrast"] / 2, rel=0.01)  # the rounding of code values
    assert pale["colourfulness"] == pytest.approx(source["colourfulness"] / 2, rel=0.02)
    assert pale["luminance"] == pytest.approx(source["luminance"] / 2 + 64, abs=0.5)


@needs_data
@pytest.mark.parametrize("name", CLIPS)
def test_cpbd_falls_with_blur(name: str) -> None:
    """The published behaviour: in [0, 1], falling from sharp to blurred (Narvekar and Karam, 2011)."""
    y = luma(frame_of(name).float()).numpy()
    values = [cpbd(ndimage.gaussian_filter(y, sigma)) for sigma in (0, 0.8, 1.6, 3.2)]
    assert 0 <= min(values) <= max(values) <= 1
    assert values == sorted(values, reverse=True)
    assert values[3] < 0.1  # a step blurred by 3.2 is ten pixels wide, far above both just noticeable widths


def test_cpbd_of_edges_of_known_width() -> None:
    for width, contrast, seen in ((1, 200, 1.0), (3, 200, 1.0), (5, 200, 0.0), (5, 40, 1.0), (7, 40, 0.0)):
        ramp = np.interp(np.arange(64), [32, 32 + width], [20, 20 + contrast])
        assert cpbd(np.tile(ramp, (128, 2)).astype(np.float32)[:, :64]) == seen
    assert cpbd(np.full((128, 128), 90, dtype=np.float32)) == 0


@needs_data
def test_still_and_grey() -> None:
    frame = frame_of("carphone_pristine.mp4")
    still = measured(torch.stack([frame] * 3))
    assert still["temporal_information"] == 0
    assert still["flickering"] == 0
    grey = frame[:1].expand(3, -1, -1)
    assert measured(grey[None])["colourfulness"] == 0


def test_values_in_closed_form() -> None:
    primaries = torch.tensor([[255.0, 0.0], [0.0, 255.0], [0.0, 0.0]])[:, None]  # half red, half green
    # rg = +-255, yb = 127.5: deviations 255 and 0, means 0 and 127.5
    assert colourfulness(primaries) == pytest.approx(255 + 0.3 * 127.5)

    scene = torch.full((3, 64, 64), 100.0)
    alternating = scene + torch.tensor([0.0, 8.0, 0.0])[:, None, None]
    fade = scene + torch.tensor([0.0, 8.0, 16.0])[:, None, None]
    assert flickering(alternating) == pytest.approx(8)
    assert flickering(fade) == pytest.approx(0, abs=1e-4)  # float32 means of 256 values near 100
    assert flickering(alternating[:2]) == 0

    grain = torch.randn(512, 512, generator=torch.Generator().manual_seed(0))
    assert noise(100 + 6 * grain) == pytest.approx(
        6, rel=0.02
    )  # its sampling error over 2.6e5 pixels is 0.5 %
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    assert noise(rows + 2 * columns) == pytest.approx(0, abs=1e-4)  # a plane has no noise


@needs_data
def test_si_and_ti_are_those_of_the_recommendation() -> None:
    """Published figures are of limited-range code values; ours of the displayed range, 255 / 219 as large."""
    told = json.loads((DATA / "reference/siti/foreman_cif-legacy.json").read_text())
    run = read_clip(
        Video("", str(DATA / "clips/foreman_cif.y4m"), fps=29.97, duration=10 / 29.97),
        Sampling(segments=1, frames=10, window=None),
    ).frames
    for first in (0, 4, 7):
        values = measured(run[first : first + 3])
        # 2 %: the sequence has code values above 235, which a display clips
        assert values["spatial_information"] == pytest.approx(told["si"][first] * 255 / 219, rel=0.02)
        wanted = np.mean(told["ti"][first : first + 2]) * 255 / 219
        assert values["temporal_information"] == pytest.approx(wanted, rel=0.02)


@needs_data
def test_odd_files_are_measured_or_named(tmp_path: Path) -> None:
    for name in ("corrupted.mp4", "unordered.mov", "testsrc2_mpeg4.mp4", "video_90.mov"):
        assert all(math.isfinite(value) for value in measure_video(probe(DATA / "edge" / name)))
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"no video")
    with pytest.raises(UnreadableVideo, match=r"empty\.mp4"):
        measure_video(Video("", str(empty), width=64, height=64, fps=25, duration=1))


@needs_data
def test_a_corpus_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copyfile(DATA / "clips/carphone_pristine.mp4", videos / "a.mp4")
    shutil.copyfile(DATA / "clips/carphone_pristine.mp4", videos / "b.mp4")
    shutil.copyfile(DATA / "edge/video_0.mov", videos / "c.mov")
    (videos / "d.mp4").write_text("no video")
    corpus = build_corpus(videos, progress=False)
    before = measure(corpus, workers=2, progress=False)
    assert before.column_names == [*corpus.column_names, *METRICS]
    assert all(before.schema.field(name).type == pa.float64() for name in METRICS)
    assert before["blur"][3].as_py() is None
    assert before["blur"][0] == before["blur"][1]

    def refuse(video: Video) -> list[float]:
        raise AssertionError(f"{video.path} is measured again")

    monkeypatch.setattr("datamodules.selection.corpus_metrics.measure_video", refuse)
    assert measure(corpus, progress=False).equals(before)
    assert measure(before, progress=False).equals(before)
