"""Prediction through the real command line, with the untrained weights of a tiny model."""

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vqa_lightning import Scorer
from vqa_lightning.cli import main
from vqa_lightning.metrics.human_scale import HumanScale

ON_CPU = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


def words(checkpoint: Path, videos: Path, *more: str) -> list[str]:
    return ["predict", "--ckpt_path", str(checkpoint), "--data.videos", str(videos), *ON_CPU, *more]


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open() as stream:
        return list(csv.DictReader(stream))


class TestScores:
    def test_are_of_the_packages_scorer_where_no_checkpoint_is_named(self, here: Path, videos: Path) -> None:
        main(["predict", "--data.videos", str(videos), *ON_CPU])
        rows = rows_of(here / "scores.csv")
        scorer = Scorer(device="cpu")
        found = scorer.score([row["path"] for row in rows])
        assert [row["score"] for row in rows if row["status"] == "ok"] == [
            str(one.score) for one in found if one.status == "ok"
        ]
        assert {row["model"] for row in rows} == {scorer.model}

    def test_are_those_of_the_python_interface_to_the_bit(
        self, here: Path, tiny_checkpoint: Path, clips_folder: Path
    ) -> None:
        main(words(tiny_checkpoint, clips_folder))
        rows = rows_of(here / "scores.csv")
        scorer = Scorer(tiny_checkpoint, "cpu")
        found = scorer.score([row["path"] for row in rows])
        assert len(rows) == len(list(clips_folder.iterdir()))
        assert [(float(row["score"]), float(row["stderr"])) for row in rows] == [
            (one.score, one.stderr) for one in found
        ]
        assert {row["model"] for row in rows} == {scorer.model}

    def test_do_not_depend_on_workers_or_intervals(
        self, here: Path, tiny_checkpoint: Path, videos: Path
    ) -> None:
        main(words(tiny_checkpoint, videos, "--output=one.csv", "--data.workers=0"))
        main(
            words(tiny_checkpoint, videos, "--output=every.csv", "--data.workers=1", "--data.score_every=0.2")
        )
        one, every = rows_of(here / "one.csv"), rows_of(here / "every.csv")
        assert one == [{name: row[name] for name in one[0]} for row in every]

    @pytest.mark.slow
    def test_two_ranks_give_what_one_gives(self, here: Path, tiny_checkpoint: Path, videos: Path) -> None:
        main(words(tiny_checkpoint, videos, "--output=one.csv"))
        two = words(
            tiny_checkpoint, videos, "--output=two.csv", "--trainer.devices=2", "--trainer.strategy=ddp"
        )
        done = subprocess.run(
            [sys.executable, "-m", "vqa_lightning", *two],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        assert (here / "one.csv").read_text() == (here / "two.csv").read_text()

    def test_a_fits_config_is_understood_whatever_else_it_says(
        self, here: Path, tiny_checkpoint: Path, videos: Path
    ) -> None:
        """The list of pairs and the teacher's file of its training are gone, and nothing asks for them."""
        (here / "mine.yaml").write_text(
            "data:\n  class_path: datamodules.RoundDataModule\n  init_args:\n    videos: null\n"
            "    drawing: {imported: gone.parquet}\n    simulators: [h264]\n    labels: gone/labels\n"
            "    teachers: [{class_path: datamodules.ScoresFile, init_args: {path: gone.csv}}]\n"
        )
        main(words(tiny_checkpoint, videos, "--config=mine.yaml", "--output=a.csv"))
        main(words(tiny_checkpoint, videos, "--output=b.csv"))
        assert (here / "a.csv").read_text() == (here / "b.csv").read_text()
        assert sorted(path.name for path in here.iterdir() if path.is_dir()) == ["cache", "videos"]


class TestTable:
    def test_few_scores_are_printed(
        self, here: Path, tiny_checkpoint: Path, videos: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (videos / "z_broken.mp4").write_bytes(b"no video")
        main(words(tiny_checkpoint, videos))
        printed = capsys.readouterr().out.splitlines()
        assert max(map(len, printed)) <= 80
        rows = rows_of(here / "scores.csv")
        assert len(rows) == 5
        for row in rows:
            (line,) = [line for line in printed if line.startswith(f"│ {Path(row['path']).name} ")]
            assert (f"{float(row['score']):.1f}" in line) if row["score"] else ("cannot be opened" in line)


class TestEarlierOutput:
    def test_the_same_command_computes_only_what_is_new(
        self, here: Path, tiny_checkpoint: Path, videos: Path
    ) -> None:
        late = videos / "z_late.mp4"
        shutil.copy(videos / "video-0.mp4", here / "spare.mp4")
        main(words(tiny_checkpoint, videos))
        before = rows_of(here / "scores.csv")
        shutil.copy(here / "spare.mp4", late)
        # Rows that are not computed again keep what was written in their place.
        text = (here / "scores.csv").read_text().replace(before[0]["score"], "12.5")
        (here / "scores.csv").write_text(text)
        main(words(tiny_checkpoint, videos))
        after = rows_of(here / "scores.csv")
        assert [Path(row["path"]).name for row in after] == sorted(path.name for path in videos.iterdir())
        assert after[0]["score"] == "12.5"
        assert after[1:4] == before[1:]
        assert after[4]["score"] == before[0]["score"]

    def test_a_file_that_has_changed_is_scored_again(
        self, here: Path, tiny_checkpoint: Path, videos: Path
    ) -> None:
        main(words(tiny_checkpoint, videos))
        before = rows_of(here / "scores.csv")
        shutil.copy(videos / "video-1.mp4", videos / "video-0.mp4")
        main(words(tiny_checkpoint, videos))
        after = rows_of(here / "scores.csv")
        assert after[0]["score"] == before[1]["score"]
        assert after[1:] == before[1:]

    def test_of_another_model_is_not_overwritten(
        self,
        here: Path,
        tiny_checkpoint: Path,
        save_checkpoint: Callable[..., Path],
        videos: Path,
        refused: Callable[..., str],
    ) -> None:
        main(words(tiny_checkpoint, videos))
        before = (here / "scores.csv").read_text()
        other = save_checkpoint(here / "other.ckpt", seed=1)
        assert "was written with RankingModule-" in refused(main, words(other, videos))
        assert (here / "scores.csv").read_text() == before

    def test_of_other_videos_is_not_overwritten(
        self, here: Path, tiny_checkpoint: Path, videos: Path, refused: Callable[..., str]
    ) -> None:
        main(words(tiny_checkpoint, videos, "--output=scores.parquet"))
        before = pq.read_table(here / "scores.parquet")
        one = words(tiny_checkpoint, videos / "video-1.mp4", "--output=scores.parquet")
        assert "video-0.mp4" in refused(main, one)
        assert pq.read_table(here / "scores.parquet").equals(before)

    @pytest.mark.parametrize("name", ["scores.csv", "scores.jsonl", "scores.parquet"])
    def test_that_is_no_table_of_scores_is_not_overwritten(
        self, here: Path, tiny_checkpoint: Path, videos: Path, name: str, refused: Callable[..., str]
    ) -> None:
        (here / name).write_text("a letter\nto a friend\n")
        assert f"{name} exists and is no table" in refused(
            main, words(tiny_checkpoint, videos, "--output", name)
        )
        assert (here / name).read_text() == "a letter\nto a friend\n"

    def test_an_interrupted_command_of_other_videos_keeps_its_journal(
        self, here: Path, tiny_checkpoint: Path, videos: Path
    ) -> None:
        apart = here / "apart"
        apart.mkdir()
        shutil.move(videos / "video-3.mp4", apart)
        main(words(tiny_checkpoint, videos, "--trainer.limit_predict_batches=2"))
        main(words(tiny_checkpoint, apart))
        (journal,) = here.glob(".scores.csv.*")
        assert len(journal.read_text().splitlines()) == 2
        (here / "scores.csv").rename(here / "apart.csv")
        main(words(tiny_checkpoint, videos))
        assert len(rows_of(here / "scores.csv")) == 3
        assert not list(here.glob(".scores.csv.*"))


class TestIntervals:
    def test_a_row_and_a_step_for_each(self, here: Path, tiny_checkpoint: Path, clips_folder: Path) -> None:
        one = clips_folder / "carphone_pristine.mp4"  # 4.004 s: no frame begins in the last 4 ms
        main(words(tiny_checkpoint, one, "--data.score_every=1.0"))
        rows = rows_of(here / "scores.seconds.csv")
        assert list(rows[0]) == ["path", "start", "end", "score", "stderr", "model"]
        assert [(row["start"], row["end"]) for row in rows] == [
            ("0.0", "1.0"),
            ("1.0", "2.0"),
            ("2.0", "3.0"),
            ("3.0", "4.0"),
        ]
        assert len({row["score"] for row in rows}) == 4
        assert all(float(row["stderr"]) > 0 for row in rows)
        with Image.open(here / "scores.seconds" / "carphone_pristine.mp4.png") as picture:
            assert np.asarray(picture).std() > 0

    @pytest.mark.parametrize("name", ["gap.ts", "gap_10min.ts"])
    def test_lie_where_frames_are(
        self,
        here: Path,
        tiny_checkpoint: Path,
        faults_folder: Path,
        name: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Four seconds of pictures, with a hole in the time stamps in their middle."""
        path = faults_folder / "timestamp_gap" / name
        page = "--report=page.html"
        main(words(tiny_checkpoint, path, "--output=s.csv", "--data.score_every=1.0", page))
        seconds = rows_of(here / "s.seconds.csv")
        assert [row["start"] for row in seconds] == ["0.0", "1.0", "2.0", "3.0"]
        assert len({row["score"] for row in seconds}) == 4
        (row,) = rows_of(here / "s.csv")
        assert row["status"] == "ok"
        assert row["error"].startswith(f"The time stamps of {path} have a hole of ")
        assert row["error"] in caplog.text
        assert " have a hole of " in (here / "page.html").read_text()
        main(
            words(tiny_checkpoint, path, "--output=s.csv", "--data.score_every=1.0")
        )  # goes on: all is there
        assert rows_of(here / "s.csv") == [row]
        assert Scorer(tiny_checkpoint, "cpu").score(path)[0].error == row["error"]

    def test_go_on_where_they_stopped(self, here: Path, tiny_checkpoint: Path, videos: Path) -> None:
        every = ("--data.score_every=0.2", "--data.batch_size=2")
        main(words(tiny_checkpoint, videos, *every, "--output=whole.jsonl"))
        main(
            words(tiny_checkpoint, videos, *every, "--output=part.jsonl", "--trainer.limit_predict_batches=3")
        )
        assert not list(here.glob("part.*"))
        main(words(tiny_checkpoint, videos, *every, "--output=part.jsonl"))
        for kind in ("", ".seconds"):
            assert (here / f"part{kind}.jsonl").read_text() == (here / f"whole{kind}.jsonl").read_text()
        assert not list(here.glob(".part*"))
        pictures = sorted(path.name for path in (here / "part.seconds").iterdir())
        assert pictures == [f"video-{index}.mp4.png" for index in range(4)]

    def test_of_another_length_are_another_output(
        self, here: Path, tiny_checkpoint: Path, videos: Path, refused: Callable[..., str]
    ) -> None:
        main(words(tiny_checkpoint, videos, "--data.score_every=0.2"))
        command = words(tiny_checkpoint, videos, "--data.score_every=0.1")
        assert "scores.seconds.csv has rows that" in refused(main, command)

    def test_a_length_of_nothing_is_refused(
        self, here: Path, tiny_checkpoint: Path, videos: Path, refused: Callable[..., str]
    ) -> None:
        assert "data.score_every must be seconds above 0, or null; got 0.0." in refused(
            main, words(tiny_checkpoint, videos, "--data.score_every=0")
        )


class TestCalibration:
    def save(self, model: str) -> HumanScale:
        scale = HumanScale("mos", model, b1=5.0, b2=1.0, b3=50.0, b4=10.0, n=9, srcc=0.9, rmse=0.2)
        scale.save("scale.json")
        return scale

    def test_is_a_column_of_its_own(self, here: Path, tiny_checkpoint: Path, videos: Path) -> None:
        (videos / "broken.mp4").write_bytes(b"no video")
        main(words(tiny_checkpoint, videos))
        plain = rows_of(here / "scores.csv")
        scale = self.save(Scorer(tiny_checkpoint, "cpu").model)
        main(words(tiny_checkpoint, videos, "--calibration=scale.json"))
        rows = rows_of(here / "scores.csv")
        assert [
            {**row, "calibrated": other["calibrated"]} for row, other in zip(plain, rows, strict=True)
        ] == rows
        assert rows[0]["calibrated"] == ""
        assert [float(row["calibrated"]) for row in rows[1:]] == [
            float(scale(float(row["score"]))) for row in rows[1:]
        ]

    def test_of_another_model_is_refused(
        self, here: Path, tiny_checkpoint: Path, videos: Path, refused: Callable[..., str]
    ) -> None:
        self.save("RankingModule-0")
        command = words(tiny_checkpoint, videos, "--calibration=scale.json")
        assert "scale.json was fitted for RankingModule-0" in refused(main, command)
        (here / "scale.json").write_text("{}")
        assert "scale.json cannot be read" in refused(main, command)
        assert not list(here.glob("*scores*"))


class TestBadInput:
    def test_files_without_frames_are_rows(
        self, here: Path, tiny_checkpoint: Path, edge_folder: Path, sound_file: Path
    ) -> None:
        folder = here / "bad"
        folder.mkdir()
        sound_file.rename(folder / "a_sound.mp4")
        (folder / "b_text.mp4").write_text("no video")
        shutil.copy(edge_folder / "testsrc2_mpeg4.mp4", folder / "c_one_frame.mp4")
        shutil.copy(edge_folder / "corrupted.mp4", folder / "d_corrupted.mp4")
        main(words(tiny_checkpoint, folder, "--data.score_every=1.0"))
        rows = rows_of(here / "scores.csv")
        assert [row["status"] for row in rows] == ["error", "error", "ok", "ok"]
        assert "has no video stream" in rows[0]["error"]
        assert all(row["error"].endswith(".") for row in rows[:2])
        (one_frame,) = [row for row in rows_of(here / "scores.seconds.csv") if "one_frame" in row["path"]]
        assert (one_frame["start"], one_frame["end"]) == ("0.0", "0.04")
        assert one_frame["score"] == rows[2]["score"]  # there is but one frame to look at

    def test_only_sound_is_an_error_of_the_command(
        self, here: Path, tiny_checkpoint: Path, sound_file: Path, refused: Callable[..., str]
    ) -> None:
        assert "has no video stream" in refused(main, words(tiny_checkpoint, sound_file))
        assert rows_of(here / "scores.csv")[0]["status"] == "error"

    def test_no_videos_named(self, here: Path, tiny_checkpoint: Path, refused: Callable[..., str]) -> None:
        command = ["predict", "--ckpt_path", str(tiny_checkpoint), *ON_CPU]
        assert "data.videos must be a folder, a file, a glob or a manifest" in refused(main, command)

    def test_a_teacher_has_no_human_scale(
        self, here: Path, videos: Path, refused: Callable[..., str]
    ) -> None:
        command = ["predict", "--model.teacher=datamodules.Laplacian", "--data.videos", str(videos), *ON_CPU]
        assert "does not go with --model.teacher" in refused(main, [*command, "--calibration=a.json"])
