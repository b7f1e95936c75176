"""Two processes of one run (gloo, on the CPU): they do what one does, and none outlives another."""

import csv
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from datamodules.labels import LabelStore

pytestmark = pytest.mark.slow

Start = Callable[..., "subprocess.Popen[bytes]"]

VERSION = Path("runs", "round", "version_0")
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp"]
STRATEGIES = {
    "ddp": TWO,
    "fsdp": [
        *("--config", "fsdp.yaml", "--trainer.accelerator=cpu", "--trainer.devices=2"),
        "--trainer.strategy.data_parallel_size=2",
    ],
}

OWN = """
import os, time
from pathlib import Path

import torch
from lightning.pytorch import Callback

from datamodules.video import Sampling
from datamodules.teachers import Teacher

class Sleeps(Teacher):
    def __init__(self):
        super().__init__("sleeps", Sampling(frames=1))

    def score(self, clips):
        Path("scoring-" + os.environ["LOCAL_RANK"]).touch()
        time.sleep(600)

class Forgets(Callback):
    "Gives all videos one score at the end of an epoch, whose round is then rejected."

    def __init__(self, epoch: int):
        self.epoch = epoch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.current_epoch == self.epoch and trainer.is_last_batch:
            with torch.no_grad():
                for parameter in pl_module.lmm.score_head.parameters():
                    parameter.zero_()
"""

FROM_BASE = """
trainer:
  callbacks:
    - class_path: callbacks.SelfImprovement
      init_args: {calibration_simulators: [gaussian_noise], restart: base}
    - class_path: own.Forgets
      init_args: {epoch: 2}
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {filename: last, enable_version_counter: false, save_on_train_epoch_end: true}
"""
ROUNDS = {
    "base": ["--config", "base.yaml"],
    "continue": ["--trainer.callbacks+={class_path: own.Forgets, init_args: {epoch: 1}}"],
}
"""Of three rounds each begins with the first weights, and the last is rejected; or each goes on with the
weights and the memory of the one before, and the second is rejected."""

# Muon and Adam divide by what only rounding decides. A large eps keeps differences as small as they are, and
# what Adam remembers still counts.
OPTIMIZER = ["--model.optimizer=AdamW", "--model.optimizer.lr=0.001", "--model.optimizer.eps=0.001"]

# Comparisons across the pairs of a batch stay within a process, whose batches are half as large.
LOSS = ["--model.loss.across=0"]


def words_of(here: Path, smallest: list[str], rounds: str) -> list[str]:
    """Makes the folder of a run, with what it names; returns its words."""
    here.mkdir()
    (here / "own.py").write_text(OWN)
    (here / "base.yaml").write_text(FROM_BASE)
    return [*smallest, *ROUNDS[rounds], *OPTIMIZER, *LOSS]


@pytest.fixture(scope="module")
def by_one(
    tmp_path_factory: pytest.TempPathFactory, smallest: list[str], run: Callable[..., int]
) -> Callable[[str], Path]:
    """Gives the folder of a finished run of one process, by its ROUNDS."""

    @cache
    def finish(rounds: str) -> Path:
        here = tmp_path_factory.mktemp("ranks") / "one"
        assert run(here, [*words_of(here, smallest, rounds), "--data.batch_size=4"]) == 0
        return here

    return finish


