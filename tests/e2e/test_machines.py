"""Little shared memory, and workers that are spawned, as on macOS: by the real command line."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

VERSION = Path("runs", "round", "version_0")

STARTS = """
import multiprocessing
import sys

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv.pop(1))
    multiprocessing.set_forkserver_preload(["vqa_lightning.cli"])
    from vqa_lightning.__main__ import start

    start()
"""

PREDICT = ("predict", "--ckpt_path", "{}", "--data.videos", "videos", "--trainer.accelerator", "cpu")


def rows(file: Path) -> list[list[str]]:
    with file.open(newline="") as stream:
        return list(csv.reader(stream))


def said(command: Sequence[str]) -> str:
    """Run a command that must succeed; return what it says."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def predict(tiny_checkpoint: Path, videos: Path) -> list[str]:
    return [word.format(tiny_checkpoint) for word in PREDICT]


@pytest.fixture
def starts(here: Path) -> list[str]:
    """The beginning of a command, without the way in which it starts its workers."""
    (here / "starts.py").write_text(STARTS)
    return [sys.executable, "starts.py"]


@pytest.mark.slow
def test_neither_little_shared_memory_nor_spawned_workers_change_a_score(
    predict: list[str], starts: list[str], here: Path, with_shm: Callable[..., list[str]]
) -> None:
    said([*starts, "fork", *predict, "--data.workers=0", "--output=here.csv"])
    said([*starts, "spawn", *predict, "--data.workers=2", "--output=spawned.csv"])
    little = with_shm("64k", *starts, "fork", *predict, "--data.workers=1", "--output=piped.csv")
    assert said(little).count("note: ") == 1
    assert rows(here / "spawned.csv") == rows(here / "piped.csv") == rows(here / "here.csv")


@pytest.mark.slow
def test_they_suffice_for_a_fit(
    here: Path, starts: list[str], smallest: list[str], with_shm: Callable[..., list[str]]
) -> None:
    # A server forks what is sent to it as to a spawned worker, and has imported everything.
    words = [*smallest, "--data.workers=1", "--trainer.max_epochs=1"]
    assert "note: " in said(with_shm("64k", *starts, "forkserver", *words))
    assert len(rows(here / VERSION / "rounds.csv")) == 2


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in found.split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are found in /proc, on Linux")
def test_a_signal_while_workers_are_spawned_is_one_line(
    predict: list[str], starts: list[str], here: Path
) -> None:
    with (here / "log").open("wb") as log:
        words = [*starts, "spawn", *predict, "--data.workers=2"]
        process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        while len(children(process.pid)) < 3:  # with the one that keeps account of what they share
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=30) == 128 + signal.SIGINT
    told = (here / "log").read_text()
    assert "Traceback" not in told
    assert "leak" not in told
    assert told.count("ended by") == 1
