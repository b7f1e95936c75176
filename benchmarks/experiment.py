"""What the scripts share: arguments, trainings on one thread, folds, versions and their judge, tables."""

import argparse
import csv
import os
import re
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from datamodules.fidelity import xpsnr
from datamodules.labels import ClipItem, Request
from datamodules.simulators import Simulator
from datamodules.teachers.full_reference import FullReference
from datamodules.video import Video

CONFIGS = Path(__file__).resolve().parents[1] / "configs"

QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
"""Settings of a Trainer that leaves and prints nothing."""


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is the text of a script."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def in_own_process(words: Sequence[str], log: Path, name: str) -> float:
    """Run a command on one thread with its output in the log; print and return the seconds that it took.

    Raises:
        SystemExit: it failed.
    """
    began = time.monotonic()
    with log.open("w") as stream:
        done = subprocess.run(
            words, check=False, stdout=stream, stderr=stream, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    if done.returncode:
        raise SystemExit(f"{name}: failed, see {log}")
    seconds = time.monotonic() - began
    print(f"{name}: {seconds:.0f} s", flush=True)
    return seconds


def fit(root: Path, config: str, settings: Mapping[str, object]) -> tuple[Path, float]:
    """Fit by a config in a process of its own on one thread, unless the folder holds the finished run.

    Args:
        root: folder of the run.
        config: name of a shipped one, or a path.
        settings: of the command line.

    Returns:
        The last checkpoint, and the seconds that the run took.
    """
    spent = root / "seconds.txt"
    if not spent.is_file():
        root.mkdir(parents=True, exist_ok=True)
        own = {"trainer.enable_progress_bar": "false", "trainer.default_root_dir": root}
        words = [f"--{name}={value}" for name, value in {**settings, **own}.items()]
        call = [sys.executable, "-m", "vqa_lightning", "fit", "--config", config, *words]
        spent.write_text(f"{in_own_process(call, root / 'log.txt', str(root)):.1f}")
    checkpoints = root.glob("runs/*/version_*/checkpoints/last.ckpt")
    return max(checkpoints, key=lambda path: path.stat().st_mtime), float(spent.read_text())


def folder_name(arm: str) -> str:
    """Return the arm's name without characters that a shell would trip over."""
    return "_".join(re.findall(r"\w+", arm))


def folds(corpus: Sequence[Video], count: int) -> Iterator[list[str]]:
    """Yield the contents of each fold, largest frames first and dealt out so that a fold has all sizes."""
    sizes: dict[str, int] = {}
    for video in corpus:
        sizes[video.content] = max(sizes.get(video.content, 0), video.width * video.height)
    ordered = sorted(sizes, key=lambda content: (-sizes[content], content))
    for fold in range(count):
        yield ordered[fold::count]


def write_manifest(file: Path, corpus: Iterable[Video], report: Collection[str], select: str) -> None:
    """Write a manifest: some contents to report on, one other to select by, the rest to train on."""
    with file.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("path", "content", "split"))
        for video in corpus:
            split = "select" if video.content == select else "train"
            split = "report" if video.content in report else split
            rows.writerow((Path(video.path).resolve(), video.content, split))


def versions(contents: Iterable[Video], simulators: Iterable[Simulator]) -> list[Request]:
    """Return each video and all of its versions by the simulators."""
    levels = [(one, level + 1) for one in simulators for level in range(len(one.levels))]
    return [Request(video, one, level) for video in contents for one, level in [(None, 0), *levels]]


Scores = dict[tuple[str, str | None, int], float]
"""(video_id, identity of the simulator, level) -> score."""


class XPSNR(FullReference):
    """The judge: XPSNR against the source, on windows that hold what the student sees of a clip."""

    def __init__(self, segments: int = 2, frames: int = 4, window: int = 256) -> None:
        super().__init__("ssim", segments, frames, window)
        self.name = "xpsnr"

    def score_items(self, clips: torch.Tensor, items: Sequence[ClipItem]) -> torch.Tensor:
        """Return decibels, at most 100: equal clips have infinitely many."""
        sources = torch.stack([item.sources for item in items])
        pairs = zip(self.apart((clips * 255).round().byte()), self.apart(sources), strict=True)
        return torch.tensor([min(xpsnr(clip, source), 100.0) for clip, source in pairs])


def now(device: torch.device) -> float:
    """Return seconds, once a GPU has done all that it was given; of CPU time without one."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def table(title: str, left: Sequence[str] = (), right: Sequence[str] = ()) -> Table:
    """Return a table without rows, its first columns of words, the others of numbers."""
    empty = Table(*left, title=title, title_justify="left")
    for column in right:
        empty.add_column(column, justify="right")
    return empty


def with_interval(value: float, ends: Sequence[float], digits: int = 3) -> str:
    """Return `0.312 [0.010, 0.540]`."""
    return f"{value:.{digits}f} [{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]"


def with_quartiles(values: np.ndarray, digits: int = 2) -> str:
    """Return `1.02 [1.00, 1.05]`: median and quartiles."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return with_interval(middle, (low, high), digits)
