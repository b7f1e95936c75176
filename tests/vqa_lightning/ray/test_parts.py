"""Parts of scores: whole or not at all, each video in one of them, and never mixed with another command's."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from callbacks.scores.table import SCHEMA, SECONDS_SCHEMA
from datamodules.errors import InputError
from vqa_lightning.ray.parts import VideoParts


def parts(output: str, **settings: object) -> VideoParts:
    return VideoParts(output, SCHEMA, SECONDS_SCHEMA, {"model": "one", **settings})


def row(path: str, error: str = "") -> dict[str, object]:
    score = None if error else 50.0
    status = "error" if error else "ok"
    return {"path": path, "score": score, "stderr": score, "status": status, "error": error, "model": "one"}


def interval(path: str, start: float) -> dict[str, object]:
    return {**row(path), "start": start, "end": start + 1}


@pytest.fixture(params=["local", "url"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "scores") if request.param == "local" else f"memory://{tmp_path.name}/scores"


def paths(table: pa.Table) -> list[str]:
    found: list[str] = table["path"].to_pylist()
    return found


class TestParts:
    def test_a_second_start_knows_what_has_a_score_and_forgets_what_has_none(self, output: str) -> None:
        first = parts(output)
        first.resume()
        first.write([row("a"), row("b", "b is missing.")], [interval("a", 0), interval("b", 0)])
        first.write([row("c", "c is missing.")], [])
        again = parts(output)
        again.resume()
        assert again.done.to_pylist() == ["a"]
        again.write([row("b"), row("c")], [interval("b", 0)])
        assert sorted(paths(again.videos.rows())) == ["a", "b", "c"]
        assert again.seconds is not None
        assert sorted(paths(again.seconds.rows())) == ["a", "b"]

    def test_intervals_of_a_part_that_was_never_finished_do_not_count(self, output: str) -> None:
        first = parts(output)
        first.resume()
        first.write([row("a")], [interval("a", 0)])
        assert first.seconds is not None
        lost = pa.Table.from_pylist([interval("b", 0)], SECONDS_SCHEMA)
        first.seconds.write("part-00001.parquet", lost)  # and then the command was killed
        again = parts(output)
        again.resume()
        again.write([row("b")], [interval("b", 0)])
        assert again.seconds is not None
        assert paths(again.seconds.rows()) == ["a", "b"]

    @pytest.mark.parametrize("model", ["one", "two"])
    def test_of_other_settings_are_refused(self, output: str, model: str) -> None:
        first = parts(output, pool=None)
        first.resume()
        first.write([row("a")], [])
        other = parts(output, pool="min") if model == "one" else parts(output, pool=None, model=model)
        told = "pool None, not min" if model == "one" else "model one, not two"
        with pytest.raises(InputError, match=f"scores was written with {told}: name another --output"):
            other.resume()


class TestLocalFolder:
    def test_has_nothing_unfinished_after_a_second_start(self, tmp_path: Path) -> None:
        (tmp_path / "scores").mkdir()
        (tmp_path / "scores" / ".part-00000.parquet.tmp").write_bytes(b"half")
        mine = parts(str(tmp_path / "scores"))
        mine.resume()
        mine.write([row("a")], [])
        assert [path.name for path in (tmp_path / "scores").iterdir()] == ["part-00000.parquet"]
        assert pq.read_table(tmp_path / "scores").to_pylist() == [row("a")]

    def test_with_a_part_of_something_else_is_refused(self, tmp_path: Path) -> None:
        for content in (b"no parquet", None):
            file = tmp_path / "part-00000.parquet"
            if content is None:
                pq.write_table(pa.table({"path": ["a"], "status": ["ok"]}), file)
            else:
                file.write_bytes(content)
            with pytest.raises(InputError, match="name another --output, or delete the folder"):
                parts(str(tmp_path)).resume()

    def test_that_is_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "scores").write_bytes(b"")
        with pytest.raises(InputError, match="scores cannot be written"):
            parts(str(tmp_path / "scores")).resume()
