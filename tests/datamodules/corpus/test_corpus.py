"""The corpus on real folders, manifests and a cache that must notice changes."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from datamodules.corpus import assign_splits, build_corpus, videos
from datamodules.corpus.table import SCHEMA
from datamodules.errors import InputError
from datamodules.files import cache_folder

DATA = Path(__file__).resolve().parents[3].parent / "shared/data"
NAMES = ["carphone_distorted.mp4", "carphone_pristine.mp4", "nasa_13013.mp4", "w2s_anchor_1.mp4"]

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real clips under ../shared/data are absent")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/vqa-lightning"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four clips, one in a subfolder, beside a text, a hidden copy and a broken file."""
    place = tmp_path / "videos"
    (place / "more").mkdir(parents=True)
    (place / ".hidden").mkdir()
    for name in NAMES:
        shutil.copyfile(DATA / "clips" / name, place / ("more" if "nasa" in name else ".") / name)
    shutil.copyfile(DATA / "clips" / NAMES[0], place / ".hidden" / NAMES[0])
    shutil.copyfile(DATA / "clips" / NAMES[0], place / f".{NAMES[0]}")
    (place / "broken.MP4").write_text("no video")
    (place / "notes.txt").write_text("no video")
    return place


def build(videos: str | Path) -> pa.Table:
    return build_corpus(videos, workers=2, progress=False)


def column(corpus: pa.Table, name: str) -> list[object]:
    values: list[object] = corpus[name].to_pylist()
    return values


def test_every_real_file_has_a_row() -> None:
    corpus = build(DATA / "edge")
    assert corpus.schema.equals(SCHEMA)
    assert column(corpus, "path") == [str(path) for path in sorted((DATA / "edge").iterdir())]
    assert set(column(corpus, "status")) == {"ok"}
    assert column(corpus, "content") == column(corpus, "video_id")
    assert len(videos(corpus)) == corpus.num_rows


def test_folder_is_searched_sorted_and_keeps_the_broken(folder: Path) -> None:
    corpus = build(folder)
    places = [Path(str(path)).relative_to(folder).as_posix() for path in column(corpus, "path")]
    assert places == ["broken.MP4", *NAMES[:2], "more/nasa_13013.mp4", "w2s_anchor_1.mp4"]
    assert column(corpus, "status") == ["error", "ok", "ok", "ok", "ok"]
    error = str(corpus["error"][0])
    assert "broken.MP4" in error
    assert error.endswith(".")
    assert [video.path for video in videos(corpus)] == column(corpus, "path")[1:]


def test_file_and_glob(folder: Path) -> None:
    assert build(folder / NAMES[0]).num_rows == 1
    assert build(f"{folder}/carphone_*.mp4").num_rows == 2
    assert build(f"{folder}/**/*.mp4").num_rows == 4
    odd = folder / "take[1].mp4"
    shutil.copyfile(folder / NAMES[0], odd)
    assert column(build(odd), "path") == [str(odd)]  # a file's name comes before a pattern's meaning


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_manifest_gives_order_content_and_split(folder: Path, suffix: str) -> None:
    manifest = folder / f"list.{suffix}"
    rows = {
        "path": ["more/nasa_13013.mp4", str(folder / NAMES[1]), NAMES[0], "gone.mp4", NAMES[0]],
        "content": ["007", "carphone", "carphone", "", "carphone"],
        "split": ["report", "", "", "", ""],
        "mos": ["1", "2", "3", "4", "5"],
    }
    if suffix == "csv":
        lines = [",".join(rows), *(",".join(row) for row in zip(*rows.values(), strict=True))]
        manifest.write_text("\n".join(lines), encoding="utf-8-sig")  # as spreadsheets write it, with a mark
    else:
        pa.parquet.write_table(pa.table(rows | {"split": ["report", None, None, None, None]}), manifest)
    corpus = build(manifest)
    assert [Path(str(path)).name for path in column(corpus, "path")] == [
        "nasa_13013.mp4", NAMES[1], NAMES[0], "gone.mp4", NAMES[0]
    ]  # fmt: skip
    assert column(corpus, "content") == ["007", "carphone", "carphone", "", "carphone"]
    assert column(corpus, "split") == ["report", "", "", "", ""]
    assert column(corpus, "status") == ["ok", "ok", "ok", "error", "ok"]
    assert "gone.mp4" in str(corpus["error"][3])
    assert corpus["video_id"][2] == corpus["video_id"][4]
    assert len(videos(corpus)) == 3


def test_manifest_with_paths_alone(folder: Path) -> None:
    (folder / "list.csv").write_text("path\n" + "\n".join(NAMES[:2]))
    corpus = build(folder / "list.csv")
    assert column(corpus, "content") == column(corpus, "video_id")
    assert column(corpus, "split") == ["", ""]


def test_mistakes_end_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    manifests = {
        "nameless.csv": "file\na.mp4\n",
        "none.csv": "path\n",
        "blank.csv": "",
        "split.csv": "path,split\na.mp4,training\n",
        "torn.parquet": "PAR",
    }
    for name, text in manifests.items():
        (tmp_path / name).write_text(text)
    for name in ("nowhere", "empty", "*.webm", *manifests):
        with pytest.raises(InputError) as caught:
            build(tmp_path / name)
        message = str(caught.value)
        assert name in message
        assert message.endswith(".")
        assert "\n" not in message


