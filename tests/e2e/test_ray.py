"""`predict --engine ray` and `vqa_lightning.ray.score` on real local clusters, one of whose machines dies."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vqa_lightning.cli import main
from vqa_lightning.ray import engine, parts, score

ray = pytest.importorskip("ray", reason="Ray Data is not installed (extra ray)")
pytest.importorskip("ray.data", reason="Ray Data is not installed (extra ray)")

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


def words(checkpoint: Path, videos: str | Path, *more: str) -> list[str]:
    return ["predict", "--ckpt_path", str(checkpoint), "--data.videos", str(videos), *QUIET, *more]


def on_ray(checkpoint: Path, videos: str | Path, *more: str) -> list[str]:
    return words(checkpoint, videos, "--engine=ray", *more)


def in_parts(folder: Path) -> list[dict[str, Any]]:
    """Rows of all parts, by path."""
    rows = [row for part in sorted(folder.glob("part-*")) for row in pq.read_table(part).to_pylist()]
    return sorted(rows, key=lambda row: (row["path"], row.get("start")))


def in_file(file: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
    return sorted(rows, key=lambda row: (row["path"], row.get("start")))


@pytest.fixture
def many(videos: Path) -> Path:
    """A folder of forty videos, with one that cannot be read in the middle."""
    files = sorted(videos.iterdir())
    for number in range(9):
        for file in files:
            shutil.copy(file, videos / f"{number}_{file.name}")
    (videos / "4_broken.mp4").write_bytes(b"no video")
    return videos


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
class TestRows:
    def test_are_those_of_one_machine_to_the_bit(
        self, here: Path, tiny_checkpoint: Path, videos: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (videos / "z_broken.mp4").write_bytes(b"no video")
        main(words(tiny_checkpoint, "videos", "--output=one.parquet"))
        capsys.readouterr()
        main(on_ray(tiny_checkpoint, "videos"))
        assert "video-0.mp4" in capsys.readouterr().out
        assert in_parts(here / "scores") == in_file(here / "one.parquet")
        # Where the videos lie behind URLs, only their names are others.
        main(on_ray(tiny_checkpoint, f"file://{videos}", "--output=far"))
        named = [{**row, "path": Path(row["path"]).name} for row in in_parts(here / "far")]
        for row, one in zip(named, in_file(here / "one.parquet"), strict=True):
            name = Path(one["path"]).name
            error = one["error"].replace(one["path"], f"file://{videos}/{name}")
            assert row == {**one, "path": name, "error": error}

    def test_in_a_pipeline_of_ones_own(self, here: Path, tiny_checkpoint: Path, videos: Path) -> None:
        main(words(tiny_checkpoint, videos, "--output=one.parquet"))
        paths = sorted(map(str, videos.iterdir()))
        blocks = [pa.table({"path": [path], "mine": [1]}) for path in paths]
        scores = score(ray.data.from_arrow(blocks), tiny_checkpoint)
        rows = sorted(scores.take_all(), key=lambda row: row["path"])
        assert rows == [{**row, "start": None, "end": None} for row in in_file(here / "one.parquet")]
        assert "FlatMap(ClipReader)->" not in scores.stats()  # clips are read where nothing is scored


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
class TestWhatFollowsFromRows:
    def test_intervals_pools_page_gate_and_the_models_own_settings(
        self, here: Path, tiny_checkpoint: Path, videos: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        more = ["--data.score_every=0.2", "--pool=p5", "--model.scoring.draws=3", "--fail-below=p5:1000"]
        pages = ["--report=one.html", "--junit=one.xml"], ["--report=ray.html", "--junit=ray.xml"]
        for command in (
            words(tiny_checkpoint, videos, *more, *pages[0], "--output=one.parquet"),
            on_ray(tiny_checkpoint, videos, *more, *pages[1]),
        ):
            with pytest.raises(SystemExit) as ended:
                main(command)
            assert ended.value.code == 3
            lines = capsys.readouterr().err.splitlines()
            assert lines[-1] == "4 of 4 files did not pass"
            closed = lines[-5:]
        assert in_parts(here / "scores") == in_file(here / "one.parquet")
        assert in_parts(here / "scores.seconds") == in_file(here / "one.seconds.parquet")
        assert "below 1000 (below it with probability" in closed[0]
        assert (here / "one.xml").read_text() == (here / "ray.xml").read_text()
        assert (here / "ray.html").read_text().count("<section") == 4

    def test_a_second_start_scores_only_what_is_new_or_had_no_score(
        self, here: Path, tiny_checkpoint: Path, videos: Path, refused: Callable[..., str]
    ) -> None:
        late = videos / "z_late.mp4"
        late.write_bytes(b"no video")
        main(on_ray(tiny_checkpoint, "videos"))
        before = {path: path.stat().st_mtime_ns for path in (here / "scores").iterdir()}
        good = [row for row in in_parts(here / "scores") if row["status"] == "ok"]
        shutil.copy(videos / "video-0.mp4", late)
        main(on_ray(tiny_checkpoint, "videos"))
        after = in_parts(here / "scores")
        assert after[:4] == good
        assert after[4] == {**good[0], "path": "videos/z_late.mp4"}
        assert len(after) == 5
        assert len(list((here / "scores").iterdir())) == len(before) + 1
        # A third finds nothing to do; of fewer videos or with other settings it is another command.
        parts = {path: path.stat().st_mtime_ns for path in (here / "scores").iterdir()}
        main(on_ray(tiny_checkpoint, "videos"))
        assert {path: path.stat().st_mtime_ns for path in (here / "scores").iterdir()} == parts
        late.unlink()
        told = refused(main, on_ray(tiny_checkpoint, "videos"))
        assert told.startswith("scores has rows that this command would not write again, such as that of")
        told = refused(main, on_ray(tiny_checkpoint, "videos", "--data.score_every=1"))
        assert "scores was written with data.score_every None, not 1.0" in told


class TestMistakes:
    @pytest.mark.parametrize(
        ("setting", "sentence"),
        [
            ("--output=scores.csv", "--output scores.csv must be a folder with --engine ray"),
            (
                "--trainer.precision=bf16-mixed",
                "--trainer.precision bf16-mixed does not go with --engine ray",
            ),
            ("--trainer.limit_predict_batches=2", "--trainer.limit_predict_batches 2.0 does not go with"),
            ("--trainer.strategy=ddp", "--trainer.strategy ddp does not go with --engine ray"),
            ("--trainer.devices=[0, 1]", "--trainer.devices must be auto or a number of actors"),
            ("--trainer.accelerator=tpu", "--trainer.accelerator must be one of auto, cpu, gpu, cuda"),
            ("--data.workers=0", "--data.workers must be 1 or more with --engine ray; got 0"),
            ("--pool=p5", "--pool p5 needs scores over time: give --data.score_every"),
            ("--report=page.txt", "The suffix of --report page.txt must be one of .html"),
            ("--data.videos=nowhere", "nowhere does not exist"),
            ("--data.videos=nowhere://a", "--data.videos nowhere://a cannot be opened"),
            ("--engine=spark", "--engine must be one of lightning, ray; got spark"),
        ],
    )
    def test_end_in_one_sentence_before_anything_runs(
        self, here: Path, tiny_checkpoint: Path, videos: Path, refused: Callable[..., str], setting: str,
        sentence: str,
    ) -> None:  # fmt: skip
        assert sentence in refused(main, on_ray(tiny_checkpoint, videos, setting))
        assert not (here / "scores").exists()

    def test_it_is_for_predict_with_a_checkpoint(self, here: Path, refused: Callable[..., str]) -> None:
        told = refused(main, ["predict", "--engine=ray", "--model.teacher=datamodules.Artefacts"])
        assert told.startswith("--engine ray does not go with --model.teacher")
        told = refused(main, ["fit", "--engine=ray", "--config=round.yaml"])
        assert told.startswith("--engine ray does not go with fit")


@pytest.mark.slow
class TestDeath:
    """Of one of two machines, and of the command itself, in the middle of scores of videos and intervals."""

    MUCH = ("--data.score_every=0.1", "--model.scoring.draws=30")  # or all would be done at once

    @pytest.mark.parametrize("place", [0, 1])
    def test_a_machine_that_dies_in_the_middle_loses_and_repeats_nothing(
        self, here: Path, tiny_checkpoint: Path, many: Path, two_machines: Any, place: int,
        one_dies: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setattr(parts, "PART_ROWS", 1)
        monkeypatch.setattr(engine, "BLOCK", 1)
        main(words(tiny_checkpoint, many, *self.MUCH, "--output=one.parquet"))
        ray.init(address=two_machines.address, log_to_driver=False, logging_level="ERROR")
        with one_dies(here / "scores", place) as before:
            main(on_ray(tiny_checkpoint, many, *self.MUCH))
        assert before[0] < 36
        assert in_parts(here / "scores") == in_file(here / "one.parquet")
        assert in_parts(here / "scores.seconds") == in_file(here / "one.seconds.parquet")

    def test_the_command_that_is_killed_goes_on_where_it_was(
        self, here: Path, tiny_checkpoint: Path, many: Path, two_machines: Any
    ) -> None:
        main(words(tiny_checkpoint, many, *self.MUCH, "--output=one.parquet"))
        code = (
            "import sys; from vqa_lightning.ray import engine, parts; from vqa_lightning.cli import main;"
            "parts.PART_ROWS = engine.BLOCK = 1; main(sys.argv[1:])"
        )
        environment = {**os.environ, "RAY_ADDRESS": two_machines.address}
        command = [sys.executable, "-c", code, *on_ray(tiny_checkpoint, many, *self.MUCH)]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as started:
            while not list((here / "scores").glob("part-*")):
                assert started.poll() is None
                time.sleep(0.05)
            started.send_signal(signal.SIGKILL)
        early = {path: path.stat().st_mtime_ns for path in (here / "scores").glob("part-*")}
        done = [row for row in in_parts(here / "scores") if row["status"] == "ok"]
        assert 0 < len(done) < 40
        ray.init(address=two_machines.address, log_to_driver=False, logging_level="ERROR")
        main(on_ray(tiny_checkpoint, many, *self.MUCH))
        assert in_parts(here / "scores") == in_file(here / "one.parquet")
        assert in_parts(here / "scores.seconds") == in_file(here / "one.seconds.parquet")
        assert [path for path, at in early.items() if path.exists() and path.stat().st_mtime_ns == at]
