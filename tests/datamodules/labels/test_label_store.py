import math
import re
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from datamodules.errors import InputError
from datamodules.labels import Annotation, LabelStore
from datamodules.labels.label_store import READ_SCHEMA, default_labels

ROWS = [
    Annotation("b", None, 0, 1.5, 0.25),
    Annotation("a", None, 0, 2.5, math.nan),
    Annotation("a", "jpeg", 3, -0.5, 0.5),
]


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return LabelStore(tmp_path / "labels")


class TestReading:
    def test_empty_store_gives_the_schema_and_is_not_made(self, store: LabelStore, tmp_path: Path) -> None:
        table = store.read()
        assert table.schema == READ_SCHEMA
        assert table.num_rows == 0
        assert store.have(0, "ab12") == set()
        assert not (tmp_path / "labels").exists()

    def test_rows_come_back_sorted_with_their_annotator(self, store: LabelStore) -> None:
        store.write(0, "niqe", "ab12", ROWS)
        assert [tuple(row.values()) for row in store.read().to_pylist()] == [
            ("a", "jpeg", 3, 0, None, -0.5, 0.5, 0, "niqe", "ab12"),
            ("a", None, 0, 0, None, 2.5, None, 0, "niqe", "ab12"),
            ("b", None, 0, 0, None, 1.5, 0.25, 0, "niqe", "ab12"),
        ]

    def test_rounds_annotators_and_fingerprints_are_apart(self, store: LabelStore) -> None:
        store.write(0, "niqe", "ab12", ROWS)
        store.write(0, "niqe", "cd34", ROWS[:1])
        store.write(0, "a-name-with-dashes", "ab12", ROWS[:1])
        store.write(2, "student", "ef56", ROWS[:2])
        assert store.read(round=0).num_rows == 5
        assert store.read(round=1).num_rows == 0
        assert store.read(annotator="niqe").num_rows == 4
        assert store.read(annotator="niqe", fingerprint="ab12").num_rows == 3
        assert store.read(annotator="a-name-with-dashes")["fingerprint"].to_pylist() == ["ab12"]
        assert store.have(0, "cd34") == {("b", None, 0)}
        assert store.have(2, "cd34") == set()

    def test_a_key_scored_twice_comes_once_whatever_the_order_of_parts(self, tmp_path: Path) -> None:
        again = [ROWS[0]._replace(score=9.0), *ROWS]
        there, back = LabelStore(tmp_path / "there"), LabelStore(tmp_path / "back")
        for store, ranks in ((there, (0, 1)), (back, (1, 0))):
            store.write(0, "niqe", "ab12", again[:2], rank=ranks[0])
            store.write(0, "niqe", "ab12", again[1:], rank=ranks[1])
        assert there.read().num_rows == 3
        assert there.read().equals(back.read())

    def test_half_written_parts_are_not_seen(self, store: LabelStore) -> None:
        part = Path(str(store.write(0, "niqe", "ab12", ROWS)))
        whole = part.read_bytes()
        # What a process killed while writing leaves behind.
        (part.parent / f".{part.name}.1234.tmp").write_bytes(whole[: len(whole) // 2])
        assert store.read().num_rows == 3
        assert len(store.have(0, "ab12")) == 3

    def test_a_damaged_part_is_one_sentence(self, store: LabelStore) -> None:
        part = Path(str(store.write(0, "niqe", "ab12", ROWS)))
        part.write_bytes(part.read_bytes()[:100])
        with pytest.raises(InputError, match=r"cannot be read .*remove it"):
            store.read()

    def test_segments_and_draws_do_not_count_as_the_whole_clip(self, store: LabelStore) -> None:
        store.write(0, "niqe", "ab12", [ROWS[0]._replace(segment=1), ROWS[0]._replace(video_id="c", draw=1)])
        assert store.have(0, "ab12") == {("c", None, 0)}
        assert store.read().num_rows == 2


class TestWriting:
    def test_the_same_rows_are_one_part_and_it_stays_as_it_is(self, store: LabelStore) -> None:
        path = store.write(0, "niqe", "ab12", ROWS)
        before = Path(str(path)).stat()
        assert store.write(0, "niqe", "ab12", ROWS) == path
        assert Path(str(path)).stat() == before
        assert store.write(0, "niqe", "ab12", ROWS, rank=1) != path
        assert store.write(0, "niqe", "ab12", ROWS[:2]) != path

    def test_the_layout_is_hive_and_says_where_it_comes_from(self, store: LabelStore, tmp_path: Path) -> None:
        store.write(3, "student", "ab12", ROWS, rank=2, settings={"draws": 4})
        (part,) = tmp_path.glob("labels/round=3/annotator=student-ab12/part-00002-*.parquet")
        metadata = pq.read_schema(part).metadata[b"provenance"].decode()
        for word in ('"annotator": "student"', '"fingerprint": "ab12"', '"draws": 4', '"version"', '"time"'):
            assert word in metadata
        assert not list(part.parent.glob(".*"))

    def test_nothing_to_write_writes_nothing(self, store: LabelStore, tmp_path: Path) -> None:
        assert store.write(0, "niqe", "ab12", []) is None
        assert not (tmp_path / "labels").exists()

    def test_any_fsspec_url(self) -> None:
        store = LabelStore("memory://labels-of-a-test")
        store.write(0, "niqe", "ab12", ROWS)
        assert store.read().num_rows == 3
        assert store.have(0, "ab12") == {("a", None, 0), ("b", None, 0), ("a", "jpeg", 3)}

    @pytest.mark.parametrize(
        "row",
        [
            ROWS[0]._replace(score=math.nan),
            ROWS[0]._replace(score=math.inf),
            ROWS[0]._replace(stderr=-1.0),
            ROWS[0]._replace(stderr=math.inf),
        ],
    )
    def test_scores_that_are_none_are_refused(self, store: LabelStore, row: Annotation) -> None:
        with pytest.raises(InputError, match="score and stderr of video b by niqe must be finite"):
            store.write(0, "niqe", "ab12", [row])

    @pytest.mark.parametrize(("name", "fingerprint"), [("a/b", "ab12"), ("", "ab12"), ("niqe", "../x")])
    def test_names_that_are_no_folder_are_refused(
        self, store: LabelStore, name: str, fingerprint: str
    ) -> None:
        with pytest.raises(InputError, match=r"annotator's (name|fingerprint) must be of"):
            store.write(0, name, fingerprint, ROWS)

    def test_an_unwritable_place_is_one_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        store = LabelStore(tmp_path / "file" / "labels")
        with pytest.raises(InputError, match=r"file/labels cannot be written to .*name another"):
            store.require_writable()
        with pytest.raises(InputError, match="cannot be written to"):
            store.write(0, "niqe", "ab12", ROWS)

    def test_an_unknown_protocol_is_one_sentence(self) -> None:
        with pytest.raises(InputError, match="nowhere://labels cannot be opened"):
            LabelStore("nowhere://labels")


WRITER = """
import math, resource, signal, sys
from datamodules.errors import InputError
from datamodules.labels import Annotation, LabelStore

folder, limit, fatal = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "True"
rows = [Annotation(f"v{index}", None, 0, math.sin(index), math.nan) for index in range(20000)]
if fatal:  # Python ignores the signal; by default the system kills inside write()
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    LabelStore(folder).write(0, "niqe", "cd34", rows)
except InputError as error:
    sys.exit(str(error))
"""


def write_elsewhere(folder: Path, *, limit: int, fatal: bool = False) -> subprocess.CompletedProcess[str]:
    """Have a process write a part of 20000 scores whose file may not grow over `limit` bytes."""
    command = [sys.executable, "-c", WRITER, str(folder), str(limit), str(fatal)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


class TestFailing:
    def test_no_room_for_a_part_is_one_sentence_and_loses_nothing(
        self, store: LabelStore, tmp_path: Path
    ) -> None:
        store.write(0, "niqe", "ab12", ROWS)
        # A limit on the size of files fails inside write() as a full disk does, with another number.
        failed = write_elsewhere(tmp_path / "labels", limit=50_000)
        assert failed.returncode == 1
        sentence = r"The label store .*/labels cannot be written to \(File too large\); name .* there\."
        assert re.fullmatch(sentence, failed.stderr.strip())
        assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".parquet"]
        assert store.read().num_rows == len(ROWS)
        assert store.write(0, "niqe", "cd34", ROWS[:1]) is not None

    def test_a_killed_writer_leaves_no_half_part_to_read(self, store: LabelStore, tmp_path: Path) -> None:
        store.write(0, "niqe", "cd34", ROWS)
        killed = write_elsewhere(tmp_path / "labels", limit=50_000, fatal=True)
        assert killed.returncode == -signal.SIGXFSZ
        (half,) = tmp_path.rglob(".part-*.tmp")
        assert half.stat().st_size == 50_000
        assert store.read().num_rows == len(store.have(0, "cd34")) == len(ROWS)
        store.write(0, "niqe", "cd34", [ROWS[0]._replace(video_id="c")])  # beside what the dead one left
        assert len(store.have(0, "cd34")) == len(ROWS) + 1


def test_shared_labels_lie_in_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_labels() == tmp_path / "vqa-lightning" / "labels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_labels() == tmp_path / ".cache" / "vqa-lightning" / "labels"