@pytest.fixture(
    scope="module",
    params=[("base", "ddp"), ("base", "fsdp"), ("continue", "fsdp")],
    ids=" ".join,
)
def both(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    smallest: list[str],
    by_one: Callable[[str], Path],
    start: Start,
) -> tuple[Path, Path]:
    """Folders of a run of three rounds by one process, and of the same by two with half the batch each."""
    rounds, strategy = request.param
    here = tmp_path_factory.mktemp("ranks") / "two"
    two = start(here, [*words_of(here, smallest, rounds), *STRATEGIES[strategy], "--data.batch_size=2"])
    one = by_one(rounds)
    # Longer than a loaded machine needs, shorter than processes that wait for each other for ever.
    assert two.wait(timeout=300) == 0, (here / "log").read_text()[-3000:]
    return one, here


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
        one, two = (LabelStore(here / VERSION / "labels").read() for here in both)
        keys = ["round", "video_id", "simulator", "level"]
        assert two.select(keys).equals(one.select(keys))
        # Gradients are summed in another order: float32 over fifteen steps.
        assert np.allclose(two["score"], one["score"], atol=1e-5)

    def test_later_pair_tables_are_nearly_the_same(self, both: tuple[Path, Path]) -> None:
        names = [sorted(path.name for path in (here / VERSION / "pairs").iterdir()) for here in both]
        assert names[0] == names[1]
        drawn = ["levels", "margin", "place_first", "place_second"]
        for table in names[0]:
            one, two = (pq.read_table(here / VERSION / "pairs" / table) for here in both)
            assert two.drop_columns(drawn).equals(one.drop_columns(drawn))
            for name in drawn:  # as exact as the scores
                ours, theirs = (np.array(found[name].to_pylist(), dtype=float) for found in (two, one))
                assert np.allclose(ours, theirs, atol=1e-4, equal_nan=True)

    def test_the_report_is_nearly_the_same(self, both: tuple[Path, Path]) -> None:
        one, two = (rows_of(here / VERSION / "rounds.csv") for here in both)
        assert sorted(row["verdict"] for row in one) == ["kept", "kept", "rejected"]
        assert [row.keys() for row in two] == [row.keys() for row in one]
        for row, expected in zip(two, one, strict=True):
            for name, cell in row.items():
                if name == "verdict" or not cell:
                    assert cell == expected[name]
                elif not name.endswith("seconds"):
                    assert float(cell) == pytest.approx(float(expected[name]), abs=1e-4, nan_ok=True), name

    def test_weights_and_what_the_optimiser_remembers_are_nearly_the_same(
        self, both: tuple[Path, Path]
    ) -> None:
        one, two = (checkpoint_of(here) for here in both)
        ours, theirs = two["state_dict"], one["state_dict"]
        assert ours.keys() == theirs.keys()
        # As the scores; the temperature, which divides what answers differ by, is of the order of 1 to 10.
        within = {name: 1e-3 if name == "temperature" else 1e-5 for name in theirs}
        assert all(torch.allclose(ours[name], theirs[name], atol=within[name]) for name in theirs)
        # Those of the last round: before it the memory was given up.
        steps = [
            {float(of["step"]) for of in held["optimizer_states"][0]["state"].values()} for held in (one, two)
        ]
        assert steps == [{5.0}, {5.0}]


def checkpoint_of(here: Path) -> dict[str, Any]:
    held: dict[str, Any] = torch.load(here / VERSION / "checkpoints" / "last.ckpt", weights_only=True)
    return held


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


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc, on Linux")
class TestOneDies:
    @pytest.mark.parametrize("rank", ["0", "1"])
    @pytest.mark.parametrize("phase", ["training", "annotation"])
    def test_all_end_with_one_sentence(
        self, rank: str, phase: str, tmp_path: Path, smallest: list[str], start: Start
    ) -> None:
        (tmp_path / "own.py").write_text(OWN)
        words = [*smallest, *TWO, "--trainer.max_epochs=1000"]
        signs = [tmp_path / VERSION / "checkpoints" / "last.ckpt"]
        if phase == "annotation":
            words += ["--data.teachers=[{class_path: own.Sleeps}]"]
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


def ended(process: "subprocess.Popen[bytes]", here: Path) -> None:
    """Two processes have just been told to end: one line, no traceback, and none is left."""
    assert process.wait(timeout=30) == 128 + signal.SIGTERM, (here / "log").read_text()[-3000:]
    log = (here / "log").read_text()
    assert "Traceback" not in log
    (line,) = [line for line in log.splitlines() if line.startswith("ended by ")]
    assert "go on with: " in line
    assert "last.ckpt is whole" in line


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc, on Linux")
def test_sigterm_ends_both_in_one_line(tmp_path: Path, smallest: list[str], start: Start) -> None:
    process = start(tmp_path, [*smallest, *TWO, "--trainer.max_epochs=1000"])
    with no_process_left(process):
        wait_for([tmp_path / VERSION / "checkpoints" / "last.ckpt"], process)
        os.killpg(process.pid, signal.SIGTERM)
        ended(process, tmp_path)
        assert not processes_of(process.pid)


def test_sigterm_of_a_launcher_ends_both_in_one_line(
    tmp_path: Path, smallest: list[str], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }
    shared |= {"TORCHELASTIC_RUN_ID": "none", "GROUP_RANK": "0"}  # as torchrun sets them
    ranks = []
    for rank in ("0", "1"):
        for name, value in {**shared, "RANK": rank, "LOCAL_RANK": rank}.items():
            monkeypatch.setenv(name, value)
        ranks.append(start(tmp_path, [*smallest, *TWO, "--trainer.max_epochs=1000"]))
    with no_process_left(ranks[0]), no_process_left(ranks[1]):
        wait_for([tmp_path / VERSION / "checkpoints" / "last.ckpt"], ranks[0])
        for process in ranks:
            process.send_signal(signal.SIGTERM)
        for process in ranks:
            ended(process, tmp_path)
