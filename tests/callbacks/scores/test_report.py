from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from callbacks.scores.report import draw_seconds, print_scores, require_one
from datamodules.errors import InputError

GOOD = {"path": "a/[red]x.mp4", "score": 73.25, "stderr": 2.0, "status": "ok", "error": "", "model": "m"}
BAD = {
    "path": "a/y.mp4",
    "score": None,
    "stderr": None,
    "status": "error",
    "error": "a/y.mp4 has no video stream.",
    "model": "m",
}


class TestPrinted:
    def test_names_scores_and_reasons_stand_in_eighty_columns(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        print_scores([GOOD, BAD, {**GOOD, "path": f"{'long' * 30}.mp4", "score": 250.0}])
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        (good,) = [line for line in lines if "[red]x.mp4" in line]
        assert "73.2" in good
        assert 0 < good.count("█") < 30
        assert any("y.mp4" in line and "has no video stream." in line for line in lines)

    def test_the_human_scale_has_a_column_where_there_is_one(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        print_scores([{**GOOD, "calibrated": 4.125}, {**BAD, "calibrated": None}])
        printed = capsys.readouterr().out
        assert "calibrated" in printed
        assert "4.12" in printed


def test_only_failures_are_an_error() -> None:
    require_one([GOOD, BAD])
    with pytest.raises(InputError, match=r"not one of 2 videos could be read; the first: a/y\.mp4 has no"):
        require_one([BAD, BAD])


class TestPictures:
    @staticmethod
    def rows(path: str, scores: list[float | None]) -> list[dict[str, object]]:
        return [
            {"path": path, "start": float(k), "end": k + 1.0, "score": score, "stderr": score and 2.0}
            for k, score in enumerate(scores)
        ]

    def test_one_a_video_under_its_name(self, tmp_path: Path) -> None:
        rows = self.rows("in/a/x.mp4", [40.0, 60.0]) + self.rows("in/b/x.mp4", [None, 20.0])
        draw_seconds(tmp_path / "drawn", rows)
        found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
        assert found == ["drawn/a/x.mp4.png", "drawn/b/x.mp4.png"]
        for name in found:
            with Image.open(tmp_path / name) as picture:
                assert picture.width > picture.height
                assert np.asarray(picture.convert("L")).std() > 10

    def test_a_place_that_is_taken_is_one_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "drawn").touch()
        with pytest.raises(InputError, match="cannot be written"):
            draw_seconds(tmp_path / "drawn", self.rows("x.mp4", [1.0]))
