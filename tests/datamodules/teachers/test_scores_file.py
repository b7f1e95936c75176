import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.distortions import DISTORTIONS
from datamodules.errors import InputError
from datamodules.labels import Annotation, Annotator, LabelStore, Request, annotate_missing
from datamodules.teachers.scores_file import ScoresFile
from datamodules.video import Video

LABELS = Path(__file__).resolve().parents[3].parent / "shared/data/labels"
needs_labels = pytest.mark.skipif(not LABELS.is_dir(), reason=f"the published lists are not at {LABELS}")

VIDEOS = [Video("1", "/videos/a/x.mp4"), Video("2", "/videos/a/y.mp4"), Video("3", "/videos/b/z.mp4")]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    if path.suffix == ".csv":
        lines: list[list[object]] = [list(rows[0]), *(list(row.values()) for row in rows)]
        path.write_text("\n".join(",".join(str(field) for field in line) for line in lines))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def scores_of(teacher: ScoresFile, *paths: str) -> list[float]:
    requests = [Request(Video(str(index), path)) for index, path in enumerate(paths)]
    return [row.score for row in teacher.annotate(requests)]


@needs_labels
class TestPublishedLists:
    """One of each form; test_opinions.py reads all of them by the same reader."""

    @pytest.mark.parametrize(
        ("name", "count", "video", "score"),
        [
            ("bvqa_benchmark/YOUTUBE_UGC_metadata.csv", 1380, "Animation_1080P-01b3.mkv", 3.649),
            ("dover_fastvqa/CVD2014_labels.txt", 234, "Test3/City/Test03_City_D12.avi", 20.65),
            ("dover_fastvqa/LIVE_VQA_labels.txt", 148, "pa2_25fps.yuv", 44.5104),
            ("minimalisticvqa/k150kb_scores.csv", 1576, "orig_10007436115_540_5s.mp4", 3.53),
            ("nflx/nflx_public.json", 79, "BigBuckBunny_20_288_375.mp4", 22.5),
            ("w2s/kvq_train_score.json", 2926, "2926.mp4", 1.527777778),
        ],
    )
    def test_are_read_as_they_are(self, name: str, count: int, video: str, score: float) -> None:
        teacher = ScoresFile(LABELS / name)
        assert len(teacher) == count
        assert scores_of(teacher, f"/videos/{video}") == [score]

    def test_a_list_with_two_scores_of_one_video_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"names distorted_videos/blue_hair/.* twice"):
            ScoresFile(LABELS / "dover_fastvqa/MSU_Benchmark_labels.txt")

    @pytest.mark.parametrize("name", ["nflx/vqeghd3.json", "w2s/example_pairs.json"])
    def test_a_list_without_scores_is_refused(self, name: str) -> None:
        with pytest.raises(InputError, match=r"must have .* and one of the columns score, "):
            ScoresFile(LABELS / name)

    def test_a_differential_score_is_turned_by_the_caller(self) -> None:
        teacher = ScoresFile(LABELS / "dover_fastvqa/LIVE_VQA_labels.txt", higher_is_better=False)
        assert scores_of(teacher, "/live/pa/pa2_25fps.yuv") == [-44.5104]

    def test_a_named_column_wins(self) -> None:
        path = LABELS / "minimalisticvqa/k150kb_scores.csv"
        teacher = ScoresFile(path, score_column="video_score")
        assert scores_of(teacher, "/v/orig_10007436115_540_5s.mp4") == [3.61]


