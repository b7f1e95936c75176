"""What readers do with files that are damaged: videos, lists, tables, checkpoints, under Atheris.

    pip install atheris
    python benchmarks/fuzz.py --runs 200000 [--targets video manifest.csv] [--data ../shared/data]

Files of `--data`, and small ones that are made here, are mutated byte by byte, guided by which code of the
package they reach. A reader may accept a file or refuse it by InputError or UnreadableVideo. Anything else
is a finding: another exception, a death of the process, more than 30 seconds, or more than 2 GB of memory,
imports included. Findings are kept under `--root`, one input for each kind and place of exception; runs are
shared out over the targets by `SHARES`. A process that dies is started again for the runs that are left.

The table prints runs, how many inputs were refused, findings, and the seconds it took.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from mmap import mmap
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

SECONDS, MEGABYTES, LARGEST = 30, 2048, 2**20
"""What a file may take, and bytes of the largest file that is tried."""

SHARES = {
    "video": 5, "manifest.csv": 3, "manifest.parquet": 2, "manifest.jsonl": 1, "mos.csv": 2, "mos.txt": 2,
    "mos.json": 1, "mos.mat": 1, "scores.csv": 3, "scores.jsonl": 2, "scores.parquet": 2,
    "calibration.json": 1, "released.json": 1, "pairs.parquet": 1, "run.ckpt": 1, "scorer.safetensors": 1,
    "scorer.json": 1,
}  # fmt: skip
"""Target -> its part of the runs. A target's suffix is that of the file which the reader gets."""

HOME = f"{Path(__file__).resolve().parents[1]}{os.sep}"

Read = Callable[[Path], object]


class Seeds(NamedTuple):
    """Where a target's first inputs come from: globs of `--data`, and files that are made."""

    globs: Sequence[str] = ()
    made: Callable[[Path], Iterable[bytes]] = lambda _: ()


def reader(target: str, folder: Path) -> Read:
    """Return what reads a target's file; it is given a folder of its own for what it writes."""
    import torch

    from callbacks.scores.gate import Gate
    from datamodules.corpus import build_corpus
    from datamodules.opinions.mos import read_opinions
    from datamodules.pairs.released import read_released
    from datamodules.pairs.table import read_pairs
    from datamodules.video import Sampling, probe, read_clip
    from vqa_lightning.annotators.checkpoint_teacher import load_checkpoint
    from vqa_lightning.checkpoints.scorer_file import SHIPPED, read_scorer
    from vqa_lightning.commands.report import write_report
    from vqa_lightning.metrics.human_scale import HumanScale

    torch.set_num_threads(1)
    shutil.copy(SHIPPED, folder / "whole.safetensors")
    shutil.copy(SHIPPED.with_suffix(".json"), folder / "input.json")

    def video(file: Path) -> None:
        found = probe(file)
        for draw in range(2):
            read_clip(found, Sampling(2, 2, window=32), draw)

    def scores(file: Path) -> None:
        Gate(baseline=str(file))
        write_report(file, folder / "page.html", pictured=2)

    def scorer_settings(file: Path) -> None:
        shutil.copy(folder / "whole.safetensors", file.with_suffix(".safetensors"))
        load_checkpoint(file.with_suffix(".safetensors"))

    readers: dict[str, Read] = {
        "video": video,
        "manifest": lambda file: build_corpus(file, cache=folder, workers=1, progress=False),
        "mos": read_opinions,
        "scores": scores,
        "calibration": HumanScale.load,
        "released": lambda file: read_released(file, []),
        "pairs": read_pairs,
        "run": load_checkpoint,
        "scorer": scorer_settings if target == "scorer.json" else read_scorer,
    }
    return readers[target.partition(".")[0]]


def small_videos(folder: Path) -> Iterable[bytes]:
    """Yield videos of a few kB in many containers and codecs."""
    import av

    os.environ["SVT_LOG"] = "0"
    kinds = {
        "a.mp4": "libx264", "b.mkv": "libvpx-vp9", "c.webm": "libvpx", "d.avi": "mpeg4", "e.ts": "mpeg2video",
        "f.mov": "prores", "g.flv": "flv", "h.mp4": "libx265", "i.mkv": "libsvtav1", "j.gif": "gif",
        "k.y4m": "wrapped_avframe", "l.h264": "libx264", "m.mkv": "ffv1", "n.avi": "mjpeg",
        "o.mxf": "mpeg2video",
    }  # fmt: skip
    formats = {"gif": "rgb8", "prores": "yuv422p10le", "mjpeg": "yuvj420p"}
    noise = np.random.default_rng(0).integers(256, size=(12, 64, 64, 3), dtype=np.uint8)
    for name, codec in kinds.items():
        with av.open(str(folder / name), "w") as container:
            quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
            stream = container.add_stream(codec, rate=25, options=quiet)
            stream.width = stream.height = 64
            stream.pix_fmt = formats.get(codec, "yuv420p")
            for picture in noise:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
        yield (folder / name).read_bytes()


