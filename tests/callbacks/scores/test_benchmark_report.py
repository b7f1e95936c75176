import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer

from callbacks.scores import BenchmarkReport
from datamodules.benchmark_data import BenchmarkDataModule, BenchmarkSet
from datamodules.errors import InputError
from vqa_lightning.annotators.checkpoint_teacher import load_checkpoint


class Removes(Callback):
    """Takes a video away once the test has begun."""

    def __init__(self, video: Path) -> None:
        self.video = video

    def on_test_start(self, *_: Any) -> None:
        self.video.unlink()


@pytest.fixture
def data(mixed_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BenchmarkDataModule:
    """Two sets that share videos; what is said of them falls with quality in the second."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    videos = tmp_path / "videos"
    shutil.copytree(mixed_corpus, videos)
    sets = []
    for name, count, rising in (("rising", 6, True), ("falling", 9, False)):
        rows = [f"video-{index}.mp4,{index}" for index in range(count)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["name,mos", *rows]) + "\n")
        sets.append(BenchmarkSet(name, str(tmp_path / f"{name}.csv"), str(videos), higher_is_better=rising))
    return BenchmarkDataModule(sets=sets, workers=0)


def run(data: BenchmarkDataModule, checkpoint: Path, *callbacks: Callback) -> None:
    settings: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", callbacks=list(callbacks), **settings)
    trainer.test(load_checkpoint(checkpoint), datamodule=data)


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_video_that_fails_on_the_way_is_named_and_left_out_of_every_set(
    data: BenchmarkDataModule, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report"
    run(data, tiny_checkpoint, BenchmarkReport(str(report)), Removes(tmp_path / "videos" / "video-2.mp4"))
    told = capsys.readouterr().out
    for name, count in (("rising", 5), ("falling", 8)):
        assert f"{name}: 1 unreadable, which no figure counts: video-2.mp4" in told
        (row,) = (row for row in rows_of(report / "benchmarks.csv") if row["set"] == name)
        assert (row["n"], row["unreadable"]) == (str(count), "1")
        failed = rows_of(report / name / "scores.csv")[2]
        assert (failed["status"], failed["score"]) == ("error", "")
        assert "video-2.mp4" in failed["error"]
        assert abs(float(failed["mos"])) == 2
    # both sets have one score of each video, and the second has its sign turned
    rising, falling = (rows_of(report / name / "scores.csv") for name in ("rising", "falling"))
    assert [row["score"] for row in rising] == [row["score"] for row in falling[:6]]
    assert [float(row["mos"]) for row in falling] == [-index for index in range(9)]


def test_a_folder_that_cannot_be_made_is_one_sentence(
    data: BenchmarkDataModule, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match=r"taken cannot be written \(File exists\)"):
        run(data, tiny_checkpoint, BenchmarkReport(str(tmp_path / "taken")))
