"""What trouble does to commands: killed, ended, out of room, files gone, the clock set back, a slow share.

    python benchmarks/chaos.py --runs 100 [--seed 1] [--only kill term] [--jobs 2]

An undisturbed `fit` of three small rounds and an undisturbed `predict` come first. Each run then meets one
trouble, and is begun or continued as its user would do it; in the end all that it found out must be that of
the undisturbed one, bit for bit: pair tables, scores of teachers and students, weights, figures but for
seconds, rows of scores. A run that ends by itself must say why in one line, leave nothing half written, and
end with 0, 2, 130 or 143. `chaos.json` under `--root` has a row for each run, written as they end; the folder
of a run that went wrong stays.

- kill, term, interrupt: a signal at a random moment of a phase; phases take turns.
- room: the folder is a file system of .2 to 6 MB; then there is room. Only root can mount it.
- gone, changed: a video is removed or cut in half while predict reads; the other rows stay as they were.
- clock: killed, then all files are an hour newer than the clock says.
- late: the label store lies on a share that answers after .2 seconds, and the run is killed there.
"""

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.table import Table

from datamodules.labels import LabelStore
from datamodules.procedural import write_corpus

CONFIG = """
trainer:
  accelerator: cpu
  max_epochs: 3
  enable_progress_bar: false
  enable_model_summary: false
  limit_val_batches: 1
  callbacks:
    - class_path: callbacks.SelfImprovement
      init_args: {{calibration_simulators: [gaussian_noise]}}
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {{filename: last, enable_version_counter: false, save_on_train_epoch_end: true}}
    - class_path: chaos_marks.Marks
model:
  lmm:
    quality_tower: null
    pictures: true
    feature_cache: null
    embedded: {{image_size: 32, hidden_size: 32, vision_layers: 1, text_layers: 1}}
  sampling: {{frames: 2, window: 32}}
  scoring: {{anchors: 2, draws: 2, whole: false}}
data:
  class_path: datamodules.RoundDataModule
  init_args:
    videos: {videos}
    labels: {labels}
    batch_size: 4
    workers: 1
    counts: {{synthetic: 24, teacher: 16, reference: 12, evaluation: 4}}
    references: {{videos: {references}, metric: ssim, versions: 4}}
    drawing: {{draws: 2}}
    simulators: [gaussian_blur, jpeg]
    teachers: [{{class_path: datamodules.Artefacts}}, {{class_path: datamodules.SITI}}]
    splits: {{shares: [0.5, 0.25, 0.25], duplicates: false}}
"""

MARKS = """
import time
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem
from lightning.pytorch import Callback


def late(name):
    def call(self, *args, **kwargs):
        time.sleep(0.2)
        return getattr(super(Late, self), name)(*args, **kwargs)

    return call


class Late(LocalFileSystem):
    protocol = ("late",)
    exists, glob, mv, _open = (late(name) for name in ("exists", "glob", "mv", "_open"))


fsspec.register_implementation("late", Late, clobber=True)


class Marks(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        Path("mark-training").touch()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.is_last_batch:
            Path("mark-annotation").touch()
"""
"""Of each run: where it is, and a share that answers late."""

VERSION = Path("runs", "round", "version_0")

PHASES: Mapping[str, str] = {
    "corpus": "own.yaml",
    "teachers": "cache/vqa-lightning/corpus.parquet",
    "versions": "labels/round=0/annotator=artefacts*",
    "training": "mark-training",
    "annotation": "mark-annotation",
    "report": f"{VERSION}/labels/round=1",
    "later": f"{VERSION}/pairs/round-1.parquet",
}
"""Phase of a fit -> what is there when it begins."""

SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "interrupt": signal.SIGINT}

TROUBLES: Mapping[str, int] = {"kill": 5, "term": 2, "interrupt": 2, "clock": 1, "late": 1} | {
    "room": 9,
    "gone": 7,
    "changed": 7,
}
"""Trouble -> how many of 100 runs meet it: the first five in each phase, the others in all."""

