"""Corpora annotated by teachers, through the real command line."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from vqa_lightning.cli import main

ON_CPU = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]

COUNTS_ITS_VIDEOS = """
from datamodules import Laplacian

class Counting(Laplacian):
    batch_clips = 2

    def score(self, clips):
        with open("counted", "a") as file:
            file.write("x" * (len(clips) // self.sampling.segments))
        return super().score(clips)
"""


@pytest.fixture
def mixed(small_corpus: Path, tmp_path: Path) -> Path:
    """Three videos, one of them twice, one broken file, and one of another size."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name, source in (("a", 0), ("b", 1), ("b_again", 1), ("d", 2)):
        shutil.copy(small_corpus / f"content_{source:03d}.mp4", folder / f"{name}.mp4")
    (folder / "c.mp4").write_bytes(b"no video")
    return folder


def annotate(teacher: str, videos: Path, *more: str) -> None:
    main(["predict", "--model.teacher", teacher, "--data.videos", str(videos), *ON_CPU, *more])


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open() as stream:
        return list(csv.DictReader(stream))


def counted(here: Path) -> int:
    return len((here / "counted").read_text()) if (here / "counted").exists() else 0


class TestAnnotatedCorpus:
    def test_a_row_for_every_file_and_the_scores_in_the_store(self, here: Path, mixed: Path) -> None:
        annotate("datamodules.NIQE", mixed, "--data.labels", "labels")
        rows = rows_of(here / "scores.csv")
        assert list(rows[0]) == ["path", "score", "stderr", "status", "error", "model"]
        assert [Path(row["path"]).stem for row in rows] == ["a", "b", "b_again", "c", "d"]
        assert [row["status"] for row in rows] == ["ok", "ok", "ok", "error", "ok"]
        assert "c.mp4" in rows[3]["error"]
        assert rows[1]["score"] == rows[2]["score"]
        stored = ds.dataset(here / "labels", partitioning="hive").to_table().to_pylist()
        assert sorted({float(row["score"]) for row in rows if row["score"]}) == sorted(
            row["score"] for row in stored
        )
        assert {row["round"] for row in stored} == {0}
        assert {f"{row['annotator']}" for row in stored} == {rows[0]["model"]}

    def test_again_it_computes_nothing(self, here: Path, mixed: Path) -> None:
        (here / "counting.py").write_text(COUNTS_ITS_VIDEOS)
        annotate("counting.Counting", mixed, "--output", "first.csv")
        assert counted(here) == 3
        annotate("counting.Counting", mixed, "--output", "second.csv")
        assert counted(here) == 3
        assert (here / "first.csv").read_text() == (here / "second.csv").read_text()

    def test_interrupted_it_goes_on(self, here: Path, small_corpus: Path) -> None:
        (here / "counting.py").write_text(COUNTS_ITS_VIDEOS)
        annotate("counting.Counting", small_corpus, "--trainer.limit_predict_batches=2")
        assert counted(here) == 4
        assert not (here / "scores.csv").exists()
        annotate("counting.Counting", small_corpus)
        assert counted(here) == 8
        assert len(rows_of(here / "scores.csv")) == 8

    def test_a_new_video_is_all_that_is_computed(self, here: Path, mixed: Path, small_corpus: Path) -> None:
        (here / "counting.py").write_text(COUNTS_ITS_VIDEOS)
        annotate("counting.Counting", mixed)
        shutil.copy(small_corpus / "content_003.mp4", mixed / "e.mp4")
        annotate("counting.Counting", mixed)
        assert counted(here) == 4
        assert [row["status"] for row in rows_of(here / "scores.csv")].count("ok") == 5

    def test_real_clips_of_many_sizes(self, here: Path, clips_folder: Path) -> None:
        annotate("datamodules.Laplacian", clips_folder, "--output", "clips.jsonl")
        rows = [json.loads(line) for line in (here / "clips.jsonl").read_text().splitlines()]
        assert [Path(row["path"]).name for row in rows] == sorted(
            path.name for path in clips_folder.iterdir()
        )
        assert {row["status"] for row in rows} == {"ok"}

    def test_a_config_may_name_the_teacher(self, here: Path, mixed: Path) -> None:
        (here / "label.yaml").write_text(
            "model:\n  teacher: {class_path: datamodules.Laplacian, init_args: {segments: 2}}\n"
            f"data:\n  init_args: {{videos: {mixed}}}\n"
        )
        main(["predict", "--config", "label.yaml", *ON_CPU])
        assert rows_of(here / "scores.csv")[0]["model"].startswith("laplacian-")


@pytest.mark.slow
@pytest.mark.parametrize("count", [8, 1])
def test_two_ranks_give_what_one_gives(here: Path, small_corpus: Path, count: int) -> None:
    """With fewer videos than ranks too, as where all but one are scored already."""
    videos = here / "videos"
    videos.mkdir()
    for index in range(count):
        shutil.copy(sorted(small_corpus.glob("*.mp4"))[index], videos)
    annotate("datamodules.Laplacian", videos, "--output", "one.csv")
    command = ["predict", "--model.teacher", "datamodules.Laplacian", "--data.videos", str(videos)]
    command += ["--data.labels", "labels", "--output", "two.csv", *ON_CPU]
    done = subprocess.run(
        [sys.executable, "-m", "vqa_lightning", *command, "--trainer.devices=2", "--trainer.strategy=ddp"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert len(list((here / "labels").rglob("part-0000[01]-*.parquet"))) == 2
    one, two = rows_of(here / "one.csv"), rows_of(here / "two.csv")
    assert [row["path"] for row in two] == [row["path"] for row in one]
    # Another batch size: float32 sums in another order.
    assert [float(row["score"]) for row in two] == pytest.approx(
        [float(row["score"]) for row in one], rel=1e-5
    )


class TestBadInput:
    """One sentence, exit code 2, no output."""

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["--ckpt_path", "last.ckpt"], "does not go with --model.teacher"),
            (["--output", "scores.txt"], "got '.txt'"),
            (["--data", "datamodules.VideoDataModule"], "has no label store"),
            (["--data.labels", "file/labels"], "cannot be written to"),
        ],
    )
    def test_settings(
        self, here: Path, mixed: Path, words: list[str], sentence: str, refused: Callable[..., str]
    ) -> None:
        (here / "file").touch()
        (here / "last.ckpt").touch()
        assert sentence in refused(annotate, "datamodules.Laplacian", mixed, *words)
        assert not list(here.glob("scores*"))

    def test_a_file_of_scores_is_no_model(self, here: Path, mixed: Path, refused: Callable[..., str]) -> None:
        (here / "given.csv").write_text("path,score\na.mp4,1\n")
        told = refused(annotate, "datamodules.ScoresFile", mixed, "--model.teacher.path=given.csv")
        assert "model.teacher must be a teacher that scores clips" in told

    def test_nothing_readable(self, here: Path, refused: Callable[..., str]) -> None:
        (here / "broken.mp4").write_bytes(b"no video")
        assert "not one of 1 videos" in refused(annotate, "datamodules.Laplacian", here / "broken.mp4")
        assert rows_of(here / "scores.csv")[0]["status"] == "error"
