"""Pair tables to the released layout and back, through the real command line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.corpus import build_corpus, videos
from datamodules.pairs import PAIR_SCHEMA
from vqa_lightning.cli import main


def test_export_and_import(
    small_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    refused: Callable[..., str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first, second = (video.video_id for video in videos(build_corpus(small_corpus))[:2])
    plain = {
        "first": first,
        "second": second,
        "draw_first": 1,
        "draw_second": 2,
        "distortions_first": [],
        "distortions_second": [],
        "source": "teacher",
        "hard": False,
        "margin": 1.5,
        "levels": [0.0, 0.0, 0.25, 0.5, 0.25],
    }
    blurred = plain | {"second": first, "distortions_second": [{"name": "gaussian_blur", "level": 3}]}
    table = pa.Table.from_pylist([plain, blurred], schema=PAIR_SCHEMA)
    pq.write_table(table, "round-0.parquet")

    corpus = str(small_corpus)
    main(["pairs", "export", "--pairs", "round-0.parquet", "--output", "pairs.json", "--videos", corpus])
    assert "1 pairs written, 1 with a distorted side left out" in capsys.readouterr().out
    (row,) = json.loads(Path("pairs.json").read_text())
    assert row["image"] == ["content_000.mp4", "content_001.mp4"]

    moved = shutil.copytree(small_corpus, tmp_path / "elsewhere")
    main(["pairs", "import", "--released", "pairs.json", "--output", "back.parquet", "--videos", str(moved)])
    assert pq.read_table("back.parquet").equals(table.slice(0, 1))

    absent = ["pairs", "export", "--pairs", "absent.parquet", "--output", "x.json", "--videos", corpus]
    assert "absent.parquet cannot be read" in refused(main, absent)
