"""Many small files through `predict`, killed and begun again, and annotation on a slow disk.

    python benchmarks/load.py --files 10000 [--starts 8] [--draws 1000] [--ckpt_path last.ckpt]

Real clips are cut to a few small frames, and each cut is there under many names, with bytes of its own behind
it. `predict` scores all of them in a terminal. Measured are

- memory in MB of the main process, and of its workers together (what they share counts once), after the first
  hundred scores and at the end;
- by how many videos the progress line is ahead of the scores on the disk, or behind them, at worst;
- seconds to the first new score of a command that was killed at a random moment and is begun again, and to
  that of a first one, both from the end of the imports on.

What is written in the end must be what is written without kills. Then `Artefacts` annotates with 8 workers on
a disk that takes .1 s to open a file; its scores must be those of one process on a fast disk.
"""

import argparse
import os
import pty
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import av
from experiment import arguments, table
from rich.console import Console

from datamodules.corpus import build_corpus
from datamodules.corpus.table import all_videos
from datamodules.labels import LabelStore, Request, annotate_missing
from datamodules.teachers.artefacts import Artefacts

FRAMES, SIZE = 12, (96, 64)
"""Of a cut, in number and in pixels."""

CUTS = 40

OPENING = 0.1
"""Seconds that a slow disk takes to open a file."""

WORKERS = 8

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"

NEAR = 100
"""Scores after which memory has grown as far as it may."""


def write_files(folder: Path, clips: Sequence[Path], files: int) -> None:
    """Write as many small videos as asked for."""
    folder.mkdir(parents=True)
    cuts = [cut for clip in clips for cut in cuts_of(clip)][:CUTS]
    for number in range(files):
        own = number.to_bytes(4, "big")
        # A box of MP4 that readers pass over.
        box = (8 + len(own)).to_bytes(4, "big") + b"free" + own
        (folder / f"{number:06}.mp4").write_bytes(cuts[number % len(cuts)] + box)