class TestMatching:
    @pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".parquet"])
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

    def test_the_longest_path_wins_over_the_name(self, tmp_path: Path) -> None:
        rows: list[dict[str, object]] = [{"path": "a/x.mp4", "score": 1}, {"path": "c/x.mp4", "score": 2}]
        scores = ScoresFile(write(tmp_path / "s.csv", rows))
        assert scores_of(scores, "/videos/c/x.mp4", "/videos/a/x.mp4") == [2, 1]

    def test_a_row_that_belongs_to_a_video_by_its_path_is_no_others(self, tmp_path: Path) -> None:
        scores = ScoresFile(write(tmp_path / "s.csv", [{"path": "a/x.mp4", "score": 1}]), partial=True)
        videos = [Request(Video("1", "/videos/c/x.mp4")), Request(Video("2", "/videos/a/x.mp4"))]
        assert [row.video_id for row in scores.annotate(videos)] == ["2"]

    def test_a_relative_path_starts_from_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "lists").mkdir()
        rows: list[dict[str, object]] = [
            {"path": "../a/x.mp4", "score": 1},
            {"path": "../b/x.mp4", "score": 2},
        ]
        scores = ScoresFile(write(tmp_path / "lists" / "s.csv", rows))
        assert scores_of(scores, str(tmp_path / "b" / "x.mp4")) == [2]

    def test_an_id_with_a_dot_has_no_suffix(self, tmp_path: Path) -> None:
        scores = ScoresFile(write(tmp_path / "s.csv", [{"vid": "clip_t_20.0", "mos": 4}]))
        assert scores_of(scores, "/videos/clip_t_20.0.mp4") == [4]

    def test_distorted_versions_have_no_row(self, tmp_path: Path) -> None:
        scores = ScoresFile(write(tmp_path / "s.csv", [{"path": "x", "score": 1}]))
        assert list(scores.annotate([Request(VIDEOS[0], DISTORTIONS["jpeg"], 1)])) == []

    @pytest.mark.parametrize(
        ("paths", "videos", "message"),
        [
            (["x.mp4"], VIDEOS, r"no score for 2 of 3 videos, the first being .*y\.mp4; .* partial"),
            (["c/x.mp4", "d/x.mp4"], VIDEOS[:1], "2 names that fit"),
            (["x"], [VIDEOS[0], Video("4", "/videos/c/x.mp4")], "fits 2 different videos"),
        ],
    )
    def test_videos_without_one_row_are_one_sentence(
        self, tmp_path: Path, paths: list[str], videos: list[Video], message: str
    ) -> None:
        scores = ScoresFile(write(tmp_path / "s.csv", [{"path": path, "score": 1} for path in paths]))
        with pytest.raises(InputError, match=message):
            list(scores.annotate([Request(video) for video in videos]))

    def test_a_partial_file_scores_what_it_has(self, tmp_path: Path) -> None:
        rows: list[dict[str, object]] = [{"path": "y.mp4", "score": 2}, {"path": "other.mp4", "score": 1}]
        scores = ScoresFile(write(tmp_path / "s.csv", rows), partial=True)
        assert [row.video_id for row in scores.annotate([Request(video) for video in VIDEOS])] == ["2"]
        with pytest.raises(InputError, match="no score for 2 of 2 videos"):
            scores.match([VIDEOS[0], VIDEOS[2]])


class TestPrepared:
    """Which row is whose is known of all videos together, whoever asks for how many of them."""

    @pytest.fixture
    def scores(self, tmp_path: Path) -> ScoresFile:
        """A row that is a/x.mp4's by its path and would be b/x.mp4's by name, were that one alone."""
        path = write(tmp_path / "s.csv", [{"path": "a/x.mp4", "score": 1}])
        scores = ScoresFile(path, partial=True)
        scores.prepare(self.videos)
        return scores

    videos = (Video("1", "/videos/a/x.mp4"), Video("2", "/videos/b/x.mp4"))

    def test_a_second_call_with_fewer_requests_finds_the_same(self, scores: ScoresFile) -> None:
        assert [row.video_id for row in scores.annotate([Request(video) for video in self.videos])] == ["1"]
        assert [row.video_id for row in scores.annotate([Request(self.videos[0])])] == ["1"]
        assert list(scores.annotate([Request(self.videos[1])])) == []

    def test_ranks_and_repeated_runs_find_the_same(self, scores: ScoresFile, tmp_path: Path) -> None:
        store = LabelStore(tmp_path / "labels")
        requests = [Request(video) for video in self.videos]
        for run in range(2):
            done = [annotate_missing(scores, requests, store, 0, rank=r, world_size=2) for r in range(2)]
            assert done == ([1, 0] if run == 0 else [0, 0])
        assert store.have(0, scores.fingerprint) == {("1", None, 0)}

    def test_another_video_is_refused(self, scores: ScoresFile) -> None:
        with pytest.raises(InputError, match=r"matched to other videos than /videos/c/x\.mp4; .*\.$"):
            list(scores.annotate([Request(Video("3", "/videos/c/x.mp4"))]))

    def test_that_none_has_a_row_is_said_of_all(self, tmp_path: Path) -> None:
        scores = ScoresFile(write(tmp_path / "s.csv", [{"path": "q.mp4", "score": 1}]), partial=True)
        with pytest.raises(InputError, match="no score for 2 of 2 videos"):
            scores.prepare(self.videos)