def test_cache_is_used_until_a_file_changes(folder: Path, cache: Path) -> None:
    """A file whose size and time are kept is not opened again, even though it holds something else."""
    assert cache_folder() == cache
    path = folder / NAMES[0]
    before = build(path)
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert build(path).equals(before)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert column(build(path), "status") == ["error"]
    shutil.copyfile(DATA / "clips" / NAMES[1], path)
    assert column(build(path), "status") == ["ok"]
    assert build(path)["video_id"] != before["video_id"]


def test_cached_rows_equal_probed_ones(folder: Path) -> None:
    assert build(folder).equals(build(folder))


def test_a_damaged_cache_is_made_again(folder: Path, cache: Path) -> None:
    corpus = build(folder)
    next(cache.glob("*.parquet")).write_text("damaged")
    assert build(folder).equals(corpus)
    assert build(folder).equals(corpus)


def test_two_writers_leave_a_whole_cache(folder: Path, cache: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        corpora = list(pool.map(build, [folder, folder / NAMES[0], folder / NAMES[1], folder]))
    assert corpora[0].equals(corpora[3])
    # No temporary file is left; the lock's own stays, for a waiting process may hold it.
    assert sorted(path.name for path in cache.iterdir()) == [".corpus.parquet.lock", "corpus.parquet"]
    assert pa.parquet.read_table(cache / "corpus.parquet").num_rows > 0


def test_an_unwritable_cache_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="XDG_CACHE_HOME"):
        build_corpus(folder, cache=tmp_path / "file/below", progress=False)


def synthetic(
    contents: list[str], splits: list[str] | None = None, statuses: list[str] | None = None
) -> pa.Table:
    rows = [
        {"video_id": f"v{index}", "path": f"{index}.mp4", "content": content, "error": "", "codec": "h264"}
        | {"width": 64, "height": 64, "fps": 25.0, "duration": 1.0, "interlaced": False}
        | {"split": splits[index] if splits else "", "status": statuses[index] if statuses else "ok"}
        for index, content in enumerate(contents)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def test_splits_are_by_content_in_the_asked_shares() -> None:
    corpus = synthetic([f"scene {index // 3}" for index in range(300)])
    divided = assign_splits(corpus)
    of_content = {c: s for c, s in zip(column(divided, "content"), column(divided, "split"), strict=True)}  # noqa: C416
    assert column(divided, "split") == [of_content[content] for content in column(divided, "content")]
    counts = [list(of_content.values()).count(split) for split in ("train", "select", "report")]
    assert counts == [50, 17, 33]
    assert divided.equals(assign_splits(corpus))
    assert not divided.equals(assign_splits(corpus, seed=1))
    assert [v.video_id for v in videos(divided, "select")] == [
        v.video_id for v in videos(divided) if v.split == "select"
    ]


def test_splits_hardly_move_when_the_corpus_grows() -> None:
    small = assign_splits(synthetic([f"scene {index}" for index in range(100)]))
    large = assign_splits(synthetic([f"scene {index}" for index in range(110)]))
    moved = sum(a != b for a, b in zip(column(small, "split"), column(large, "split"), strict=False))
    assert moved <= 20  # a cut moves by about its sampling error, sqrt(110) / 2 contents


def test_every_split_has_a_content_in_the_smallest_corpus() -> None:
    divided = assign_splits(synthetic(["a", "b", "c"]), shares=(0.98, 0.01, 0.01))
    assert sorted(column(divided, "split")) == ["report", "select", "train"]  # type: ignore[type-var]
    with pytest.raises(InputError, match=r"3 or more readable contents, .*; got 2\."):
        assign_splits(synthetic(["a", "b", "c"], statuses=["ok", "ok", "error"]))


def test_given_splits_stay_and_hold_for_their_content() -> None:
    corpus = synthetic(
        ["a", "a", "b", "c", "d", "e"],
        splits=["report", "", "", "", "train", ""],
        statuses=["ok", "ok", "ok", "ok", "ok", "error"],
    )
    splits = column(assign_splits(corpus), "split")
    assert splits[:2] == ["report", "report"]
    assert splits[4:] == ["train", ""]
    assert "select" in splits[2:4]


@pytest.mark.parametrize(
    ("splits", "shares", "words"),
    [
        (["train", "report", "", ""], (0.5, 0.2, 0.3), "splits train and report"),
        (["train", "", "train", "train"], (0.5, 0.2, 0.3), "select and report"),
        (["", "", "", ""], (0.5, 0.5, 0.0), "shares"),
    ],
)
def test_impossible_splits_are_named(
    splits: list[str], shares: tuple[float, float, float], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        assign_splits(synthetic(["a", "a", "b", "c"], splits=splits), shares=shares)


def test_videos_are_readable_once_each_and_of_one_split() -> None:
    corpus = synthetic(list("abc"), splits=["train", "report", ""], statuses=["ok", "ok", "error"])
    copies = corpus.set_column(corpus.schema.get_field_index("path"), "path", pa.array(["x", "y", "z"]))
    twice = pa.concat_tables([corpus, copies])
    assert {(video.video_id, video.path) for video in videos(twice)} == {("v0", "0.mp4"), ("v1", "1.mp4")}
    assert [video.path for video in videos(twice, "train")] == ["0.mp4"]
    assert videos(twice, "select") == []
