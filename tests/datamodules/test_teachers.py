import json
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from datamodules.annotation import Annotator, Request, annotate_missing
from datamodules.artefacts import Artefacts
from datamodules.decoding import Video, probe
from datamodules.errors import InputError
from datamodules.label_store import Annotation, LabelStore
from datamodules.niqe import NIQE
from datamodules.teachers import Laplacian, ScoresFile

DATA = Path(__file__).resolve().parents[2].parent / "shared/data"
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
            Request(video, simulator, level)
            for video in clips[:2]
            for simulator, level in ((None, 0), ("gaussian_noise", 2), ("gaussian_noise", 4), ("resize", 3))
        ]
        together = by_key(Laplacian().annotate(requests))
        alone = by_key(row for request in reversed(requests) for row in Laplacian().annotate([request]))
        for key, row in together.items():
            # The mean of a batch is summed in another order than that of one clip: float32.
            assert row.score == pytest.approx(alone[key].score, rel=1e-5)

    def test_distortions_reach_the_teacher(self, clips: list[Video]) -> None:
        video = clips[1]
        ladder = [Request(video), *(Request(video, "gaussian_blur", level) for level in (2, 3, 4, 5))]
        scores = [row.score for row in Laplacian().annotate(ladder)]
        assert scores == sorted(scores, reverse=True)

    def test_an_unknown_simulator_is_one_sentence(self, clips: list[Video]) -> None:
        with pytest.raises(InputError, match="sepia"):
            list(Laplacian().annotate([Request(clips[0], "sepia", 1)]))

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


class TestFingerprint:
    def test_a_changed_setting_changes_it(self) -> None:
        prints = {
            teacher.fingerprint
            for teacher in (Laplacian(), Laplacian(segments=2), Laplacian(window=256), Artefacts())
        }
        assert len(prints) == 4
        assert Laplacian().fingerprint == Laplacian().fingerprint

    def test_another_train_split_changes_that_of_niqe(self) -> None:
        first, second = Video("1", "1.mp4"), Video("2", "2.mp4")
        prints = []
        for train in ([first], [first, second], [second, first]):
            teacher = NIQE()
            teacher.prepare(train)
            prints.append(teacher.fingerprint)
        assert prints[0] != prints[1] == prints[2]


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
        requests = [Request(video, *which) for video in clips for which in ((None, 0), ("resize", 1))]
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


VIDEOS = [Video("1", "/videos/a/x.mp4"), Video("2", "/videos/a/y.mp4"), Video("3", "/videos/b/z.mp4")]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    if path.suffix == ".csv":
        lines: list[list[object]] = [list(rows[0]), *(list(row.values()) for row in rows)]
        path.write_text("\n".join(",".join(str(field) for field in line) for line in lines))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


