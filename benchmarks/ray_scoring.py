"""How many videos a second are scored under Lightning, and under Ray with one worker and with two.

    python benchmarks/ray_scoring.py [--copies 6] [--turns 3] [--videos FOLDER]

The same files in one run: copies of real clips, scored by the scorer of this package. A worker is a node of a
real local Ray cluster that has one task which reads and one actor which scores; Lightning has as many
processes that read. All of it runs on this machine, so that what a second worker gains is bounded by its
cores and by what else they do; the line below the table says how busy they were. Each command is given twice:
the second time all videos are scored, and the difference is what scoring costs, in seconds of the wall and of
CPU, of all processes together, those of the cluster included. Engines take turns, and the table has medians.
All rows must be equal, to the bit.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow.parquet as pq
from experiment import arguments
from rich.console import Console
from rich.table import Table

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
READERS = (1, 2)
TICKS = os.sysconf("SC_CLK_TCK")


class Spent:
    """Seconds of the wall, and of CPU by all processes below this one, while a `with` block runs.

    Processes are looked at twice a second: what one does after it was last seen is lost.
    """

    def __enter__(self) -> "Spent":
        """Begin to count."""
        self._before, self._seen = self._now(), {}
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        self._began = time.monotonic()
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """Stop counting."""
        self.wall = time.monotonic() - self._began
        self._ended.set()
        self._watch.join()
        self.cpu = sum(ticks - self._before.get(process, 0) for process, ticks in self._seen.items()) / TICKS

    def _look(self) -> None:
        while True:
            self._seen |= self._now()
            if self._ended.wait(0.5):
                return

    def _now(self) -> dict[tuple[int, int], int]:
        """Return the ticks of user and system of each process below this one, by its id and its beginning."""
        found = {}
        for file in Path("/proc").glob("[0-9]*/stat"):
            try:
                words = file.read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            process = int(file.parent.name)
            found[process] = int(words[1]), int(words[19]), int(words[11]) + int(words[12])
        mine, more = {os.getpid()}, {os.getpid()}
        while more:
            more = {process for process, (parent, _, _) in found.items() if parent in more} - mine
            mine |= more
        mine.discard(os.getpid())
        return {(one, found[one][1]): found[one][2] for one in mine if one in found}


def copies_of(videos: Path, count: int, folder: Path) -> Path:
    """Copy each video as often as is said into a folder."""
    folder.mkdir()
    for number in range(count):
        for file in sorted(videos.iterdir()):
            shutil.copy(file, folder / f"{number}_{file.name}")
    return folder


def spent(words: Sequence[str], folder: Path, address: str | None) -> tuple[float, float]:
    """Return the seconds of the wall and of CPU of a command on one thread; its output goes to a log."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache")}
    if address is not None:
        environment["RAY_ADDRESS"] = address
    with (folder / "log").open("a") as log, Spent() as seconds:
        call = [sys.executable, "-m", "vqa_lightning", "predict", *words]
        done = subprocess.run(call, check=False, cwd=folder, stdout=log, stderr=log, env=environment)
    if done.returncode:
        raise SystemExit((folder / "log").read_text())
    return seconds.wall, seconds.cpu


def rows_of(output: Path) -> list[dict[str, object]]:
    """Return the rows of a file or of a folder of parts, by their path."""
    rows: list[dict[str, object]] = pq.read_table(output).to_pylist()
    return sorted(rows, key=lambda row: str(row["path"]))


def main() -> None:
    """Print the table."""
    from ray.cluster_utils import Cluster

    parser = arguments(__doc__)
    parser.add_argument("--copies", type=int, default=6)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--videos", type=Path, default=CLIPS)
    given = parser.parse_args()
    turns: dict[tuple[str, int], list[tuple[tuple[float, float], tuple[float, float]]]] = {}
    outputs: list[list[dict[str, object]]] = []
    busy = []
    with tempfile.TemporaryDirectory() as place:
        videos = copies_of(given.videos, given.copies, Path(place, "videos"))
        common = ["--data.videos", str(videos)]
        common += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
        for turn in range(given.turns):
            for readers in READERS:
                for engine in ("lightning", "ray"):
                    folder = Path(place, f"{engine} {readers} {turn}")
                    folder.mkdir()
                    output = folder / ("scores" if engine == "ray" else "scores.parquet")
                    words = [*common, f"--data.workers={readers}", f"--output={output}"]
                    cluster, address = None, None
                    if engine == "ray":
                        words += ["--engine=ray", f"--trainer.devices={readers}"]
                        head = {"num_cpus": 0, "object_store_memory": 2 * 10**8}
                        cluster = Cluster(initialize_head=True, head_node_args=head)
                        for _ in range(readers):
                            cluster.add_node(num_cpus=2, object_store_memory=2 * 10**8)
                        address = cluster.address
                    took = spent(words, folder, address), spent(words, folder, address)
                    if cluster is not None:
                        cluster.shutdown()
                    turns.setdefault((engine, readers), []).append(took)
                    outputs.append(rows_of(output))
                    busy.append(os.getloadavg()[0])
                    print(f"turn {turn}, {engine}, {readers}: {np.round(took).tolist()}", flush=True)
    count = len(outputs[0])
    equal = all(rows == outputs[0] for rows in outputs)
    table = Table(
        "engine",
        "workers",
        "wall",
        "wall, nothing left",
        "videos a second",
        "CPU ms a video",
        "CPU, nothing left",
    )
    for (engine, readers), took in turns.items():
        (wall, cpu), (no_wall, no_cpu) = np.median(took, axis=0)
        rate, cost = count / (wall - no_wall), 1e3 * (cpu - no_cpu) / count
        cells = (f"{wall:.0f}", f"{no_wall:.0f}", f"{rate:.2f}", f"{cost:.0f}", f"{no_cpu:.0f}")
        table.add_row(engine, str(readers), *cells)
    Console(width=100).print(table)
    print(f"{count} videos; rows equal to the bit: {equal}; load of {min(busy):.0f} to {max(busy):.0f} "
          f"on {os.cpu_count()} cores")  # fmt: skip


if __name__ == "__main__":
    main()
