"""Ends from outside, and machines that lack something, by the real command line in processes of its own."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

Start = Callable[..., "subprocess.Popen[bytes]"]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "vqa_lightning", *words]


@pytest.fixture
def predict(here: Path, tiny_checkpoint: Path, videos: Path) -> list[str]:
    """The words that score four videos into `scores.csv`."""
    words = ["predict", "--ckpt_path", str(tiny_checkpoint), "--data.videos", "videos"]
    return command(*words, "--output", "scores.csv", "--trainer.accelerator", "cpu")


def rows(file: Path) -> list[list[str]]:
    with file.open(newline="") as stream:
        return list(csv.reader(stream))


def when(there: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    """Wait until something is there, while a process runs."""
    while not there():
        assert process.poll() is None
        time.sleep(0.01)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_signs_costs_nothing(encoding: str, predict: list[str], here: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(predict, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert len(rows(here / "scores.csv")) == 5


@pytest.mark.parametrize("closed", ["2>&1 | head -c 10 >/dev/null", ">&- 2>&-", "</dev/null >/dev/full"])
def test_work_that_is_done_ends_with_0_whoever_listens(closed: str, predict: list[str], here: Path) -> None:
    line = subprocess.list2cmdline(predict)
    done = subprocess.run(["bash", "-o", "pipefail", "-c", f"{line} {closed}"], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert len(rows(here / "scores.csv")) == 5


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user without an entry")
def test_a_user_without_a_home_is_told_what_to_set(mixed_corpus: Path) -> None:
    environment = {name: one for name, one in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    code = "import os, sys; from vqa_lightning.cli import main; os.setuid(54321); main(sys.argv[1:])"
    words = [sys.executable, "-c", code, "predict", "--data.videos", "video-0.mp4"]
    with TemporaryDirectory() as folder:  # pytest's own are for one user alone
        shutil.copy(mixed_corpus / "video-0.mp4", folder)
        Path(folder).chmod(0o777)
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "XDG_CACHE_HOME" in done.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_predict_in_one_line_and_the_same_command_goes_on(
    number: signal.Signals, predict: list[str], here: Path, mixed_corpus: Path
) -> None:
    for copy in range(40):
        shutil.copy(mixed_corpus / "video-0.mp4", here / "videos" / f"more-{copy}.mp4")
    assert subprocess.run([*predict[:-4], "--output", "whole.csv", *predict[-2:]]).returncode == 0
    with (here / "log").open("wb") as log:
        process = subprocess.Popen(predict, stdout=log, stderr=log, start_new_session=True)
        when(lambda: any(one.stat().st_size for one in here.glob(".scores.csv.*.0")), process)
        os.killpg(process.pid, number)
        assert process.wait(timeout=30) == 128 + number
    told = (here / "log").read_text()
    assert "Traceback" not in told
    (line,) = [line for line in told.splitlines() if line.startswith("ended by")]
    assert "; go on with: " in line
    assert subprocess.run(predict).returncode == 0
    assert rows(here / "scores.csv") == rows(here / "whole.csv")


RUN = Path("runs", "round", "version_0")

PHASES = {
    "teachers": "labels",
    "versions": "labels/round=0/annotator=artefacts*/part-*",
    "training": f"{RUN}/pairs/round-0.parquet",
    "annotation": f"{RUN}/labels/round=1",
    "later": f"{RUN}/pairs/round-1.parquet",
}
"""Phase of a fit -> what is there when it begins."""


def ended_by(number: signal.Signals, process: "subprocess.Popen[bytes]", here: Path) -> str:
    """Signal all processes of a command as a terminal does; return the line that it says."""
    before = (here / "log").stat().st_size
    os.killpg(process.pid, number)
    assert process.wait(timeout=30) == 128 + number, (here / "log").read_text()[-3000:]
    told = (here / "log").read_bytes()[before:].decode()
    assert "Traceback" not in told
    assert not list(here.rglob(".*.tmp"))
    (line,) = [line for line in told.splitlines() if line.startswith(f"ended by {number.name}: ")]
    assert "go on with: " in line
    return line


@pytest.mark.slow
def test_sigterm_ends_a_fit_in_one_line_in_every_phase_and_it_goes_on(
    here: Path, smallest: Sequence[str], start: Start
) -> None:
    versions = ["--data.counts.reference=8", "--data.references.metric=ssim", "--data.references.versions=4"]
    words = [*smallest, *versions, "--data.workers=1"]
    for phase, sign in PHASES.items():
        goes_on = ["--ckpt_path", "last"] if (here / RUN).is_dir() else []
        process = start(here, [*words, *goes_on])
        when(lambda sign=sign: any(here.glob(sign)), process)  # type: ignore[misc]
        line = ended_by(signal.SIGTERM, process, here)
        assert ("last.ckpt is whole" in line) == (phase in ("annotation", "later")), (phase, line)
    assert start(here, [*words, "--ckpt_path", "last"]).wait(timeout=300) == 0, (here / "log").read_text()
    assert len(rows(here / RUN / "rounds.csv")) == 4


@pytest.mark.slow
def test_sigterm_ends_the_rendering_of_the_corpus_in_one_line(here: Path) -> None:
    words = ["fit", "--config", "round.yaml", "--trainer.accelerator=cpu"]
    own = {**os.environ, "XDG_CACHE_HOME": str(here / "own")}
    with (here / "log").open("wb") as log:
        process = subprocess.Popen(command(*words), env=own, stdout=log, stderr=log, start_new_session=True)
    when(lambda: any(here.glob("own/vqa-lightning/embedded-*/*.mp4")), process)
    ended_by(signal.SIGTERM, process, here)
    assert not list((here / "runs").glob("*/*"))
    before, _, _ = (here / "log").read_text().partition("Rendering")
    assert re.search(r"^about \d+ to \d+ minutes on \d cores?;", before, re.MULTILINE)


STUBBORN = """
import time
from pathlib import Path

from datamodules.teachers import Teacher
from datamodules.video import Sampling


class Stubborn(Teacher):
    def __init__(self):
        super().__init__("stubborn", Sampling(frames=1))

    def score(self, clips):
        Path("scoring").touch()
        while True:
            try:
                time.sleep(1)
            except BaseException:
                Path("heard").touch()
"""


@pytest.mark.slow
def test_the_second_ctrl_c_ends_at_once(here: Path, smallest: Sequence[str], start: Start) -> None:
    (here / "own.py").write_text(STUBBORN)
    process = start(here, [*smallest, "--data.workers=1", "--data.teachers=[{class_path: own.Stubborn}]"])
    for sign in ("scoring", "heard"):
        when((here / sign).exists, process)
        time.sleep(0.5)  # the same signal within a quarter of a second counts once
        signalled = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) == 128 + signal.SIGINT
    assert time.monotonic() < signalled + 5
    told = (here / "log").read_text()
    assert told.count("ended by Ctrl-C: ") == 1
    assert "Traceback" not in told


@pytest.mark.slow
def test_two_fits_at_once_have_a_folder_each(here: Path, smallest: Sequence[str], start: Start) -> None:
    words = [*smallest, "--trainer.max_epochs=1"]
    both = [start(here, [*words, f"--seed_everything={seed}"]) for seed in range(2)]
    assert [process.wait(timeout=300) for process in both] == [0, 0], (here / "log").read_text()[-3000:]
    runs = sorted((here / "runs" / "round").iterdir())
    assert [run.name for run in runs] == ["version_0", "version_1"]
    for run in runs:
        assert len(list(run.glob("events.*"))) == 1
        assert len(rows(run / "rounds.csv")) == 2
