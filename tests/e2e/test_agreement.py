"""Two score files against opinions and against each other, through the real command line."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vqa_lightning.cli import main


def write(path: Path, header: str, rows: list[tuple[str, float]]) -> Path:
    path.write_text("\n".join([header, *(f"{name},{value}" for name, value in rows)]) + "\n")
    return path


def test_agreement(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    generator = np.random.default_rng(0)
    mos = generator.uniform(1, 5, size=40)
    names = [f"clip_{index}" for index in range(40)]
    labels = write(tmp_path / "list.csv", "name,mos", list(zip(names, mos, strict=True)))
    paths = [f"/videos/{name}.mp4" for name in names]
    good = [*zip(paths, mos + 0.2 * generator.normal(size=40), strict=True), ("/videos/unlisted.mp4", 3.0)]
    poor = list(zip(paths[:38], -mos[:38] + 2 * generator.normal(size=38), strict=True))
    words = ["agreement", "--first", str(write(tmp_path / "good.csv", "path,score", good))]
    words += ["--second", str(write(tmp_path / "poor.csv", "path,score", poor)), "--labels", str(labels)]
    main([*words, "--lower_is_better", "[second]", "--draws", "30"])
    told = capsys.readouterr().out
    assert "38 videos" in told
    assert "good.csv, 1 not on the list" in " ".join(told.split())
    assert "Meng's z" in " ".join(told.split())
    assert max(map(len, told.splitlines())) <= 80

    (tmp_path / "list.csv").write_text("name,mos\nother,3\n")
    assert "Not one video of" in refused(main, words)


def test_gmad(mixed_corpus: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    paths = sorted(path.name for path in mixed_corpus.glob("*.mp4"))
    generator = np.random.default_rng(1)
    scores = [list(zip(paths, generator.normal(size=len(paths)), strict=True)) for _ in range(2)]
    first, second = (
        write(tmp_path / f"{name}.csv", "path,score", rows) for name, rows in zip("ab", scores, strict=True)
    )
    output = tmp_path / "sheet.png"
    words = ["gmad", "--first", str(first), "--second", str(second), "--count", "4", "--output", str(output)]
    words += ["--bins", "2"]
    main([*words, "--videos", str(mixed_corpus)])
    rows = list(csv.DictReader((tmp_path / "sheet.csv").open()))
    assert [row["attacker"] for row in rows] == ["a", "a", "b", "b"]
    assert all(float(row["first_lower"]) < float(row["first_higher"]) for row in rows[:2])
    assert all(float(row["second_lower"]) < float(row["second_higher"]) for row in rows[2:])
    picture = np.asarray(Image.open(output))
    assert picture.shape[1] > 2 * 300
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100  # frames of moving noise were drawn

    assert "would write its list over" in refused(main, [*words, "--output", str(tmp_path / "a.png")])
    assert "name their folder by --videos" in refused(main, words)
