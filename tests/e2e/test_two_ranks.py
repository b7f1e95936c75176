"""Two processes of one run (DDP on the CPU, gloo): they do what one does, and none outlives another."""

import csv
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from datamodules.label_store import LabelStore

Start = Callable[..., "subprocess.Popen[bytes]"]

VERSION = Path("runs", "round", "version_0")
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp"]

SLEEPS = """
import os, time
from pathlib import Path
from datamodules.decoding import Sampling
from datamodules.teachers import Teacher

class Sleeps(Teacher):
    def __init__(self):
        super().__init__("sleeps", Sampling(frames=1))

    def score(self, clips):
        Path("scoring-" + os.environ["LOCAL_RANK"]).touch()
        time.sleep(600)
"""


@pytest.fixture(scope="module")
def both(
    tmp_path_factory: pytest.TempPathFactory, smallest: list[str], run: Callable[..., int], start: Start
) -> tuple[Path, Path]:
    """Folders of a run of two rounds by one process, and of the same by two with half the batch each."""
    here = tmp_path_factory.mktemp("ranks")
    # Muon and Adam divide by what only rounding decides: SGD keeps differences as small as they are.
    words = [*smallest, "--trainer.max_epochs=2", "--model.optimizer=SGD", "--model.optimizer.lr=0.01"]
    two = start(here / "two", [*words, *TWO, "--data.batch_size=2"])
    assert run(here / "one", [*words, "--data.batch_size=4"]) == 0
    # Longer than a loaded machine needs, shorter than processes that wait for each other for ever.
    assert two.wait(timeout=300) == 0, (here / "two" / "log").read_text()[-3000:]
    return here / "one", here / "two"


class TestTwoAreOne:
    def test_every_version_is_scored_once(self, both: tuple[Path, Path]) -> None:
        for store in ("labels", VERSION / "labels"):
            parts = [pq.ParquetFile(path).metadata.num_rows for path in (both[1] / store).rglob("part-*")]
            assert len(parts) > 1
            assert sum(parts) == LabelStore(both[1] / store).read().num_rows

    def test_teachers_say_the_same(self, both: tuple[Path, Path]) -> None:
        one, two = (LabelStore(here / "labels").read() for here in both)
        assert two.equals(one)

    def test_the_first_pair_table_is_the_same(self, both: tuple[Path, Path]) -> None:
        one, two = (pq.read_table(here / VERSION / "pairs" / "round-0.parquet") for here in both)
        assert two.equals(one)

    def test_the_student_says_nearly_the_same(self, both: tuple[Path, Path]) -> None:
        one, two = (LabelStore(here / VERSION / "labels").read(round=2) for here in both)
        keys = ["video_id", "simulator", "level"]
        assert two.select(keys).equals(one.select(keys))
        # Gradients are summed in another order: float32 over ten steps.
        assert np.allclose(two["score"], one["score"], atol=1e-5)

    def test_the_next_pair_table_is_nearly_the_same(self, both: tuple[Path, Path]) -> None:
        one, two = (pq.read_table(here / VERSION / "pairs" / "round-1.parquet") for here in both)
        drawn = ["levels", "margin"]
        assert two.drop_columns(drawn).equals(one.drop_columns(drawn))
        for name in drawn:  # as exact as the scores
            ours, theirs = (np.array(table[name].to_pylist(), dtype=float) for table in (two, one))
            assert np.allclose(ours, theirs, atol=1e-4, equal_nan=True)

    def test_the_report_is_nearly_the_same(self, both: tuple[Path, Path]) -> None:
        one, two = (rows_of(here / VERSION / "rounds.csv") for here in both)
        assert [row.keys() for row in two] == [row.keys() for row in one]
        for row, expected in zip(two, one, strict=True):
            for name, cell in row.items():
                if name == "verdict" or not cell:
                    assert cell == expected[name]
                elif not name.endswith("seconds"):
                    assert float(cell) == pytest.approx(float(expected[name]), abs=1e-4, nan_ok=True), name


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def processes_of(session: int) -> dict[int, str]:
    """Process id -> local rank of the processes of a session; Linux."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == session:
                words = (folder / "environ").read_bytes().split(b"\0")
                ranks = [
                    word.partition(b"=")[2].decode() for word in words if word.startswith(b"LOCAL_RANK=")
                ]
                found[int(folder.name)] = (ranks or ["0"])[0]
        except (ProcessLookupError, FileNotFoundError):
            continue  # it has just ended
    return found


@contextmanager
def no_process_left(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Ends a session whatever happens."""
    try:
        yield
    finally:
        for left in processes_of(process.pid):
            os.kill(left, signal.SIGKILL)
        process.wait()


def wait_for(files: list[Path], process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 200  # of a loaded machine
    while not all(file.exists() for file in files):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc, on Linux")
class TestOneDies:
    @pytest.mark.parametrize("rank", ["0", "1"])
    @pytest.mark.parametrize("phase", ["training", "annotation"])
    def test_all_end_with_one_sentence(
        self, rank: str, phase: str, tmp_path: Path, smallest: list[str], start: Start
    ) -> None:
        (tmp_path / "naps.py").write_text(SLEEPS)
        words = [*smallest, *TWO, "--trainer.max_epochs=1000"]
        signs = [tmp_path / VERSION / "checkpoints" / "last.ckpt"]
        if phase == "annotation":
            words += ["--data.teachers=[{class_path: naps.Sleeps}]"]
            signs = [tmp_path / f"scoring-{one}" for one in (0, 1)]
        process = start(tmp_path, words)
        with no_process_left(process):
            wait_for(signs, process)
            killed = time.monotonic()
            (victim,) = [one for one, of in processes_of(process.pid).items() if of == rank]
            os.kill(victim, signal.SIGKILL)
            assert process.wait(timeout=20) != 0
            while processes_of(process.pid) and time.monotonic() < killed + 20:
                time.sleep(0.1)
            assert not processes_of(process.pid)
        log = (tmp_path / "log").read_text()
        who = (
            "the first process of the run died"
            if rank == "0"
            else "process 1 of the run was killed (SIGKILL)"
        )
        assert log.count("error: ") == 1
        assert f"error: {who}: look for the reason" in log
        assert "--ckpt_path last" in log
        assert "Traceback" not in log