ENDS = (0, 2, 130, 143)
"""Exit codes of a command that ends by itself or by a signal that it may answer."""


class Place(NamedTuple):
    """A folder in which a command runs, with a cache of its own.

    Attributes:
        folder: of the run.
        log: what its commands say; not in the folder, for that may be full.
    """

    folder: Path
    log: Path

    def start(self, words: Sequence[str]) -> "subprocess.Popen[bytes]":
        """Start a command whose output goes to the log."""
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache"), "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (".", os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "vqa_lightning", *words]
        with self.log.open("a") as log:
            return subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def whole(self, words: Sequence[str]) -> int:
        """Run a command to its end; return its exit code."""
        return ended(self.start(words), 900)

    @property
    def fit(self) -> list[str]:
        """The words that begin a fit, or go on with it."""
        going = (self.folder / VERSION).is_dir()
        return ["fit", "--config", "round.yaml", "--config", "own.yaml", *(["--ckpt_path", "last"] * going)]

    def outcome(self) -> dict[str, object]:
        """Return what a fit has found out."""
        run = self.folder / VERSION
        with (run / "rounds.csv").open(newline="") as stream:
            rows = [
                {name: cell for name, cell in row.items() if "seconds" not in name}
                for row in csv.DictReader(stream)
            ]
        weights = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        return {
            "rounds.csv": rows,
            "pairs": {path.name: pq.read_table(path).to_pylist() for path in run.glob("pairs/*")},
            "student's scores": LabelStore(run / "labels").read().to_pylist(),
            "teachers' scores": LabelStore(self.folder / "labels").read().to_pylist(),
            "weights": {name: value.tolist() for name, value in weights.items()},
        }

    def left(self) -> list[str]:
        """Return what is half written."""
        return [str(path.relative_to(self.folder)) for path in self.folder.rglob(".*.tmp")]


def ended(process: "subprocess.Popen[bytes]", seconds: float) -> int:
    """Wait for a command; return its exit code.

    Raises:
        TimeoutError: it goes on, and is killed.
    """
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise TimeoutError(f"no end within {seconds} s") from None


class Undisturbed(NamedTuple):
    """What runs are compared with.

    Attributes:
        videos: manifest of the corpus.
        references: manifest of the clean sources.
        fit: what the fit has found out.
        phases: phase -> when it began and how long it lasted, in seconds.
        checkpoint: that the fit wrote.
        scores: what predict wrote, by the video's name.
    """

    videos: Path
    references: Path
    fit: dict[str, object]
    phases: dict[str, tuple[float, float]]
    checkpoint: Path
    scores: dict[str, str]


def place(folder: Path, videos: Path, references: Path, labels: str = "labels") -> Place:
    """Return a new folder to run in."""
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    (folder / "own.yaml").write_text(CONFIG.format(videos=videos, references=references, labels=labels))
    (folder / "chaos_marks.py").write_text(MARKS)
    return Place(folder, folder.with_name(f"{folder.name}.log"))


def there(folder: Path, phase: str) -> bool:
    """Whether a phase has begun."""
    return any(folder.glob(PHASES[phase]))


def undisturbed(root: Path) -> Undisturbed:
    """Fit and predict once without trouble, and note when each phase begins."""
    manifest = write_corpus(root / "corpus", contents=10, chains=1)
    references = manifest.parent / "references" / "references.csv"
    here = place(root / "undisturbed", manifest, references)
    process, began, times = here.start(here.fit), time.monotonic(), dict[str, float]()
    while process.poll() is None:
        for phase in PHASES:
            if phase not in times and there(here.folder, phase):
                times[phase] = time.monotonic() - began
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(here.log.read_text()[-3000:])
    ends = [*list(times.values())[1:], time.monotonic() - began]
    phases = {name: (start, end - start) for (name, start), end in zip(times.items(), ends, strict=True)}
    checkpoint = here.folder / VERSION / "checkpoints" / "last.ckpt"
    words = ["predict", "--ckpt_path", str(checkpoint), "--data.videos", str(manifest), "--output", "a.csv"]
    assert here.whole(words) == 0
    return Undisturbed(
        manifest, references, here.outcome(), phases, checkpoint, rows_of(here.folder / "a.csv")
    )