class TestScoresFile:
    @pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
    def test_rows_are_found_by_path_name_or_stem(self, tmp_path: Path, suffix: str) -> None:
        rows: list[dict[str, object]] = [
            {"path": "z", "score": 3.5, "stderr": 0.25},
            {"path": "y.mp4", "score": 2, "stderr": 0.5},
            {"path": "/videos/a/x.mp4", "score": -1e-3, "stderr": 0},
        ]
        teacher = ScoresFile(write(tmp_path / f"tool v2{suffix}", rows))
        assert teacher.name == "tool_v2"
        annotator: Annotator = teacher
        assert list(annotator.annotate([Request(video) for video in VIDEOS], 0)) == [
            Annotation("1", None, 0, -1e-3, 0.0),
            Annotation("2", None, 0, 2.0, 0.5),
            Annotation("3", None, 0, 3.5, 0.25),
        ]

    def test_a_distance_is_turned_and_has_its_own_fingerprint(self, tmp_path: Path) -> None:
        path = write(tmp_path / "niqe.csv", [{"name": "x.mp4", "score": 4.5}])
        quality, distance = ScoresFile(path), ScoresFile(path, higher_is_better=False)
        (row,) = distance.annotate([Request(VIDEOS[0])])
        assert row.score == -4.5
        assert math.isnan(row.stderr)
        assert quality.fingerprint != distance.fingerprint

    def test_the_fingerprint_is_that_of_the_rows(self, tmp_path: Path) -> None:
        path = write(tmp_path / "scores.csv", [{"path": "x.mp4", "score": 1}])
        first = ScoresFile(path).fingerprint
        (tmp_path / "moved").mkdir()
        assert ScoresFile(path.rename(tmp_path / "moved" / "scores.csv")).fingerprint == first
        assert ScoresFile(write(path, [{"path": "x.mp4", "score": 2}])).fingerprint != first

    def test_the_longest_path_wins_over_the_name(self, tmp_path: Path) -> None:
        rows: list[dict[str, object]] = [{"path": "a/x.mp4", "score": 1}, {"path": "c/x.mp4", "score": 2}]
        scores = ScoresFile(write(tmp_path / "s.csv", rows))
        videos = [Request(Video("1", "/videos/c/x.mp4")), Request(Video("2", "/videos/a/x.mp4"))]
        assert [row.score for row in scores.annotate(videos)] == [2, 1]

    def test_distorted_versions_have_no_row(self, tmp_path: Path) -> None:
        scores = ScoresFile(write(tmp_path / "s.csv", [{"path": "x", "score": 1}]))
        assert list(scores.annotate([Request(VIDEOS[0], "jpeg", 1)])) == []

    @pytest.mark.parametrize(
        ("paths", "videos", "message"),
        [
            (["x.mp4"], VIDEOS, r"no score for 2 of 3 videos, the first being .*y\.mp4"),
            (["c/x.mp4", "d/x.mp4"], VIDEOS[:1], "2 rows that fit"),
            (["x"], [VIDEOS[0], Video("4", "/videos/c/x.mp4")], "fits 2 videos"),
        ],
    )
    def test_videos_without_one_row_are_one_sentence(
        self, tmp_path: Path, paths: list[str], videos: list[Video], message: str
    ) -> None:
        scores = ScoresFile(write(tmp_path / "s.csv", [{"path": path, "score": 1} for path in paths]))
        with pytest.raises(InputError, match=message):
            list(scores.annotate([Request(video) for video in videos]))

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("s.csv", "video,mos\nx.mp4,1", "has the columns video, mos; it needs 'path'"),
            ("s.csv", "path,mos\nx.mp4,1", "has the columns path, mos"),
            ("s.csv", "", "has no rows"),
            ("s.csv", "path,score\nx.mp4,good", "gives x.mp4 the score 'good'"),
            ("s.csv", "path,score\nx.mp4,nan", "the score 'nan'"),
            ("s.csv", "path,score\nx.mp4", "the score None"),
            ("s.csv", "path,score,stderr\nx.mp4,1,-1", "the stderr '-1'"),
            ("s.csv", "path,score\nx.mp4,1\nx.mp4,1", "names x.mp4 twice"),
            ("s.csv", "path,score\n,1", "a row without a path"),
            ("s.json", '{"x.mp4": 1}', "is not a list of rows"),
            ("s.json", "[", "cannot be read"),
            ("s.parquet", "PAR1", "cannot be read"),
            ("s.xlsx", "", "has the suffix '.xlsx'"),
        ],
    )
    def test_wrong_files_are_one_sentence(self, tmp_path: Path, name: str, text: str, message: str) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=message) as caught:
            ScoresFile(tmp_path / name)
        assert "\n" not in str(caught.value)

    def test_an_absent_file_is_one_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="cannot be read"):
            ScoresFile(tmp_path / "absent.csv")


def test_the_laplacian_of_a_single_bright_pixel() -> None:
    clips = torch.zeros(2, 1, 3, 12, 12)
    clips[1, ..., 5, 5] = 1
    # Four at the pixel and one at each of its neighbours, over the 10 x 10 that have all neighbours.
    assert Laplacian().score(clips).tolist() == pytest.approx([0, 0.08])