def tables(suffix: str, **columns: list[object]) -> Callable[[Path], Iterable[bytes]]:
    """Return what makes a table of these columns in a file of that suffix."""

    def made(folder: Path) -> Iterable[bytes]:
        import pyarrow as pa
        import pyarrow.csv
        import pyarrow.parquet

        table, file = pa.table(columns), folder / f"table{suffix}"
        if suffix == ".parquet":
            pa.parquet.write_table(table, file)
        elif suffix == ".csv":
            pa.csv.write_csv(table, file)
        else:
            file.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
        yield file.read_bytes()

    return made


def whole_pairs(folder: Path) -> Iterable[bytes]:
    """Yield a table of synthetic pairs."""
    import pyarrow.parquet

    from datamodules.pairs.synthetic import synthetic_pairs

    pairs = synthetic_pairs(np.random.default_rng(0), ["a", "b"], 5, {"jpeg": 5}, draws=4)
    pyarrow.parquet.write_table(pairs, folder / "pairs.parquet")
    yield (folder / "pairs.parquet").read_bytes()


def released(folder: Path) -> Iterable[bytes]:
    """Yield pairs in the released layout."""
    from datamodules.pairs.released import write_released
    from datamodules.pairs.table import read_pairs
    from datamodules.video import Video

    *_, _ = whole_pairs(folder)
    videos = [Video(name, str(folder / f"{name}.mp4")) for name in "ab"]
    write_released(read_pairs(folder / "pairs.parquet"), videos, folder / "released.json", folder)
    yield (folder / "released.json").read_bytes()


def whole_checkpoint(folder: Path) -> Iterable[bytes]:
    """Yield the scorer of the package as the checkpoint that it was written from."""
    import torch

    from vqa_lightning.checkpoints.scorer_file import SHIPPED, read_scorer

    checkpoint = read_scorer(SHIPPED)
    checkpoint["state_dict"] = {
        name: value for name, value in checkpoint["state_dict"].items() if value.numel() < 4096
    }
    torch.save(checkpoint, folder / "run.ckpt")
    yield (folder / "run.ckpt").read_bytes()


def shipped(suffix: str) -> Callable[[Path], Iterable[bytes]]:
    """Return what yields a file of the package's scorer."""

    def made(_: Path) -> Iterable[bytes]:
        from vqa_lightning.checkpoints.scorer_file import SHIPPED

        yield SHIPPED.with_suffix(suffix).read_bytes()[:LARGEST]

    return made


LISTED: dict[str, list[object]] = {
    "path": ["a.mp4", 'b "q".mkv'],
    "content": ["x", ""],
    "split": ["", "train"],
}
SCORED: dict[str, list[object]] = {
    "path": ["a.mp4", "b.mkv", "c"], "score": [50.5, 40.0, None], "stderr": [1.5, None, None],
    "status": ["ok", "ok", "error"], "error": [None, None, "is missing."], "model": ["m-ab12"] * 3,
    "percentile": [50.0, 10.0, None],
}  # fmt: skip
CURVE = {"name": "KoNViD", "model": "m-ab12", "b1": 5.0, "b2": 1.0, "b3": 50.0, "b4": 10.0}
CURVE |= {"n": 30, "srcc": 0.8, "rmse": 0.5}

SEEDS = {
    "video": Seeds(("clips/*", "edge/*", "faults/*/*.ts"), small_videos),
    **{f"manifest{suffix}": Seeds((), tables(suffix, **LISTED)) for suffix in (".csv", ".parquet", ".jsonl")},
    **{f"scores{suffix}": Seeds((), tables(suffix, **SCORED)) for suffix in (".csv", ".parquet", ".jsonl")},
    **{f"mos{suffix}": Seeds((f"labels/*/*{suffix}",)) for suffix in (".csv", ".txt", ".json", ".mat")},
    "calibration.json": Seeds((), lambda _: [json.dumps(CURVE).encode()]),
    "released.json": Seeds((), released),
    "pairs.parquet": Seeds((), whole_pairs),
    "run.ckpt": Seeds((), whole_checkpoint),
    "scorer.safetensors": Seeds((), shipped(".safetensors")),
    "scorer.json": Seeds((), shipped(".json")),
}


