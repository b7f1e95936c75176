import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from callbacks.scores.rows import Row, checked_output, read_rows, write_rows
from callbacks.scores.table import SCHEMA, Key, ScoreTable
from datamodules.errors import InputError
from datamodules.video import Video

ROWS = [
    {"path": f"{index}.mp4", "score": index / 7, "stderr": 0.5, "status": "ok", "error": "", "model": "m"}
    for index in range(20_000)
]


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """A disk that is full for whoever writes a file larger than this, root included."""
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN  # as Python sets it: an OSError, no signal
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestOutput:
    @pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
    def test_is_read_back_to_the_bit(self, tmp_path: Path, suffix: str) -> None:
        failed = {"path": 'a [1], "x".mp4', "score": None, "stderr": None, "status": "error"}
        rows = [*ROWS[:50], {**failed, "error": "It is gone.", "model": "m"}]
        write_rows(tmp_path / f"scores{suffix}", rows, SCHEMA)
        assert read_rows(tmp_path / f"scores{suffix}", SCHEMA) == rows

    @pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
    def test_a_full_disk_is_one_sentence_and_leaves_nothing(self, tmp_path: Path, suffix: str) -> None:
        output = tmp_path / f"scores{suffix}"
        with (
            files_end_at(4096),
            pytest.raises(InputError, match=rf"scores\{suffix} cannot be written \(.*File too large.*\); "),
        ):
            write_rows(output, ROWS, SCHEMA)
        assert not list(tmp_path.iterdir())
        write_rows(output, ROWS, SCHEMA)
        assert list(tmp_path.iterdir()) == [output]

    def test_a_folder_that_took_its_name_is_one_sentence(self, tmp_path: Path) -> None:
        output = tmp_path / "scores.parquet"
        output.mkdir()
        with pytest.raises(InputError, match=r"scores\.parquet cannot be written \(Is a directory\)"):
            write_rows(output, ROWS[:1], SCHEMA)
        assert list(tmp_path.iterdir()) == [output]
        output.rmdir()
        write_rows(output, ROWS[:1], SCHEMA)
        assert pq.read_table(output).to_pylist() == ROWS[:1]

    def test_is_refused_before_the_scoring(self, tmp_path: Path) -> None:
        (tmp_path / "folder.csv").mkdir()
        for output, message in (("folder.csv", "is a folder"), ("absent/a.csv", "does not exist")):
            with pytest.raises(InputError, match=message):
                checked_output(str(tmp_path / output))
        # Root may write anywhere but where the system itself says no.
        with pytest.raises(InputError, match=r"cannot be written to \(.+\): name another place\.$"):
            checked_output("/proc/self/task/scores.csv")


class TestJournal:
    WANTED: dict[Key, Video] = {(f"{index}.mp4",): Video(str(index), f"{index}.mp4") for index in range(200)}

    def resumed(self, folder: Path) -> ScoreTable:
        table = ScoreTable(folder / "scores.csv", SCHEMA, ["path"])
        table.resume("m", self.WANTED)
        return table

    @staticmethod
    def rows(indices: range) -> list[Row]:
        return [{**ROWS[index], "video_id": str(index)} for index in indices]

    def test_a_full_disk_is_one_sentence_and_the_next_run_goes_on(self, tmp_path: Path) -> None:
        table = self.resumed(tmp_path)
        table.open(0)
        table.append(self.rows(range(10)))
        with files_end_at(2500), pytest.raises(InputError, match=r"\.m\.0 cannot be written \(File too"):
            table.append(self.rows(range(10, 200)))
        (journal,) = tmp_path.iterdir()
        assert not journal.read_text().endswith("\n")  # what this is about
        table = self.resumed(tmp_path)
        before = len(table.rows)
        assert 10 <= before < 200
        table.open(0)
        table.append(self.rows(range(before, 200)))
        table.close()
        rows = table.collect(self.WANTED)
        assert [row["score"] for row in rows] == [row["score"] for row in ROWS[:200]]
        table.write(rows)
        assert list(tmp_path.iterdir()) == [tmp_path / "scores.csv"]

    def test_a_file_with_other_content_counts_as_new(self, tmp_path: Path) -> None:
        table = self.resumed(tmp_path)
        table.open(0)
        table.append([{**self.rows(range(1))[0], "video_id": "what it was before"}, *self.rows(range(1, 2))])
        table.close()
        assert list(self.resumed(tmp_path).rows) == [("1.mp4",)]

    def test_ranks_have_journals_of_their_own(self, tmp_path: Path) -> None:
        tables = [self.resumed(tmp_path) for _ in range(2)]
        for rank, table in enumerate(tables):
            table.open(rank)
            table.append(self.rows(range(rank, 4, 2)))
            table.close()
        rows = tables[0].collect(self.WANTED)
        assert [row["path"] for row in rows] == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]

    def test_holds_whole_lines(self, tmp_path: Path) -> None:
        table = self.resumed(tmp_path)
        table.open(0)
        table.append(self.rows(range(3)))
        table.close()
        (journal,) = tmp_path.iterdir()
        paths = [json.loads(line)["path"] for line in journal.read_text().splitlines()]
        assert paths == ["0.mp4", "1.mp4", "2.mp4"]