def rows_of(file: Path) -> dict[str, str]:
    """Return the scores of a file, by the video's name."""
    with file.open(newline="") as stream:
        return {Path(row["path"]).name: f"{row['score']} {row['stderr']}" for row in csv.DictReader(stream)}


def planned(runs: int, only: Sequence[str], seed: int) -> list[tuple[str, str]]:
    """Return trouble and phase of each run; those without a phase strike at any time."""
    phases = {trouble: list(PHASES) if trouble in (*SIGNALS, "clock", "late") else [""] for trouble in only}
    plan = [(one, phase) for one in only for phase in phases[one] for _ in range(TROUBLES[one])]
    random.Random(seed).shuffle(plan)
    return [plan[number % len(plan)] for number in range(runs)]


def told(here: Place, code: int) -> str | None:
    """Return what is wrong with how a command ended; None: nothing."""
    if code not in ENDS:
        return f"exit code {code}"
    last = here.log.read_text(errors="replace").strip().splitlines()
    if code and any(line.startswith("Traceback") for line in last):
        return "a traceback"
    return f"half written: {here.left()}" if here.left() else None


def signalled(here: Place, known: Undisturbed, run: "Run", chance: random.Random) -> str | None:
    """Disturb a fit by a signal at a random moment of a phase, go on, and compare."""
    number = SIGNALS.get(run.trouble, signal.SIGKILL)
    process = here.start(here.fit)
    while not there(here.folder, run.phase) and process.poll() is None:
        time.sleep(0.01)
    time.sleep(chance.random() * known.phases[run.phase][1])
    run.phase = [phase for phase in PHASES if there(here.folder, phase)][-1]  # it may have been quicker
    os.killpg(process.pid, number)
    run.code = ended(process, 60)
    wrong = None if number == signal.SIGKILL else told(here, run.code)
    if run.trouble == "clock":
        ahead = time.time() + 3600
        for file in here.folder.rglob("*"):
            os.utime(file, (ahead, ahead))
    return wrong or finished(here, known)


def finished(here: Place, known: Undisturbed) -> str | None:
    """Go on with a fit to its end; return how it differs from the undisturbed one."""
    code = here.whole(here.fit)
    if code:
        return f"going on ended with {code}"
    found = here.outcome()
    differs = [name for name, value in known.fit.items() if found[name] != value]
    if differs:
        return f"other {', '.join(differs)}"
    return f"half written: {here.left()}" if here.left() else None


def without_room(here: Place, known: Undisturbed, run: "Run", chance: random.Random) -> str | None:
    """Fit on a small file system, then on one with room."""
    size = chance.randrange(200, 6000)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(here.folder)], check=True)
    try:
        place(here.folder, known.videos, known.references)
        run.code = here.whole(here.fit)
        run.phase = [phase for phase in PHASES if there(here.folder, phase)][-1]
        wrong = told(here, run.code)
        subprocess.run(["mount", "-o", "remount,size=1g", str(here.folder)], check=True)
        wrong = wrong or finished(here, known)
        if wrong:
            shutil.copytree(here.folder, here.folder.with_name(f"{here.folder.name}-left"))
        return wrong
    finally:
        subprocess.run(["umount", "-l", str(here.folder)], check=True)


