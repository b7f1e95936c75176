import json
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from datamodules.errors import InputError
from datamodules.pairs import PAIR_SCHEMA
from datamodules.pairs.released import read_released, write_released
from datamodules.video import Video

EXAMPLE = Path(__file__).resolve().parents[3].parent / "shared/data/labels/w2s/example_pairs.json"
needs_example = pytest.mark.skipif(not EXAMPLE.is_file(), reason=f"the released example is not at {EXAMPLE}")

ROOT = Path("/videos")
VIDEOS = [Video(f"id{i}", f"/videos/batch{i % 2}/same {i // 2}.mp4") for i in range(6)]
RELEASED = (
    "yfcc-batch17/13478.mp4",
    "yfcc-batch9/6749.mp4",
    "yfcc-batch16/12591.mp4",
    "ia-batch24/youtube-VzGR9hsOd2U.mp4",
    "ia-batch15/youtube-MUWxCefFLqI.mp4",
    "ia-batch1/bratt2vt-Conversations_with_Daryl_-_In_Case_of_Emergency_6_30_11.mp4",
)


def table(*rows: dict[str, object]) -> pa.Table:
    blank: dict[str, object] = {
        "first": "id0",
        "second": "id3",
        "draw_first": 0,
        "draw_second": 0,
        "distortions_first": [],
        "distortions_second": [],
        "source": "human",
        "hard": False,
        "margin": None,
        "levels": [0.0, 1.0, 0.0, 0.0, 0.0],
    }
    return pa.Table.from_pylist([blank | row for row in rows], schema=PAIR_SCHEMA)


PAIRS = table(
    {},
    {
        "first": "id5",
        "second": "id4",
        "draw_first": 3,
        "draw_second": 7,
        "source": "teacher",
        "hard": True,
        "margin": -1.1,
        "levels": [0.04, 0.53, 0.42, 0.005, 0.005],
    },
    {"distortions_second": [{"name": "jpeg", "level": 2}], "source": "synthetic"},
)


@needs_example
class TestReleasedExample:
    videos = [Video(str(index), f"/lsvq/{path}") for index, path in enumerate(RELEASED)]

    def test_gives_all_its_pairs(self) -> None:
        pairs = read_released(EXAMPLE, self.videos)
        assert pairs.schema == PAIR_SCHEMA
        assert pairs["first"].to_pylist() == ["0", "2", "4"]
        assert pairs["second"].to_pylist() == ["1", "3", "5"]
        worse, similar = [0, 1, 0, 0, 0], [0, 0, 1, 0, 0]
        assert pairs["levels"].to_pylist() == [worse, worse, similar]

    def test_pairs_of_other_videos_are_counted_and_named(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            pairs = read_released(EXAMPLE, self.videos[2:5])
        assert pairs["first"].to_pylist() == ["2"]
        (record,) = caplog.records
        assert "2 of 3 pairs" in record.getMessage()
        assert "3 videos are not in the corpus, the first being yfcc-batch17/13478.mp4" in record.getMessage()

    def test_a_corpus_without_any_of_them_is_one_sentence(self) -> None:
        with pytest.raises(InputError, match=r"Not one of the 3 pairs .* no yfcc-batch17/13478.mp4"):
            read_released(EXAMPLE, VIDEOS)

    def test_is_written_as_it_was(self, tmp_path: Path) -> None:
        pairs = read_released(EXAMPLE, self.videos)
        assert write_released(pairs, self.videos, tmp_path / "out.json", Path("/lsvq")) == 0
        written = json.loads((tmp_path / "out.json").read_text())
        without_ours = [
            {key: value for key, value in row.items() if key != "vqa_lightning"} for row in written
        ]
        original = EXAMPLE.read_text().rstrip()
        assert without_ours == json.loads(original.removesuffix(",\n]") + "]")


class TestRoundTrip:
    def test_loses_nothing_but_pairs_with_a_distorted_side(self, tmp_path: Path) -> None:
        assert write_released(PAIRS, VIDEOS, tmp_path / "out.json", ROOT) == 1
        assert read_released(tmp_path / "out.json", VIDEOS).equals(PAIRS.slice(0, 2))

    def test_another_place_of_the_videos_does_not_matter(self, tmp_path: Path) -> None:
        write_released(PAIRS, VIDEOS, tmp_path / "out.json", ROOT)
        moved = [Video(video.video_id, video.path.replace("/videos", "/other/disk")) for video in VIDEOS]
        assert len(read_released(tmp_path / "out.json", moved)) == 2

    def test_the_released_reader_finds_the_likeliest_level(self, tmp_path: Path) -> None:
        write_released(PAIRS, VIDEOS, tmp_path / "out.json", ROOT)
        row = json.loads((tmp_path / "out.json").read_text())[1]
        assert row["image"] == ["batch1/same 2.mp4", "batch0/same 2.mp4"]
        assert row["frames per sec"] == 1
        assert [turn["from"] for turn in row["conversations"]] == ["human", "gpt"]
        assert row["conversations"][1]["value"] == (
            "The quality of the second video is worse to the first video."
        )

    def test_without_our_key_the_label_is_certain_and_needs_no_margin(self, tmp_path: Path) -> None:
        write_released(PAIRS, VIDEOS, tmp_path / "out.json", ROOT)
        rows = json.loads((tmp_path / "out.json").read_text())
        (tmp_path / "plain.json").write_text(json.dumps([row | {"vqa_lightning": {}} for row in rows]))
        pairs = read_released(tmp_path / "plain.json", VIDEOS)
        assert pairs["levels"].to_pylist() == [[0, 1, 0, 0, 0]] * 2
        assert pc.unique(pairs["source"]).to_pylist() == ["human"]
        assert pairs["margin"].null_count == 2


class TestBadInput:
    def test_a_video_that_is_not_in_the_corpus(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="name the video id3"):
            write_released(PAIRS, VIDEOS[:2], tmp_path / "out.json", ROOT)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="cannot be written to"):
            write_released(PAIRS, VIDEOS, tmp_path / "no" / "out.json", ROOT)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[", "cannot be read"),
            ("{}", "are not a list"),
            ("[]", "empty list"),
            ('[{"image": ["a.mp4"], "conversations": []}]', "Entry 1 of .* is no pair"),
            (
                '[{"image": ["a", "b"], "conversations": '
                '[{"from": "gpt", "value": "The quality of the second video is fine to the first video."}]}]',
                "Entry 1 of .* is no pair",
            ),
        ],
    )
    def test_a_file_of_something_else(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "pairs.json").write_text(text)
        with pytest.raises(InputError, match=message):
            read_released(tmp_path / "pairs.json", VIDEOS)


@pytest.mark.parametrize(
    "own",
    [
        {"levels": [9, 9]},
        {"levels": [float("nan"), 1, 0, 0, 0]},
        {"levels": [-1, 2, 0, 0, 0]},
        {"draw_first": 10**30},
        {"margin": float("inf")},
        {"first": "another"},
    ],
)
def test_what_no_export_writes_is_named(own: dict[str, object], tmp_path: Path) -> None:
    write_released(table({}), VIDEOS, tmp_path / "pairs.json", ROOT)
    (entry,) = json.loads((tmp_path / "pairs.json").read_text())
    entry["vqa_lightning"] |= own
    (tmp_path / "pairs.json").write_text(json.dumps([entry]))
    with pytest.raises(InputError, match=rf"Entry 1 of .* no export writes, {next(iter(own))}: "):
        read_released(tmp_path / "pairs.json", VIDEOS)
