import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from datamodules.codecs import CODECS
from datamodules.distortions import DISTORTIONS
from datamodules.errors import InputError
from datamodules.labels import LabelStore, Request, annotate_missing
from datamodules.labels.reference_labels import PERFECT, eligible
from datamodules.teachers.full_reference import FullReference, Metric
from datamodules.video import Sampling, Video, probe, read_clip

DATA = Path(__file__).resolve().parents[3].parent / "shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the shared clips are not at {DATA}")
LADDERS = tuple(eligible(DISTORTIONS))


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


@needs_data
class TestRealClips:
    @pytest.mark.parametrize("metric", ["ssim", "gmsd"])
    def test_scores_fall_with_severity_within_a_content(self, videos: list[Video], metric: Metric) -> None:
        teacher = FullReference(metric, window=96)
        for video in videos:
            source = read_clip(video, Sampling(segments=2, window=96)).frames
            for name in LADDERS:
                clips = ladder(source, name)
                scores = teacher.compare(clips, (source / 255).expand_as(clips)).tolist()
                assert all(mild > strong for mild, strong in itertools.pairwise(scores)), (video.path, name)
                assert scores[0] < PERFECT or name == "gaussian_blur"  # 0.1 pixels are the identity


@needs_data
class TestFullReference:
    def test_scores_reach_the_store_like_any_teacher_s(self, videos: list[Video], tmp_path: Path) -> None:
        blur = DISTORTIONS["gaussian_blur"]
        requests = [
            Request(videos[0]),
            *(Request(video, blur, level) for video in videos[:2] for level in (2, 4)),
        ]
        store, teacher = LabelStore(tmp_path), FullReference("ssim", segments=2, frames=2, window=72)
        assert annotate_missing(teacher, requests, store, 0) == 5
        assert annotate_missing(teacher, requests, store, 0) == 0
        rows = store.read(0, "ssim", teacher.fingerprint).to_pylist()
        source = next(row for row in rows if row["simulator"] is None)
        assert (source["score"], source["stderr"]) == (PERFECT, 0)
        for video in videos[:2]:
            mild, strong = (
                next(row for row in rows if (row["video_id"], row["level"]) == (video.video_id, level))
                for level in (2, 4)
            )
            assert 0 < strong["score"] < mild["score"] < PERFECT
            assert strong["stderr"] > 0

    def test_a_codec_s_clips_are_compared_with_those_before_it(self, videos: list[Video]) -> None:
        codec = CODECS["h264"]
        levels = (1, len(codec.levels))
        teacher = FullReference("gmsd", segments=1, frames=4, window=96)
        mild, strong = teacher.annotate([Request(videos[0], codec, level) for level in levels])
        assert strong.score < mild.score < PERFECT
        assert strong.simulator == codec.identity

    def test_metric_and_sampling_make_the_fingerprint(self) -> None:
        teachers = [
            FullReference("ssim"), FullReference("gmsd"), FullReference("ssim", window=72),
            FullReference("ssim", frames=1), FullReference("ssim", draws=2), FullReference("vmaf"),
            FullReference("vmaf_neg"),
        ]  # fmt: skip
        assert len({teacher.fingerprint for teacher in teachers}) == len(teachers)

    def test_frames_too_small_for_a_statement_give_nan(self) -> None:
        clips = torch.rand(2, 1, 3, 24, 40)
        assert FullReference("ssim").compare(clips, clips).isnan().all()

    @pytest.mark.parametrize("metric", ["vmaf", "vmaf_neg"])
    def test_vmaf_reaches_the_store_on_its_own_scale(
        self, videos: list[Video], tmp_path: Path, metric: Metric
    ) -> None:
        blur = DISTORTIONS["gaussian_blur"]
        requests = [Request(videos[1]), Request(videos[1], blur, 3), Request(videos[1], blur, 5)]
        store, teacher = LabelStore(tmp_path), FullReference(metric, segments=2, frames=3, window=96)
        assert annotate_missing(teacher, requests, store, 0) == 3
        rows = store.read(0, metric, teacher.fingerprint).to_pylist()
        scores = {row["level"]: row["score"] for row in rows}
        source, mild, strong = (scores[level] for level in sorted(scores, key=lambda level: level or 0))
        assert 0 <= strong < mild < source
        assert 97 < source <= 100  # what VMAF gives a source without motion and with much of it

    def test_an_unknown_metric_is_one_sentence(self) -> None:
        with pytest.raises(InputError, match="must be one of ssim, gmsd, vmaf, vmaf_neg; got 'psnr'"):
            FullReference("psnr")  # type: ignore[arg-type]