def read_while_changed(here: Place, known: Undisturbed, run: "Run", chance: random.Random) -> str | None:
    """Predict while a video goes or changes; the other rows stay."""
    folder = here.folder / "videos"
    with known.videos.open(newline="") as stream:
        files = [known.videos.parent / row["path"] for row in csv.DictReader(stream)]
    folder.mkdir()
    for file in files:
        shutil.copy(file, folder)
    victim = folder / chance.choice(files).name
    words = ["predict", "--ckpt_path", str(known.checkpoint), "--data.videos", "videos", "--output", "a.csv"]
    process = here.start(words)
    while not (here.folder / "cache/vqa-lightning/corpus.parquet").is_file() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(chance.random() * 2)
    if run.trouble == "gone":
        victim.unlink()
    else:
        os.truncate(victim, victim.stat().st_size // 2)
    run.code = ended(process, 300)
    if wrong := told(here, run.code):
        return wrong
    if run.code:
        return f"exit code {run.code}"
    found = rows_of(here.folder / "a.csv")
    others = {name for name in known.scores if name != victim.name}
    differs = [name for name in others if found.get(name) != known.scores[name]]
    if victim.name not in found:
        return f"no row of {victim.name}"
    return f"other rows of {', '.join(differs)}" if differs else None


@dataclass
class Run:
    """One run and what came of it.

    Attributes:
        number: from 0.
        trouble: what it meets.
        phase: in which, as it was found; before that as it was planned. Nothing: predict.
        code: with which the disturbed command ended.
        seconds: of all.
        wrong: what went wrong; None: nothing.
    """

    number: int
    trouble: str
    phase: str
    code: int | None = None
    seconds: float = 0.0
    wrong: str | None = None


def meet(run: Run, known: Undisturbed, options: argparse.Namespace) -> None:
    """Meet one trouble."""
    chance = random.Random(f"{options.seed} {run.number}")
    folder = options.root / f"run-{run.number}"
    labels = f"late://{folder / 'labels'}" if run.trouble == "late" else "labels"
    here = place(folder, known.videos, known.references, labels)
    do = {"room": without_room, "gone": read_while_changed, "changed": read_while_changed}
    began = time.monotonic()
    try:
        run.wrong = do.get(run.trouble, signalled)(here, known, run, chance)
    except Exception as error:
        run.wrong = f"{type(error).__name__}: {error}"
    run.seconds = round(time.monotonic() - began, 1)
    if run.wrong is None:
        shutil.rmtree(folder)
        here.log.unlink()
    print(run, file=sys.stderr, flush=True)


def show(runs: Sequence[Run]) -> None:
    """Print how many runs of each trouble ended in order, in all and by phase."""
    table = Table("trouble", "in order", *PHASES, title=f"{len(runs)} runs: in order of all")
    for trouble in TROUBLES:
        met = [run for run in runs if run.trouble == trouble]
        parts = [met, *([run for run in met if run.phase == phase] for phase in PHASES)]
        cells = [f"{sum(not run.wrong for run in part)} of {len(part)}" if part else "" for part in parts]
        table.add_row(trouble, *cells)
    Console(width=110).print(table)


def main() -> None:
    """Disturb, and print how many runs of each kind ended as undisturbed ones do."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--only", nargs="+", choices=TROUBLES, default=list(TROUBLES))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, default=Path("runs/chaos"), help="must not exist")
    options = parser.parse_args()
    options.root.mkdir(parents=True)
    options.root = options.root.resolve()
    known = undisturbed(options.root)
    print({name: round(lasted, 1) for name, (_, lasted) in known.phases.items()}, file=sys.stderr)
    plan = planned(options.runs, options.only, options.seed)
    runs = [Run(number, trouble, phase) for number, (trouble, phase) in enumerate(plan)]
    with ThreadPoolExecutor(options.jobs) as pool:
        for done in as_completed([pool.submit(meet, run, known, options) for run in runs]):
            done.result()
            rows = [asdict(run) for run in runs if run.seconds]
            (options.root / "chaos.json").write_text(json.dumps(rows, indent=1))
    show(runs)
    raise SystemExit(any(run.wrong for run in runs))


if __name__ == "__main__":
    main()