def cuts_of(clip: Path) -> Iterator[bytes]:
    """Yield the first frames of a clip as small files, a few to a clip."""
    with av.open(str(clip)) as source:
        frames = [frame for _, frame in zip(range(4 * FRAMES), source.decode(video=0), strict=False)]
    for first in range(0, len(frames) - FRAMES + 1, FRAMES):
        file = Path(f"/tmp/cut-{os.getpid()}.mp4")
        with av.open(str(file), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            stream.width, stream.height = SIZE
            stream.pix_fmt = "yuv420p"
            for place, frame in enumerate(frames[first : first + FRAMES]):
                small = frame.reformat(*SIZE, format="yuv420p")
                small.pts, small.time_base = place, Fraction(1, 25)
                container.mux(stream.encode(small))
            container.mux(stream.encode(None))
        yield file.read_bytes()
        file.unlink()


class Memory(NamedTuple):
    """MB of the main process, and of all below it."""

    main: float
    workers: float

    @classmethod
    def of(cls, pid: int) -> "Memory":
        """Look at a process that runs."""
        below = [pid]
        for parent in below:
            with suppress(OSError):
                below += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
        main, *workers = (_megabytes(one) for one in below)
        return cls(main, sum(workers))


def _megabytes(pid: int) -> float:
    with suppress(OSError):
        told = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(re.findall(r"^Pss:\s+(\d+)", told, re.M)[0]) / 1024
    return 0.0


class Command:
    """A `predict` in a terminal, that is watched.

    Args:
        folder: where it runs.
        words: of the command.

    Attributes:
        imported: when it began to work; None: it has not yet.
        shown: what its progress line says is done.
        said: all that it wrote.
    """

    def __init__(self, folder: Path, words: Sequence[str]) -> None:
        self.folder = folder
        self.imported: float | None = None
        self.shown = 0
        self.said = ""
        ours, theirs = pty.openpty()
        environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vqa_lightning", *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        threading.Thread(target=self._listen, args=(ours,), daemon=True).start()

    def _listen(self, terminal: int) -> None:
        with suppress(OSError):  # Linux's way to say that nobody writes any more
            while told := os.read(terminal, 1 << 16):
                self.said += told.decode(errors="replace")
                if self.imported is None and "Seed set" in self.said:
                    self.imported = time.monotonic()
                if done := re.findall(r"Predicting.*?(\d+)/\d+", self.said[-4000:]):
                    self.shown = int(done[-1])

    @property
    def rows(self) -> int:
        """Scores that are on the disk."""
        return sum(journal.read_bytes().count(b"\n") for journal in self.folder.glob(".scores.csv.*"))

    def until(self, rows: float) -> None:
        """Wait for more scores than these, or for the end."""
        while self.process.poll() is None and self.rows <= rows:
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill it and its workers."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Whole(NamedTuple):
    """What a command that nobody disturbed did.

    Attributes:
        first: seconds from the imports to the first score.
        seconds: from the first score to the last.
        near: memory after the first hundred.
        end: memory at the end.
        ahead: videos that the progress line showed and that were not on the disk, at most.
        behind: the reverse.
        output: what was written.
    """

    first: float
    seconds: float
    near: Memory
    end: Memory
    ahead: int
    behind: int
    output: bytes


def undisturbed(folder: Path, words: Sequence[str], files: int) -> Whole:
    """Score all files."""
    command = Command(folder, words)
    command.until(0)
    began, strays, memory = time.monotonic(), [0], dict[int, Memory]()
    while command.process.poll() is None:
        shown, rows = command.shown, command.rows
        if rows:  # until the output is written
            strays.append(shown - rows)
            if rows >= NEAR:
                memory[rows] = Memory.of(command.process.pid)
            ended = time.monotonic()
        time.sleep(0.5)
    if command.process.returncode:
        raise SystemExit(command.said[-3000:])
    near, end = memory[min(memory)], memory[max(memory)]
    output = (folder / "scores.csv").read_bytes()
    first = began - (command.imported or began)
    return Whole(first, ended - began, near, end, max(strays), -min(strays), output)


def begun_again(folder: Path, words: Sequence[str], whole: Whole, options: argparse.Namespace) -> list[float]:
    """Kill the command at random moments; return the seconds to the first new score of each start."""
    chance, waited = random.Random(options.seed), []
    for _ in range(options.starts):
        command = Command(folder, words)
        before = command.rows
        command.until(before)
        if command.process.poll() is not None:
            break
        waited.append(time.monotonic() - (command.imported or 0))
        print(f"begun with {before} scores, the next after {waited[-1]:.1f} s", file=sys.stderr)
        time.sleep(chance.random() * whole.seconds / options.starts * 1.5)
        command.kill()
    command = Command(folder, words)
    command.until(inf)
    if (folder / "scores.csv").read_bytes() != whole.output:
        raise SystemExit("what was killed and begun again wrote other scores")
    return waited


@contextmanager
def slow_disk() -> Iterator[None]:
    """Have every file take its time to open, in workers that are forked as well."""
    real: Callable[..., Any] = av.open

    def late(*words: Any, **more: Any) -> Any:
        time.sleep(OPENING)
        return real(*words, **more)

    av.open = late
    try:
        yield
    finally:
        av.open = real


def annotated(videos: Path, draws: int, folder: Path) -> tuple[float, float]:
    """Return the seconds of one process on a fast disk, and of 8 workers on a slow one."""
    rows = list(all_videos(build_corpus(str(videos), progress=False)))[:draws]
    requests = [Request(video) for video in rows]
    stores = [LabelStore(str(folder / name)) for name in ("fast", "slow")]
    began = time.monotonic()
    annotate_missing(Artefacts(), requests, stores[0], 0)
    fast = time.monotonic() - began
    with slow_disk():
        began = time.monotonic()
        annotate_missing(Artefacts(), requests, stores[1], 0, workers=WORKERS)
    slow = time.monotonic() - began
    ours, theirs = (sorted(store.read(round=0).to_pylist(), key=str) for store in stores)
    if len(ours) != len(requests) or ours != theirs:
        raise SystemExit("workers on a slow disk gave other labels")
    return fast, slow


def main() -> None:
    """Score, kill, annotate, and print what it took."""
    parser = arguments(__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--starts", type=int, default=8, help="commands that are killed")
    parser.add_argument("--draws", type=int, default=1000, help="clips that are annotated")
    parser.add_argument("--clips", type=Path, default=CLIPS, help="folder of videos that are cut")
    parser.add_argument("--ckpt_path", type=Path, help="default: the scorer that ships with the package")
    parser.add_argument("--workers", type=int, default=2, help="of predict")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, default=Path("runs/load"), help="must not exist")
    options = parser.parse_args()
    root = options.root.resolve()
    videos = root / "videos"
    clips = sorted(file for file in options.clips.iterdir() if file.suffix in (".mp4", ".y4m"))
    write_files(videos, clips, options.files)
    os.environ["XDG_CACHE_HOME"] = str(root / "cache")
    words = ["predict", "--data.videos", str(videos), "--output", "scores.csv"]
    words += ["--data.workers", str(options.workers), "--trainer.accelerator", "cpu"]
    words += [] if options.ckpt_path is None else ["--ckpt_path", str(options.ckpt_path.resolve())]
    for name in ("whole", "killed"):
        (root / name).mkdir()
    whole = undisturbed(root / "whole", words, options.files)
    console, near, end = Console(width=100), whole.near, whole.end
    shown = table(f"{options.files} files of {FRAMES} frames", ["what"], ["value"])
    shown.add_row("scores a second", f"{options.files / whole.seconds:.1f}")
    shown.add_row(f"MB after {NEAR} scores, main and workers", f"{near.main:.0f} + {near.workers:.0f}")
    shown.add_row("MB at the end", f"{end.main:.0f} + {end.workers:.0f}")
    shown.add_row("progress line ahead of the disk, behind it, at most", f"{whole.ahead}, {whole.behind}")
    shown.add_row("seconds to the first score, all files new", f"{whole.first:.1f}")
    console.print(shown)
    waited = begun_again(root / "killed", words, whole, options)
    again = ", ".join(f"{seconds:.1f}" for seconds in waited[1:])
    shown.add_row("seconds to the first new score, begun again", again)
    fast, slow = annotated(videos, options.draws, root)
    shown.add_row(f"seconds of {options.draws} draws, fast disk, this process", f"{fast:.1f}")
    opening = options.draws * OPENING / WORKERS
    shown.add_row(f"the same, slow disk, {WORKERS} workers ({opening:.1f} s of it opening)", f"{slow:.1f}")
    console.print(shown)


if __name__ == "__main__":
    main()