class TestFingerprint:
    def test_a_distance_is_turned_and_has_its_own(self, tmp_path: Path) -> None:
        path = write(tmp_path / "niqe.csv", [{"name": "x.mp4", "score": 4.5}])
        quality, distance = ScoresFile(path), ScoresFile(path, higher_is_better=False)
        (row,) = distance.annotate([Request(VIDEOS[0])])
        assert row.score == -4.5
        assert math.isnan(row.stderr)
        assert quality.fingerprint != distance.fingerprint

    def test_it_is_that_of_the_rows(self, tmp_path: Path) -> None:
        rows: list[dict[str, object]] = [{"path": "x.mp4", "score": 1}, {"path": "y.mp4", "score": 3}]
        path = write(tmp_path / "scores.csv", rows)
        first = ScoresFile(path).fingerprint
        (tmp_path / "moved").mkdir()
        assert ScoresFile(path.rename(tmp_path / "moved" / "scores.csv")).fingerprint == first
        assert ScoresFile(write(path, rows[::-1])).fingerprint == first
        assert ScoresFile(write(path, [rows[0], {"path": "y.mp4", "score": 2}])).fingerprint != first


class TestWrongFiles:
    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            (
                "s.csv",
                "clip,mark\nx.mp4,1",
                "must have one of the columns path, .*; got the columns clip, mark: ",
            ),
            ("s.csv", "path,mark\nx.mp4,1", "got the columns path, mark: .* by name_column and score_column"),
            ("s.csv", "", "got no rows"),
            ("s.csv", "path,score\n", "got no rows"),
            ("s.csv", "path,score\nx.mp4,good", "score of x.mp4 in .* must be a finite number; got 'good'"),
            ("s.csv", "path,score\nx.mp4,nan", "score of x.mp4 in .*; got 'nan'"),
            ("s.csv", "path,score\nx.mp4", "score of x.mp4 in .*; got None"),
            ("s.csv", "path,score,stderr\nx.mp4,1,-1", "stderr of x.mp4 in .*; got '-1'"),
            ("s.csv", "path,score\nx.mp4,1\nx.mp4,1", "names x.mp4 twice"),
            ("s.csv", "path,score\n,1", "a row without a name, number 1"),
            ("s.json", '{"x.mp4": 1}', "is not a list of rows"),
            ("s.json", "[", "cannot be read"),
            ("s.parquet", "PAR1", "cannot be read"),
            ("s.xlsx", "", "got the suffix '.xlsx'"),
        ],
    )
    def test_are_one_sentence(self, tmp_path: Path, name: str, text: str, message: str) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=message) as caught:
            ScoresFile(tmp_path / name)
        assert "\n" not in str(caught.value)

    def test_an_absent_file_is_one_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="cannot be read"):
            ScoresFile(tmp_path / "absent.csv")

    def test_a_column_that_is_not_there(self, tmp_path: Path) -> None:
        path = write(tmp_path / "s.csv", [{"path": "x.mp4", "score": 1}])
        with pytest.raises(InputError, match=r"must have .* and the column 'MOS'"):
            ScoresFile(path, score_column="MOS")


class TestLayouts:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("s.json", '{"annotations": [{"image_id": "x,].mp4", "score": "3.5",},],}'),
            ("s.json", '[{"image_id": "x,].mp4", "score": 3.5},\n]'),
            ("s.csv", 'Filename, MOS\n"x,].mp4", 3.5\n'),
            ("s.txt", '"x,].mp4", 3.5\n'),
            ("s.csv", '"x,].mp4", -1, -1, 3.5\n'),
        ],
    )
    def test_trailing_commas_spaces_quotes_and_absent_headers(
        self, tmp_path: Path, name: str, text: str
    ) -> None:
        (tmp_path / name).write_text(text)
        assert scores_of(ScoresFile(tmp_path / name), "/videos/x,].mp4") == [3.5]
