import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from datamodules.distortions import Distortion
from datamodules.errors import InputError
from datamodules.labels import Annotation, LabelStore, Request, annotate_missing
from datamodules.simulators import SIMULATORS
from datamodules.teachers import Laplacian
from datamodules.teachers.artefacts import Artefacts
from datamodules.teachers.natural_scenes.niqe import NIQE
from datamodules.video import Video, probe

DATA = Path(__file__).resolve().parents[3].parent / "shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the shared clips are not at {DATA}")
NAMES = ("carphone_distorted.mp4", "carphone_pristine.mp4", "foreman_cif.y4m", "nasa_13013.mp4")


@pytest.fixture(scope="module")
def clips() -> list[Video]:
    return [probe(DATA / "clips" / name) for name in NAMES]


def by_key(annotations: Iterator[Annotation]) -> dict[tuple[str, str | None, int], Annotation]:
    return {row[:3]: row for row in annotations}


@needs_data
class TestTeacher:
    def test_every_clip_gets_a_score_with_its_spread(self, clips: list[Video]) -> None:
        rows = list(Laplacian().annotate([Request(video) for video in clips]))
        assert [row.video_id for row in rows] == [video.video_id for video in clips]
        assert all(row.score > 0 and 0 <= row.stderr < row.score for row in rows)
        distorted, pristine = rows[:2]
        assert pristine.score > distorted.score

    def test_one_segment_has_no_standard_error(self, clips: list[Video]) -> None:
        (row,) = Laplacian(segments=1).annotate([Request(clips[0])])
        assert math.isnan(row.stderr)

    def test_a_score_depends_neither_on_batch_nor_on_order(self, clips: list[Video]) -> None:
        requests = [
            Request(video, name and SIMULATORS[name], level)
            for video in clips[:2]
            for name, level in (
                (None, 0),
                ("gaussian_noise", 2),
                ("gaussian_noise", 4),
                ("resize", 3),
                ("h264", 2),
            )
        ]
        together = by_key(Laplacian().annotate(requests))
        alone = by_key(row for request in reversed(requests) for row in Laplacian().annotate([request]))
        for key, row in together.items():
            # The mean of a batch is summed in another order than that of one clip: float32.
            assert row.score == pytest.approx(alone[key].score, rel=1e-5)

    def test_distortions_reach_the_teacher(self, clips: list[Video]) -> None:
        video = clips[1]
        for name in ("gaussian_blur", "h264"):
            ladder = [Request(video), *(Request(video, SIMULATORS[name], level) for level in (2, 3, 4))]
            scores = [row.score for row in Laplacian().annotate(ladder)]
            assert scores == sorted(scores, reverse=True)

    def test_unreadable_files_are_named_and_left_out(
        self, clips: list[Video], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(b"not a video")
        gone = Video("gone", str(tmp_path / "gone.mp4"), 320, 240, 25.0, 1.0)
        listed = Video("broken", str(broken), status="error", error="It holds no video.")
        with caplog.at_level(logging.WARNING):
            rows = list(Laplacian().annotate([Request(video) for video in (listed, clips[0], gone)]))
        assert [row.video_id for row in rows] == [clips[0].video_id]
        assert "broken.mp4" in caplog.text
        assert "gone.mp4" in caplog.text

    def test_workers_give_the_same_scores(self, clips: list[Video]) -> None:
        requests = [Request(video) for video in clips]
        assert list(Laplacian().annotate(requests, workers=1)) == list(Laplacian().annotate(requests))


class Failing(Laplacian):
    """Raises on some videos, told by the size of their frames, and tells how often it was asked."""

    def __init__(self, *sizes: tuple[int, int]) -> None:
        super().__init__(window=None)
        self.sizes = sizes

    def score(self, clips: torch.Tensor) -> torch.Tensor:
        if clips.shape[-2:] in self.sizes or not self.sizes:
            raise ValueError("this teacher cannot do that.\nAnd more.")
        return super().score(clips)


class Doubtful(Laplacian):
    """Raises where a batch holds a very dark clip."""

    def score(self, clips: torch.Tensor) -> torch.Tensor:
        assert not (clips.mean(dim=(1, 2, 3, 4)) < 0.1).any(), "too dark"
        return super().score(clips)


class TestFailures:
    @pytest.fixture
    def mixed(self, mixed_corpus: Path) -> list[Video]:
        return [probe(path) for path in sorted(mixed_corpus.glob("*.mp4"))]

    def test_a_video_on_which_it_fails_is_named_and_left_out(
        self, mixed: list[Video], caplog: pytest.LogCaptureFixture
    ) -> None:
        requests = [Request(video) for video in mixed]
        with caplog.at_level(logging.DEBUG):
            rows = list(Failing((64, 48)).annotate(requests))
        left_out = [video for video in mixed if (video.height, video.width) == (64, 48)]
        assert [row.video_id for row in rows] == [v.video_id for v in mixed if v not in left_out]
        for video in left_out:
            told = f"laplacian failed on {video.path} (ValueError: this teacher cannot do that.)"
            assert f"{told}; it is left out." in caplog.text
        assert "in score" in caplog.text  # the traceback, for who wrote the teacher

    def test_of_a_batch_only_those_on_which_it_fails_are_left_out(
        self, mixed: list[Video], caplog: pytest.LogCaptureFixture
    ) -> None:
        video = mixed[0]
        requests = [
            Request(video),
            Request(video, SIMULATORS["darken"], 5),
            Request(video, SIMULATORS["jpeg"], 1),
        ]
        dark = Distortion("dark", lambda clips, *_: clips * 0.1, levels=(1,))
        requests.insert(1, Request(video, dark, 1))
        rows = by_key(Doubtful().annotate(requests))
        assert rows == by_key(Laplacian().annotate([r for r in requests if r.simulator is not dark]))
        assert f"{video.path} under dark 1 (AssertionError: too dark)" in caplog.text

    def test_failing_on_all_of_the_first_videos_it_is_the_teacher(self, mixed: list[Video]) -> None:
        ladders = [Request(video, SIMULATORS["resize"], level) for video in mixed for level in (1, 2)]
        with pytest.raises(InputError, match="first 8 videos: mend the teacher") as caught:
            list(Failing().annotate(ladders))
        assert mixed[7].path in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_what_it_failed_on_before_does_not_stop_the_next_start(
        self, mixed: list[Video], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        requests, store = [Request(video) for video in mixed], LabelStore(tmp_path)
        bad = Failing((48, 64), (64, 48), (64, 96))
        with pytest.raises(InputError):
            annotate_missing(bad, requests, store, 0)
        fine = next(video for video in mixed if (video.height, video.width) == (48, 64))
        assert annotate_missing(Laplacian(window=None), [Request(fine)], store, 0) == 1
        assert bad.fingerprint == Laplacian(window=None).fingerprint
        bad.sizes = ((64, 48), (64, 96))
        others = [Request(video) for video in mixed if (video.height, video.width) in bad.sizes]
        copies = [
            Request(replace(one.video, video_id=f"{n}-{one.video.video_id}")) for one in others for n in "ab"
        ]
        assert annotate_missing(bad, [Request(fine), *copies], store, 0) == 0
        assert "laplacian gave no score to 12 of 12 clips" in caplog.text


class TestFingerprint:
    def test_a_changed_setting_changes_it(self) -> None:
        prints = {
            teacher.fingerprint
            for teacher in (Laplacian(), Laplacian(segments=2), Laplacian(window=256), Artefacts())
        }
        assert len(prints) == 4
        assert Laplacian().fingerprint == Laplacian().fingerprint

    @pytest.mark.parametrize(("pristine", "changes"), [("fitted", True), ("published", False)])
    def test_another_train_split_changes_that_of_a_fitted_niqe(self, pristine: str, changes: bool) -> None:
        first, second = Video("1", "1.mp4"), Video("2", "2.mp4")
        prints = []
        for train in ([first], [first, second], [second, first]):
            teacher = NIQE(pristine)
            teacher.prepare(train)
            prints.append(teacher.fingerprint)
        assert (prints[0] != prints[1]) is changes
        assert prints[1] == prints[2]


class Interrupted(Laplacian):
    """Stops as a user would, after some scores."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def annotate(self, requests: Sequence[Request], workers: int = 0) -> Iterator[Annotation]:
        for count, row in enumerate(super().annotate(requests, workers)):
            if count == self.after:
                raise KeyboardInterrupt
            yield row


@needs_data
class TestAnnotateMissing:
    def test_interrupted_and_run_again_it_computes_only_what_is_missing(
        self, clips: list[Video], tmp_path: Path
    ) -> None:
        store, requests = LabelStore(tmp_path), [Request(video) for video in clips]
        with pytest.raises(KeyboardInterrupt):
            annotate_missing(Interrupted(after=3), requests, store, 0)
        assert store.read().num_rows == 3
        assert annotate_missing(Laplacian(), requests, store, 0) == 1
        assert annotate_missing(Laplacian(), requests, store, 0) == 0
        assert store.have(0, Laplacian().fingerprint) == {request.key for request in requests}
        assert store.read().num_rows == len(requests)

    def test_another_setting_or_round_reuses_nothing(self, clips: list[Video], tmp_path: Path) -> None:
        store, requests = LabelStore(tmp_path), [Request(clips[0])]
        assert annotate_missing(Laplacian(), requests, store, 0) == 1
        assert annotate_missing(Laplacian(segments=2), requests, store, 0) == 1
        assert annotate_missing(Laplacian(), requests, store, 1) == 1

    def test_ranks_share_without_overlap_or_gap_whenever_they_start(
        self, clips: list[Video], tmp_path: Path
    ) -> None:
        requests = [
            Request(video, *which) for video in clips for which in ((None, 0), (SIMULATORS["resize"], 1))
        ]
        store = LabelStore(tmp_path)
        # Rank 1 starts when rank 0 has already written its share, and has the requests in another order.
        first = annotate_missing(Laplacian(), requests, store, 0, rank=0, world_size=2)
        second = annotate_missing(Laplacian(), requests[::-1], store, 0, rank=1, world_size=2)
        assert (first, second) == (4, 4)
        assert store.have(0, Laplacian().fingerprint) == {request.key for request in requests}
        assert len(list(tmp_path.rglob("part-*.parquet"))) == 2

    def test_a_place_that_cannot_be_written_is_told_before_scoring(
        self, clips: list[Video], tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="cannot be written to"):
            annotate_missing(Interrupted(after=0), [Request(clips[0])], LabelStore(tmp_path / "file"), 0)


def test_the_laplacian_of_a_single_bright_pixel() -> None:
    clips = torch.zeros(2, 1, 3, 12, 12)
    clips[1, ..., 5, 5] = 1
    # Four at the pixel and one at each of its neighbours, over the 10 x 10 that have all neighbours.
    assert Laplacian().score(clips).tolist() == pytest.approx([0, 0.08])
