"""What a folder, a pattern or a manifest means: each file once, and nothing left out unsaid."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from datamodules.corpus import build_corpus
from datamodules.corpus.listing import list_entries
from datamodules.errors import InputError
from datamodules.names import name_of


def listed(place: Path | str, root: Path) -> list[str]:
    return [Path(entry.name).relative_to(name_of(root)).as_posix() for entry in list_entries(str(place))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an own video, links to files and folders inside and outside, and loops."""
    place = tmp_path / "videos"
    (place / "own").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for file in ("videos/own/a.mp4", "elsewhere/b.MKV", "c.mp4"):
        (tmp_path / file).write_bytes(b"x")
    (place / "again.mp4").symlink_to("own/a.mp4")
    (place / "linked").symlink_to("../elsewhere")
    (place / "before_own").symlink_to("own")
    (place / "own" / "loop").symlink_to("..")
    (place / "up").symlink_to(tmp_path)
    (place / "c.mp4").symlink_to("../c.mp4")
    return place


class TestFolder:
    def test_links_are_followed_once(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        assert listed(folder, folder) == ["c.mp4", "linked/b.MKV", "own/a.mp4"]
        assert caplog.messages == [
            f"{folder}: 4 links to what is there already (before_own, up, loop, ...) left out"
        ]

    def test_what_is_no_video_is_counted_and_named(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for name in ("a.3g2", "b.m2v", "c.MP4", "notes.txt", "x.srt", ".hidden.mp4", "README"):
            (tmp_path / name).touch()
        assert listed(tmp_path, tmp_path) == ["a.3g2", "b.m2v", "c.MP4"]
        assert caplog.messages == [
            f"{tmp_path}: 1 hidden file or folder (.hidden.mp4), 3 files of other kinds (README, .txt, .srt) "
            "left out"
        ]

    def test_without_videos_says_what_there_is(self, tmp_path: Path) -> None:
        (tmp_path / "a.xyz").touch()
        with pytest.raises(InputError, match=r"holds no videos \(1 file of another kind \(\.xyz\)\); give"):
            list_entries(str(tmp_path))

    def test_one_that_is_closed_is_named(self, closed: Path, caplog: pytest.LogCaptureFixture) -> None:
        assert listed(closed, closed) == ["a.mp4"]
        assert caplog.messages == [f"{closed}: 1 folder that cannot be read (inner) left out"]
        with pytest.raises(InputError, match=r"inner cannot be read \(Permission denied\)"):
            list_entries(str(closed / "inner"))

    def test_a_broken_link_a_pipe_and_an_empty_file_have_rows(self, tmp_path: Path, own_cache: None) -> None:
        (tmp_path / "broken.mp4").symlink_to("gone.mp4")
        (tmp_path / "self.mp4").symlink_to("self.mp4")
        (tmp_path / "empty.mp4").touch()
        os.mkfifo(tmp_path / "pipe.mp4")
        errors = build_corpus(tmp_path, progress=False)["error"].to_pylist()
        told = [
            "is missing",
            "is empty: it has 0 bytes",
            "is not a file",
            "Too many levels of symbolic links",
        ]
        assert all(part in error for part, error in zip(told, errors, strict=True))


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder with a video and a folder that nobody but root may read, seen by another user."""
    place = Path(tempfile.mkdtemp())
    (place / "a.mp4").touch()
    (place / "inner").mkdir()
    place.chmod(0o755)
    (place / "inner").chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield place
    if root:
        os.seteuid(0)
    (place / "inner").chmod(0o700)
    shutil.rmtree(place)


def test_a_pattern_gives_each_file_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert listed(f"{folder}/*", folder) == ["again.mp4", "c.mp4"]
    assert caplog.messages == [f"{folder}/*: 4 folders (before_own, linked, own, ...) left out"]
    assert listed(f"{folder}/*/*.*", folder) == ["linked/b.MKV", "own/a.mp4", "up/c.mp4"]


def test_whatever_is_raised_of_one_file_is_its_row(
    mixed_corpus: Path, own_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datamodules.video.readers import FileReader

    before = FileReader.survey

    def breaks(reader: FileReader) -> object:
        if reader.path.endswith("video-1.mp4"):
            raise IndexError("list index\nout of range")
        return before(reader)

    monkeypatch.setattr(FileReader, "survey", breaks)
    corpus = build_corpus(f"{mixed_corpus}/video-[012].mp4", progress=False)
    assert corpus["status"].to_pylist() == ["ok", "error", "ok"]
    assert corpus["error"][1].as_py() == f"{mixed_corpus}/video-1.mp4 cannot be read: list index."


RAW = b"caf\xe9.mp4"


class TestManifest:
    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("m.csv", b"path,n\ncaf\xe9.mp4,1\n"),
            ("m.csv", b"path\ncaf\\xe9.mp4\n"),
            ("m.csv", b"\xef\xbb\xbf path ,\r\ncaf\\xE9.mp4,\r\n"),
            ("m.txt", b"\ncaf\xe9.mp4\r\n"),
            ("m.jsonl", b'{"path": "caf\\\\xe9.mp4"}\n'),
            ("m.jsonl", b'{"path": "caf\\udce9.mp4"}\n'),
            ("m.json", json.dumps([{"path": RAW.decode(errors="surrogateescape")}]).encode()),
        ],
    )
    def test_names_any_file(self, tmp_path: Path, name: str, data: bytes) -> None:
        (tmp_path / name).write_bytes(data)
        (entry,) = list_entries(str(tmp_path / name))
        assert entry.name == name_of(tmp_path) + r"/caf\xe9.mp4"
        assert entry.file is not None
        assert os.fsencode(entry.file.name) == RAW

    def test_of_parquet_may_have_bytes(self, tmp_path: Path) -> None:
        file = tmp_path / os.fsdecode(b"m\xe9.parquet")
        with file.open("wb") as stream:
            pa.parquet.write_table(pa.table({"path": [RAW]}), stream)
        (entry,) = list_entries(str(file))
        assert entry.file is not None
        assert os.fsencode(entry.file.name) == RAW

    def test_of_dates_and_numbers_keeps_them_as_texts(self, tmp_path: Path) -> None:
        rows = ['{"path": "a.mp4", "content": "2020-01-01"}', '{"path": "b.mp4", "content": "007"}']
        for count in (1, 2):
            (tmp_path / "m.jsonl").write_text("\n".join(rows[:count]))
            assert list_entries(str(tmp_path / "m.jsonl"))[0].content == "2020-01-01"

    def test_an_address_has_a_row_of_its_own(self, tmp_path: Path, own_cache: None) -> None:
        (tmp_path / "m.csv").write_text("path\nhttps://example.com/a.mp4\n")
        corpus = build_corpus(tmp_path / "m.csv", progress=False)
        assert corpus["path"].to_pylist() == ["https://example.com/a.mp4"]
        assert (
            corpus["error"][0].as_py().startswith("https://example.com/a.mp4 is an address, and only files")
        )
        with pytest.raises(InputError, match=r"^rtsp://camera/1 is an address, and only files are read"):
            list_entries("rtsp://camera/1")

    @pytest.mark.parametrize(
        ("name", "text", "told"),
        [
            ("m.csv", "path,path\na.mp4,b.mp4\n", "must name each column once; got path, path"),
            ("m.csv", "path,content\na.mp4,x\n,y\nb.mp4,z\n", "a path in each row; got none in row 2"),
            ("m.csv", 'path\n" "\n', "a path in each row; got none in row 1"),
            ("m.csv", "path,content\na.mp4,x\nb.mp4,x,y\n", "row 2 has 3 cells under 2 columns"),
            ("m.csv", "path;content\na.mp4;x\n", "must have a column path; got path;content"),
            ("m.csv", ",,path\n1,2,a.mp4\n", "must name each column once"),
            (
                "m.csv",
                "path,split\na.mp4,\nb.mp4,Train\n",
                "must hold train, select, report or nothing; got 'Train' in row 2",
            ),
            ("m.jsonl", '{"path": "a"}\n{"path": 3}\n', "column path is of another kind in row 2"),
            ("m.jsonl", '{"path": "a"}\n{"path":\n', "line 2: "),
            ("m.jsonl", '{"path": "a", "path": "b"}\n', "the key path twice"),
            ("m.jsonl", '{"path": {"a": 1}}\n', "must hold text; got struct"),
            ("m.json", '{"path": "a"}', "no list of rows"),
            ("m.json", "[" * 100_000, "nested too deeply"),
            ("m.json", '[{"path": true}]', "must hold text; got bool"),
            ("m.txt", "\n \n", "a row for each video; got no rows"),
        ],
    )
    def test_a_fault_is_one_sentence(self, tmp_path: Path, name: str, text: str, told: str) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=rf"{name} .*{told}") as refused:
            list_entries(str(tmp_path / name))
        assert str(refused.value).endswith(".")
        assert "\n" not in str(refused.value)
