"""Time and memory of a label store of a million videos: open, fit the consensus, draw pairs.

    python benchmarks/label_store.py --videos 1000000 --teachers 5 --pairs 500000

Made-up scores are written by one process to a temporary folder in parts of the size that annotation writes;
each step is then timed in a fresh process, with its peak memory since the start. What a resumed annotation
asks of the store, which scores are there, is timed in a process of its own.
"""

import hashlib
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from experiment import arguments, table
from rich.console import Console

from datamodules.labels import Annotation, Consensus, Labelling, LabelStore, fit_consensus
from datamodules.labels.annotation import PART_ROWS
from datamodules.pairs.scored import teacher_pairs

RANKS = 8
Result = TypeVar("Result")
Step = tuple[str, float, float]
"""What was done, seconds, and the peak of the process's memory by then in MB."""


def video_ids(count: int) -> list[str]:
    """Return ids as the corpus makes them: hexadecimal digits of a hash."""
    return [hashlib.sha256(str(index).encode()).hexdigest()[:16] for index in range(count)]


def fingerprints(teachers: int) -> list[str]:
    """Return one fingerprint for each teacher."""
    return [f"{index:012x}" for index in range(teachers)]


def write_store(folder: str, videos: int, teachers: int) -> None:
    """Write the sources' scores as `annotate_missing` would: sorted, dealt to ranks, in parts."""
    rng = np.random.default_rng(0)
    ids = sorted(video_ids(videos))
    truth = rng.normal(size=videos)
    store = LabelStore(folder)
    for index, fingerprint in enumerate(fingerprints(teachers)):
        scores = (index + 1) * (truth + rng.normal(size=videos))
        rows = [
            Annotation(name, None, 0, score, 0.1) for name, score in zip(ids, scores.tolist(), strict=True)
        ]
        for rank in range(RANKS):
            share = rows[rank::RANKS]
            for start in range(0, len(share), PART_ROWS):
                store.write(0, f"teacher{index}", fingerprint, share[start : start + PART_ROWS], rank=rank)


@contextmanager
def timed(steps: list[Step], name: str) -> Iterator[None]:
    """Add a step."""
    began = time.perf_counter()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux gives kilobytes
    steps.append((name, time.perf_counter() - began, peak))


def begin_round(folder: str, videos: int, teachers: int, pairs: int) -> list[Step]:
    """Do what `fit` does with the store before its first step."""
    steps: list[Step] = []
    with timed(steps, "ids; memory with imports"):
        ids = video_ids(videos)
    with timed(steps, "open and read the store"):
        table = LabelStore(folder).read(round=0)
    with timed(steps, "fit the consensus"):
        fitted = fit_consensus(table, ids, fingerprints(teachers))
    with timed(steps, "mean and variance"):
        mean, variance = fitted.scores(ids)
    with timed(steps, f"draw {pairs} balanced pairs"):
        consensus = Consensus(tuple(ids), mean, variance)
        teacher_pairs(np.random.default_rng(0), consensus, pairs, draws=8, labelling=Labelling())
    return steps


def resume(folder: str, videos: int, teachers: int, pairs: int) -> list[Step]:
    """Ask of the store, for one teacher, what a restarted annotation asks."""
    steps: list[Step] = []
    with timed(steps, "one teacher: which scores are there"):
        LabelStore(folder).have(0, fingerprints(teachers)[0])
    return steps


def in_fresh_process(step: Callable[..., Result], *arguments: object) -> Result:
    """Run a function in a new interpreter, so that its peak memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(step, arguments)


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--teachers", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=500_000)
    given = parser.parse_args()
    sizes = (given.videos, given.teachers)
    report = table(f"{sizes[0]} videos x {sizes[1]} teachers", ["step"], ("seconds", "peak memory, MB"))
    with tempfile.TemporaryDirectory() as folder:
        in_fresh_process(write_store, folder, *sizes)
        steps = in_fresh_process(begin_round, folder, *sizes, given.pairs)
        seconds = sum(second for _, second, _ in steps)
        for name, second, peak in steps:
            report.add_row(name, f"{second:.1f}", f"{peak:.0f}")
        report.add_row("all of these", f"{seconds:.1f}", f"{steps[-1][2]:.0f}", end_section=True)
        for name, second, peak in in_fresh_process(resume, folder, *sizes, given.pairs):
            report.add_row(name, f"{second:.1f}", f"{peak:.0f}")
    Console().print(report)


if __name__ == "__main__":
    main()
