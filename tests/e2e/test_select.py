"""A corpus chosen by its statistics, through the real command line."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules.corpus import build_corpus, videos
from vqa_lightning.cli import main


def test_the_manifest_is_one_that_data_videos_takes(
    here: Path, small_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["select", "--videos", str(small_corpus / "manifest.csv"), "--count", "3", "--bins", "2"]
    main([*words, "--target", "uniform", "--output", "chosen.csv"])
    chosen = videos(build_corpus("chosen.csv"))
    assert len(chosen) == 3
    assert {Path(video.path).parent for video in chosen} == {small_corpus}
    assert "blockiness" in capsys.readouterr().out
    with Path("chosen.csv").open() as file:
        assert "content" in next(csv.reader(file))


def test_more_than_there_are_is_one_sentence(
    here: Path, small_corpus: Path, refused: Callable[..., str]
) -> None:
    words = ["select", "--videos", str(small_corpus), "--count", "9", "--target", "uniform"]
    assert "9" in refused(main, [*words, "--output", "chosen.csv"])
    assert not Path("chosen.csv").exists()