def write_seeds(target: str, data: Path, folder: Path) -> None:
    """Write the first inputs of a target, the heads of those that are too large."""
    given, made = SEEDS[target]
    workshop = folder.parent / "made"
    workshop.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    files = [file for pattern in given for file in sorted(data.glob(pattern)) if file.is_file()]
    for number, content in enumerate([*(file.read_bytes()[:LARGEST] for file in files), *made(workshop)]):
        (folder / f"seed-{number}").write_bytes(content)


def fuzz(target: str, root: Path, runs: int, seed: int) -> None:
    """Read mutated files in this process until `runs` are done or one of them ends it."""
    import atheris

    with atheris.instrument_imports(include=["datamodules", "callbacks", "vqa_lightning", "csv", "json"]):
        import vqa_lightning.cli  # noqa: F401 - everything that readers reach
        from datamodules.errors import InputError, UnreadableVideo

    folder = root / target
    with Path(folder, "counts").open("r+b") as stream:
        counts = np.frombuffer(mmap(stream.fileno(), 16), dtype=np.int64)
    place = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else folder, f"fuzz-{os.getpid()}")
    place.mkdir()
    read = reader(target, place)
    file = place / f"input.{target.partition('.')[2] or 'mkv'}"
    quiet = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lasts

    def one(content: bytes) -> None:
        file.write_bytes(content)
        counts[0] += 1
        sys.stdout, told = quiet, sys.stdout
        try:
            read(file)
        except (InputError, UnreadableVideo):
            counts[1] += 1
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in frames if frame.filename.startswith(HOME)] or frames
            name = f"{type(error).__name__}-{Path(own[-1].filename).stem}-{own[-1].lineno}"
            kept = folder / "findings" / name
            if not kept.exists():
                kept.write_bytes(content)
                kept.with_name(f"{name}.txt").write_text(traceback.format_exc())
        finally:
            sys.stdout = told

    words = [
        f"-runs={runs}", f"-seed={seed}", f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}",
        f"-max_len={LARGEST}", "-detect_leaks=0", "-print_final_stats=0", "-verbosity=0",
        f"-artifact_prefix={folder / 'findings'}/", str(folder / "seeds"),
    ]  # fmt: skip
    try:
        atheris.Setup([sys.argv[0], *words], one)
        atheris.Fuzz()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def tried(target: str, options: argparse.Namespace) -> list[str]:
    """Run a target in processes of its own; return a row of the table."""
    wanted = round(options.runs * SHARES[target] / sum(SHARES[name] for name in options.targets))
    folder, began = options.root / target, time.monotonic()
    (folder / "findings").mkdir(parents=True, exist_ok=True)
    write_seeds(target, options.data, folder / "seeds")
    (folder / "counts").write_bytes(bytes(16))
    deaths = 0
    while (done := np.fromfile(folder / "counts", np.int64))[0] < wanted and deaths < 20:
        words = [sys.executable, __file__, "--child", target, "--root", str(options.root)]
        words += ["--runs", str(wanted - done[0]), "--seed", str(options.seed + deaths)]
        with Path(folder, "log").open("ab") as log:
            ended = subprocess.run(words, stderr=log, stdout=subprocess.DEVNULL)
        if not ended.returncode:
            break
        deaths += 1
    for left in Path("/dev/shm").glob("fuzz-*"):
        shutil.rmtree(left, ignore_errors=True)
    runs, refused = np.fromfile(folder / "counts", np.int64)
    found = [file.name for file in (folder / "findings").iterdir() if file.suffix != ".txt"]
    return [target, str(runs), str(refused), str(len(found)), f"{time.monotonic() - began:.0f}"]


def main() -> None:
    """Fuzz every target, or be the process that fuzzes one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200_000, help="of all targets together")
    parser.add_argument("--targets", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--root", type=Path, default=Path("runs/fuzz"), help="for seeds and findings")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", choices=SHARES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        fuzz(options.child, options.root, options.runs, options.seed)
        return
    table = Table("target", "runs", "refused", "findings", "seconds")
    for target in options.targets:
        table.add_row(*(row := tried(target, options)))
        print(*row, file=sys.stderr, flush=True)
    Console(width=80).print(table)


if __name__ == "__main__":
    main()
