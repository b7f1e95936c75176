"""Pools over time and gates of predict, through the real command line."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from vqa_lightning.cli import main

ON_CPU = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


def words(checkpoint: Path, videos: Path, *more: str) -> list[str]:
    return ["predict", "--ckpt_path", str(checkpoint), "--data.videos", str(videos), *ON_CPU, *more]


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open() as stream:
        return list(csv.DictReader(stream))


class TestPools:
    def test_are_those_of_the_intervals_beside_the_score(
        self, here: Path, tiny_checkpoint: Path, videos: Path
    ) -> None:
        main(words(tiny_checkpoint, videos, "--data.score_every=0.2"))
        plain = rows_of(here / "scores.csv")
        seconds = rows_of(here / "scores.seconds.csv")
        for row in plain:
            own = [float(one["score"]) for one in seconds if one["path"] == row["path"]]
            assert len(own) > 1
            assert float(row["min"]) == min(own)
            assert min(own) <= float(row["p5"]) <= float(row["mean"]) <= max(own)
        # What is scored already goes into the pool, and comes back out of it.
        main(words(tiny_checkpoint, videos, "--data.score_every=0.2", "--pool=min"))
        chosen = rows_of(here / "scores.csv")
        assert [row["score"] for row in chosen] == [row["min"] for row in plain]
        assert [row["whole"] for row in chosen] == [row["score"] for row in plain]
        main(words(tiny_checkpoint, videos, "--data.score_every=0.2"))
        assert rows_of(here / "scores.csv") == plain

    def test_need_intervals(
        self, here: Path, tiny_checkpoint: Path, videos: Path, refused: Callable[..., str]
    ) -> None:
        for setting in ("--pool=p5", "--fail-below=p5:30"):
            assert "needs scores over time: give --data.score_every" in refused(
                main, words(tiny_checkpoint, videos, setting)
            )


class TestGate:
    """Exit code 3 where scores are too low, with the files named."""

    @staticmethod
    def closed(capsys: pytest.CaptureFixture[str], command: list[str]) -> list[str]:
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 3
        return capsys.readouterr().err.splitlines()[-5:]

    def test_low_scores_end_with_code_3(
        self, here: Path, tiny_checkpoint: Path, videos: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(words(tiny_checkpoint, videos, "--fail-below", "-1000"))
        scores = sorted(float(row["score"]) for row in rows_of(here / "scores.csv"))
        middle = (scores[1] + scores[2]) / 2
        gate = ["--fail-below", f"{middle:.6f}", "percentile:0", "--junit=junit.xml"]
        # Percentiles are of a training corpus, which this checkpoint has not seen.
        with pytest.raises(SystemExit) as ended:
            main(words(tiny_checkpoint, videos, *gate))
        assert ended.value.code == 2
        assert "--fail-below percentile asks for a column that is not there" in capsys.readouterr().err
        del gate[2]
        told = self.closed(capsys, words(tiny_checkpoint, videos, *gate))
        assert told[-1] == "2 of 4 files did not pass"
        assert 'failures="2"' in (here / "junit.xml").read_text()

    def test_limits_that_are_given_one_by_one_all_count(
        self, here: Path, tiny_checkpoint: Path, videos: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        gate = ["--fail-below", "1000", "--fail-below", "-1000"]
        told = self.closed(capsys, words(tiny_checkpoint, videos, *gate))
        assert told[-1] == "4 of 4 files did not pass"

    def test_drops_from_a_baseline(
        self, here: Path, tiny_checkpoint: Path, videos: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(words(tiny_checkpoint, videos, "--output=before.csv"))
        gate = ["--baseline=before.csv", "--max-drop=2"]
        main(words(tiny_checkpoint, videos, *gate))
        before = rows_of(here / "before.csv")
        raised = before[0]["score"], str(float(before[0]["score"]) + 500)
        (here / "before.csv").write_text((here / "before.csv").read_text().replace(*raised))
        told = self.closed(capsys, words(tiny_checkpoint, videos, *gate))
        assert told[-1] == "1 of 4 files did not pass"
        assert told[-2].startswith(before[0]["path"])
        assert "500.0 below the baseline's" in told[-2]

    @pytest.mark.parametrize(
        "gate",
        [
            ["--fail-below", "low"],
            ["--max-drop=2"],
            ["--baseline=none.csv"],
            ["--confidence=2"],
            ["--baseline=."],
            ["--fail-below"],
            ["--junit=no/junit.xml", "--fail-below", "40"],
            ["--baseline=scores.csv", "--output=./scores.csv"],
        ],
    )
    def test_a_gate_that_is_none_is_refused_before_anything_is_scored(
        self, here: Path, tiny_checkpoint: Path, videos: Path, refused: Callable[..., str], gate: list[str]
    ) -> None:
        refused(main, words(tiny_checkpoint, videos, *gate))
        assert not (here / "scores.csv").exists()

    def test_what_is_not_scored_yet_does_not_pass(
        self, here: Path, tiny_checkpoint: Path, videos: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        some = ["--trainer.limit_predict_batches=0.25", "--data.batch_size=1", "--fail-below", "-1000"]
        told = self.closed(capsys, words(tiny_checkpoint, videos, *some))
        assert told[-1].startswith("only 1 of 4 videos are scored")

    def test_videos_of_which_none_can_be_read_do_not_pass(
        self, here: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (here / "broken").mkdir()
        (here / "broken" / "a.mp4").write_bytes(b"no video")
        gate = ["--fail-below", "0", "--junit=junit.xml", "--report=page.html"]
        self.closed(capsys, words(tiny_checkpoint, here / "broken", *gate))
        assert 'failures="1"' in (here / "junit.xml").read_text()
        assert "1 unreadable" in (here / "page.html").read_text()

    @pytest.mark.parametrize("setting", ["--pool=p5", "--fail-below=1", "--report=a.html", "--junit=a.xml"])
    def test_labels_of_a_teacher_have_none(
        self, here: Path, videos: Path, refused: Callable[..., str], setting: str
    ) -> None:
        command = ["predict", "--model.teacher=datamodules.Artefacts", f"--data.videos={videos}", *ON_CPU]
        assert "does not go with --model.teacher" in refused(main, [*command, setting])
