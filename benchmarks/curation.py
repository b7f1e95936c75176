"""CPU time and memory of `vqa-lightning curate`, from ten thousand to a million made-up rows.

    python benchmarks/curation.py
    python benchmarks/curation.py --band 1000000 3000000 10000000

A file of scores of as many videos, ten to a content, is curated by the real command in a process of its own:
the best 60 % of each content, from Parquet and from CSV, and from Parquet with a page and without
near-duplicates. For these, the hashes of empty files lie in the cache, as after a first run: a first run
costs what decoding eight frames of each video does. The first line is what imports cost. Under Ray, which is
left out where it is not installed, CPU time is that of all processes, and the peak that of the command's own.
With `--band`, one of the 32 tasks that look for near-duplicates runs in this process, on random hashes.
"""

import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from experiment import arguments, table
from ray_scoring import Spent
from rich.console import Console

from callbacks.scores.table import SCHEMA
from datamodules.corpus.duplicates import (
    AT_ONCE,
    FRAMES,
    HASH_VERSION,
    bands,
    hash_store,
    links_in_band,
)
from datamodules.files import write_table
from vqa_lightning.ray.hashes import FIELDS
from vqa_lightning.ray.parts import PART_ROWS, VideoParts

CONTENT = 10
"""Videos of a content."""

COPIES = 100
"""Videos of which one is a near-duplicate of another video."""

CALL = """
import sys, time
from vqa_lightning.cli import main
try:
    main(sys.argv[1:])
finally:
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print("spent", time.process_time(), peak, file=sys.stderr)
"""
"""The command, its CPU time, and its peak of memory in KB, without the parent's that getrusage counts too."""


def write_inputs(folder: Path, count: int) -> None:
    """Write scores as Parquet and CSV, the empty files that they name, and hashes for these."""
    generator = np.random.default_rng(0)
    videos = folder / "videos"
    videos.mkdir()
    paths, stamps = [], []
    for place in range(count):
        path = videos / f"{place % 1000:03d}" / f'source-{place // CONTENT:06d} "{place:07d}".mp4'
        if place < 1000:
            path.parent.mkdir()
        path.touch()
        paths.append(str(path))
        stamps.append(path.stat().st_mtime_ns)
    scores = {
        "path": paths,
        "score": generator.normal(50, 10, count),
        "stderr": generator.uniform(1, 4, count),
        "status": ["ok"] * count,
        "error": [""] * count,
        "model": ["RankingModule-0123456789abcdef"] * count,
    }
    rows = pa.table(scores, schema=SCHEMA)
    rows = rows.append_column("percentile", pa.array(generator.uniform(0, 100, count)))
    rows = rows.append_column(
        "content", pa.array([f"source-{place // CONTENT:06d}" for place in range(count)])
    )
    for suffix in ("parquet", "csv"):
        write_table(folder / f"scores.{suffix}", rows)
    store = hash_store(folder / "cache" / "vqa-lightning")
    hashes = generator.integers(0, 256, (count, store.schema.field("hash").type.byte_width), np.uint8)
    hashes[::COPIES] = hashes[1::COPIES]
    columns = {
        "hash": pa.array(map(bytes, hashes), store.schema.field("hash").type),
        "frames": pa.array(np.full(count, 2**FRAMES - 1), pa.int32()),
        "file": pa.array([os.path.realpath(path) for path in paths]),
        "size": pa.array(np.zeros(count), pa.int64()),
        "mtime_ns": pa.array(stamps, pa.int64()),
        "version": pa.array(np.full(count, HASH_VERSION), pa.int32()),
    }
    store.store.parent.mkdir(parents=True)
    pq.write_table(pa.table(columns), store.store, row_group_size=AT_ONCE)
    parts = VideoParts(str(folder / "far.hashes"), FIELDS, None, {"hashes": HASH_VERSION})
    parts.resume()
    ours = pa.table([paths, ["ok"] * count, [""] * count, columns["hash"], columns["frames"]], schema=FIELDS)
    for place, start in enumerate(range(0, count, PART_ROWS)):
        parts.videos.write(f"part-{place:05}.parquet", ours.slice(start, PART_ROWS))


def look_in_a_band(count: int) -> None:
    """Print what one task costs that looks for near-duplicates among so many videos."""
    hashes = np.random.default_rng(0).integers(0, 256, (count, FRAMES, 32), np.uint8)
    hashes[::COPIES] = hashes[1::COPIES]
    began = time.process_time()
    links = links_in_band(bands()[0], hashes, np.ones((count, FRAMES), dtype=bool))
    print(f"{count} videos: {time.process_time() - began:.1f} CPU s a band, {len(links)} pairs", flush=True)


def run(folder: Path, *words: str) -> tuple[float, float, str]:
    """Run the command in a process of its own; return CPU seconds, the peak in MB, and what it printed."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    call = [sys.executable, "-c", CALL, *words]
    with Spent() as spent:
        done = subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds, peak = done.stderr.split()[-2:]
    return spent.cpu if "--engine=ray" in words else float(seconds), int(peak) / 1024, done.stdout


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, default=None, help="of the made-up files")
    parser.add_argument("--band", type=int, nargs="+", help="videos, of which one task looks for duplicates")
    given = parser.parse_args()
    if given.band:
        for count in given.band:
            look_in_a_band(count)
        return
    rule = ["--keep", "0.6", "--per", "content"]
    ways = {
        "Parquet": ["scores.parquet", "--output", "kept.parquet"],
        "CSV": ["scores.csv"],
        "Parquet, page": ["scores.parquet", "--output", "kept.parquet", "--report", "page.html"],
        "Parquet, --dedupe": ["scores.parquet", "--output", "kept.parquet", "--dedupe"],
    }
    if find_spec("ray") is not None:
        far = ["scores.parquet", "--output", "far.parquet", "--dedupe", "--engine=ray"]
        ways["Parquet, --dedupe --engine ray"] = far
    report = table(
        "vqa-lightning curate --keep 0.6 --per content", ["rows", "what"], ["kept", "CPU s", "peak MB"]
    )
    with tempfile.TemporaryDirectory() as folder:
        seconds, peak, _ = run(Path(folder), "list")
        report.add_row("", "imports (list)", "", f"{seconds:.1f}", f"{peak:.0f}")
    for count in given.rows:
        with tempfile.TemporaryDirectory(dir=given.folder) as name:
            folder = Path(name)
            writing = get_context("spawn").Process(target=write_inputs, args=(folder, count))
            writing.start()
            writing.join()
            for way, words in ways.items():
                seconds, peak, told = run(folder, "curate", *words, *rule)
                kept = next(line for line in told.splitlines() if line.startswith(("kept.", "far."))).split()[
                    1
                ]
                report.add_row(f"{count}", way, kept, f"{seconds:.1f}", f"{peak:.0f}")
                print(f"{count} rows, {way}: {seconds:.1f} s", flush=True)
    Console().print(report)


if __name__ == "__main__":
    main()
