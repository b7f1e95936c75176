from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import pytest
import torch
from av.filter import Graph
from torch import Tensor

from datamodules.distortions import DISTORTIONS
from datamodules.errors import InputError
from datamodules.labels import Request
from datamodules.teachers.ffmpeg_filters import FFmpegDetector, measure
from datamodules.video import Sampling, probe, read_clip

DATA = Path(__file__).resolve().parents[3].parent / "shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the shared clips are not at {DATA}")
NATURAL = ("foreman_cif.y4m", "park_joy_480x270_10f.y4m", "nasa_13013.mp4", "Seeking_30_480_1050.mp4")


@pytest.fixture(scope="module", params=NATURAL)
def clip(request: pytest.FixtureRequest) -> Tensor:
    """Two frames (1, 2, 3, H, W) of a natural video."""
    video = probe(DATA / "clips" / str(request.param))
    return read_clip(video, Sampling(frames=2, window=None)).frames[None] / 255


def ladder(clip: Tensor, name: str) -> Tensor:
    """The clip (levels + 1, T, C, H, W) at every level of a distortion."""
    levels = torch.arange(len(DISTORTIONS[name].levels) + 1)
    return DISTORTIONS[name](clip.expand(len(levels), -1, -1, -1, -1), levels)


@needs_data
class TestDirection:
    def test_blurdetect_falls_with_blur(self, clip: Tensor) -> None:
        scores = FFmpegDetector("blurdetect").score(ladder(clip, "gaussian_blur")[1:])
        assert (scores.diff() < 0).all()  # from the second level on: the first is the source to the eye

    def test_blockdetect_falls_with_jpeg(self, clip: Tensor) -> None:
        scores = FFmpegDetector("blockdetect").score(ladder(clip, "jpeg"))
        assert (scores.diff() < 0).all()


@needs_data
class TestFigures:
    @pytest.mark.parametrize(
        ("detector", "key"), [("blurdetect", "lavfi.blur"), ("blockdetect", "lavfi.block")]
    )
    def test_are_those_of_ffmpeg_on_the_file(self, detector: str, key: str) -> None:
        with av.open(str(DATA / "clips/foreman_cif.y4m")) as container:
            stream = container.streams.video[0]
            graph = Graph()
            graph.link_nodes(
                graph.add_buffer(template=stream), graph.add(detector), graph.add("buffersink")
            ).configure()
            frame = next(container.decode(stream))
            graph.vpush(frame)
            assert measure(frame.to_ndarray()[: frame.height], detector) == float(graph.vpull().metadata[key])

    @pytest.mark.parametrize("detector", ["blurdetect", "blockdetect"])
    def test_do_not_depend_on_the_frames_before(self, detector: str, clip: Tensor) -> None:
        teacher = FFmpegDetector(detector)  # type: ignore[arg-type]
        alone = [teacher.score(clip[:, index : index + 1]).item() for index in range(2)]
        assert teacher.score(clip).item() == pytest.approx(sum(alone) / 2, rel=1e-6)  # float32

    def test_threads_do_not_meet(self) -> None:
        video = probe(DATA / "clips/nasa_13013.mp4")
        clips = [
            read_clip(video, Sampling(frames=1, window=96), draw).frames[None] / 255 for draw in range(8)
        ]
        teacher = FFmpegDetector("blurdetect")
        alone = [teacher.score(clip).item() for clip in clips]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda clip: teacher.score(clip).item(), clips * 5))
        assert together == alone * 5

    def test_a_corpus_row_gets_a_score_and_its_spread(self) -> None:
        (row,) = FFmpegDetector("blockdetect").annotate([Request(probe(DATA / "clips/nasa_13013.mp4"))])
        assert row.score < 0 < row.stderr


class TestEdges:
    @pytest.mark.parametrize("detector", ["blurdetect", "blockdetect"])
    def test_a_flat_frame_gets_no_statement(self, detector: str) -> None:
        clips = torch.full((2, 2, 3, 64, 64), 0.5)
        clips[1, 1] = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
        scores = FFmpegDetector(detector).score(clips)  # type: ignore[arg-type]
        assert scores.isnan().tolist() == [True, False]

    def test_a_frame_too_small_for_blocks_gets_no_statement(self) -> None:
        noise = torch.rand(1, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        assert FFmpegDetector("blockdetect").score(noise).isnan().all()

    def test_another_filter_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"must be one of blurdetect, blockdetect; got 'siti'\.$"):
            FFmpegDetector("siti")  # type: ignore[arg-type]
