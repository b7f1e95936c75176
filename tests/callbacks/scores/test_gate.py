"""Gates: which files do not pass, by how much, and how sure that is."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pytest

from callbacks.scores.gate import Gate, GateClosed
from callbacks.scores.rows import write_rows
from callbacks.scores.table import SCHEMA
from datamodules.errors import InputError

MODEL = "RankingModule-0"


def row(path: str, score: float | None, stderr: float | None = 1.0, **more: Any) -> dict[str, Any]:
    error = "" if score is not None else f"{path} cannot be opened."
    status = "error" if score is None else "ok"
    return {
        "path": path,
        "score": score,
        "stderr": stderr,
        "status": status,
        "error": error,
        "model": MODEL,
        **more,
    }


@pytest.fixture(params=[".csv", ".jsonl", ".parquet"])
def baseline(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    file = tmp_path / f"before{request.param}"
    write_rows(file, [row("old/a.mp4", 60.0), row("b.mp4", 60.0), row("c.mp4", None, None)], SCHEMA)
    return str(file)


class TestLimits:
    def test_a_lower_score_is_named_with_by_how_much_and_how_sure(self) -> None:
        found = Gate(["40"]).faults([row("a.mp4", 38.0), row("b.mp4", 40.0)])
        assert found == {"a.mp4": ["score 38.0 is 2.0 below 40 (below it with probability .98)"]}

    def test_of_other_columns(self) -> None:
        rows = [row("a.mp4", 90.0, p5=34.0, p5_stderr=2.0, percentile=3.0)]
        assert Gate(["p5:35", "percentile:10"]).faults(rows)["a.mp4"] == [
            "p5 34.0 is 1.0 below 35 (below it with probability .69)",
            "percentile 3.0 is 7.0 below 10",
        ]

    def test_what_cannot_be_read_does_not_pass(self) -> None:
        assert Gate(["0"]).faults([row("a.mp4", None, None)]) == {"a.mp4": ["cannot be opened."]}

    def test_a_video_without_the_column_that_others_have_does_not_pass(self) -> None:
        rows = [row("a.mp4", 90.0, p5=50.0), row("b.mp4", 90.0), row("c.mp4", float("nan"))]
        found = Gate(["p5:35"]).faults(rows)
        assert found == {"b.mp4": ["has no p5"], "c.mp4": ["has no score"]}

    def test_a_column_that_is_not_there_is_a_mistake(self) -> None:
        with pytest.raises(InputError, match=r"^--fail-below p5 asks for .*give --data.score_every\.$"):
            Gate(["p5:35"]).faults([row("a.mp4", 50.0)])

    @pytest.mark.parametrize("text", ["", "forty", "stderr:3", "p5:", "40:p5", "nan", "p5:1:2"])
    def test_other_words_are_refused(self, text: str) -> None:
        with pytest.raises(InputError, match=r"^--fail-below must be a number .*; got "):
            Gate([text])


class TestBaseline:
    def test_a_drop_counts_where_it_is_larger_than_wanted_and_than_its_error(self, baseline: str) -> None:
        gate = Gate(baseline=baseline, max_drop=2.0)
        rows = [row("a.mp4", 57.0, 0.5), row("b.mp4", 57.0, 4.0), row("c.mp4", 10.0)]
        found = gate.faults(rows)
        assert found.keys() == {"a.mp4"}
        (said,) = found["a.mp4"]
        assert said.startswith("score 57.0 is 3.0 below the baseline's 60.0 (at most 2 wanted; lower with")
        assert Gate(baseline=baseline, max_drop=3.5).faults(rows) == {}
        less_sure = Gate(baseline=baseline, max_drop=2.0, confidence=0.6).faults(rows)
        assert less_sure.keys() == {"a.mp4", "b.mp4"}

    def test_of_another_model_is_refused(self, baseline: str) -> None:
        with pytest.raises(InputError, match=r"was written with RankingModule-0, not with other"):
            Gate(baseline=baseline).check_baseline("other", None)

    def test_errors_that_are_not_there_do_not_count(self, tmp_path: Path) -> None:
        file = tmp_path / "before.csv"
        write_rows(file, [row("a.mp4", 60.0, None), row("b.mp4", float("nan"))], SCHEMA)
        found = Gate(baseline=str(file)).faults([row("a.mp4", 50.0, float("nan")), row("b.mp4", 1.0)])
        assert found.keys() == {"a.mp4"}

    def test_of_another_pool_is_refused(self, tmp_path: Path) -> None:
        file, schema = (
            tmp_path / "before.csv",
            [*SCHEMA, *(pa.field(n, pa.float64()) for n in ("p5", "whole"))],
        )
        write_rows(file, [row("a.mp4", 40.0, p5=40.0, whole=60.0)], pa.schema(schema))
        gate = Gate(baseline=str(file))
        gate.check_baseline(MODEL, "p5")
        for pool in (None, "min"):
            with pytest.raises(InputError, match=r"was not written with"):
                gate.check_baseline(MODEL, pool)

    def test_of_other_files_is_refused(self, baseline: str) -> None:
        with pytest.raises(InputError, match=r"has none of the files"):
            Gate(baseline=baseline).faults([row("d.mp4", 57.0)])

    @pytest.mark.parametrize("text", [None, "", "a,b\n1,2\n", "path,score\n"])
    def test_that_is_none_is_refused_before_anything_is_scored(
        self, tmp_path: Path, text: str | None
    ) -> None:
        file = tmp_path / "none.csv"
        if text is not None:
            file.write_text(text)
        with pytest.raises(InputError, match=r"^--baseline .*none.csv (is no file|has no row)"):
            Gate(baseline=str(file))

    def test_is_read_before_anything_is_written(self, baseline: str) -> None:
        gate = Gate(baseline=baseline)
        Path(baseline).unlink()
        assert gate.faults([row("b.mp4", 57.0)]).keys() == {"b.mp4"}

    def test_a_largest_drop_needs_one(self) -> None:
        with pytest.raises(InputError, match=r"^--max-drop needs a --baseline"):
            Gate(max_drop=1.0)


def test_what_did_not_pass_is_told_and_written_for_ci(tmp_path: Path) -> None:
    file = tmp_path / "junit.xml"
    odd = 'a "b" <c> & \x1b.mp4'
    with pytest.raises(GateClosed, match=r"1 of 2 files did not pass$"):
        Gate(["40"], junit=str(file)).check([row(odd, 38.0), row("b.mp4", 45.0)])
    (suite,) = ElementTree.parse(file).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [case.get("name") for case in suite] == ['a "b" <c> & \\x1b.mp4', "b.mp4"]
    assert len(suite[0]) == 1


def test_without_a_gate_all_pass_and_ci_is_told(tmp_path: Path) -> None:
    file = tmp_path / "junit.xml"
    Gate(junit=str(file)).check([row("a.mp4", None, None)])
    assert 'failures="0"' in file.read_text()
    with pytest.raises(
        InputError, match=r"^--junit .* must be a file in a folder that exists and can be written to"
    ):
        Gate(junit=str(tmp_path / "no" / "junit.xml"))


def test_a_number_of_a_config_is_a_limit() -> None:
    assert Gate(40).limits == Gate("40").limits == Gate([40.0]).limits
