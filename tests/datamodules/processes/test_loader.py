"""Workers on machines that lack something, and workers that are lost: a sentence or the clips, no waiting."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from datamodules.errors import InputError
from datamodules.labels import ClipDataset, Request
from datamodules.processes import WorkerLoader
from datamodules.video import Sampling, probe
from datamodules.video.one_file import of_one_file
from vqa_lightning.commandline.mistakes import mistake, sentence

Own = Callable[..., list[str]]


class Made(Dataset[Any]):
    """Four items, each made where it is read."""

    def __init__(self, make: Callable[[int], object]) -> None:
        self.make = make

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> object:
        return self.make(index)


def read(make: Callable[[int], object]) -> list[Any]:
    return list(WorkerLoader(Made(make), batch_size=None, num_workers=2))


CLIPS = """
import torch
from datamodules.processes import WorkerLoader

clips = [torch.full((1 << 20,), number, dtype=torch.uint8) for number in range(6)]
views = [clip[: 1 << 10] for clip in clips]
for items in (clips, views):
    read = list(WorkerLoader(items, batch_size=None, num_workers=2))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(read, items, strict=True))
"""


@pytest.mark.parametrize(("size", "said"), [("1m", "by pipe"), ("4k", "no process can be started")])
def test_little_shared_memory_is_said_once_and_costs_no_clip(size: str, said: str, with_shm: Own) -> None:
    words = with_shm(size, sys.executable, "-c", CLIPS)
    done = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("note: ")
    assert said in line


def test_what_cannot_be_sent_is_told() -> None:
    with pytest.raises(InputError) as told:
        read(lambda index: (lambda: index) if index else index)
    assert "cannot be sent" in sentence(told.value)
    assert "--data.workers 0" in sentence(told.value)


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGBUS])
def test_a_lost_worker_is_one_sentence(fate: signal.Signals) -> None:
    with pytest.raises(RuntimeError) as lost:
        read(lambda index: os.kill(os.getpid(), fate))
    told = mistake(lost.value)
    assert told is not None
    assert "--data.workers 0" in sentence(told)


@pytest.mark.slow
def test_spawned_workers_read_the_same(mixed_corpus: Path) -> None:
    requests = [Request(probe(mixed_corpus / f"video-{index}.mp4")) for index in range(2)]
    dataset = ClipDataset(requests, Sampling(frames=2, window=32), draws=2)
    ways = ({"num_workers": 0}, {"num_workers": 1, "multiprocessing_context": "spawn"})
    here, there = (list(WorkerLoader(dataset, batch_size=None, **way)) for way in ways)  # type: ignore[arg-type]
    assert all(torch.equal(ours.frames, theirs.frames) for ours, theirs in zip(here, there, strict=True))


def test_a_file_that_ends_its_worker_is_named(tmp_path: Path) -> None:
    @of_one_file(str)
    def clip(path: Path) -> int:
        if path.name == "2.mp4":
            os.kill(os.getpid(), signal.SIGABRT)
        return 1

    with pytest.raises(RuntimeError) as died:
        read(lambda index: clip(tmp_path / f"{index}.mp4"))
    told = str(mistake(died.value))
    assert f") while it read {tmp_path}/2.mp4: leave that file out" in told


def test_a_file_that_was_read_is_not_blamed(tmp_path: Path) -> None:
    @of_one_file(str)
    def clip(path: Path) -> int:
        return 1

    def item(index: int) -> int:
        clip(tmp_path / "good.mp4")
        if index == 2:
            os.kill(os.getpid(), signal.SIGABRT)
        return index

    with pytest.raises(RuntimeError) as died:
        read(item)
    assert "): read with fewer" in str(mistake(died.value))
