"""What trouble does to commands: killed, ended, out of room, files gone, the clock set back, a slow share.

    python benchmarks/chaos.py --runs 100 [--only kill term] [--jobs 2]

An undisturbed `fit` of three small rounds and an undisturbed `predict` come first. Each run then meets one
trouble, and is begun or continued as its user would do it; in the end all that it found out must be that of
the undisturbed one, bit for bit: pair tables, scores of teachers and students, weights, figures but for
seconds, rows of scores. A run that ends by itself must say why in one line, leave nothing half written, and
end with 0, 2, 130 or 143.

- kill, term, interrupt: a signal at a random moment of a phase; phases take turns.
- room: the folder is a file system of a few MB more than what is there; then there is room.
- gone, changed: a video is removed or cut in half while predict reads; the other rows stay as they were.
- clock: killed, then all files are an hour newer than the clock says.
- late: the label store lies on a share that answers after .2 seconds, and the run is killed there.
"""

import argparse
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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

TROUBLES = (*SIGNALS, "room", "gone", "changed", "clock", "late")

ENDS = (0, 2, 130, 143)
"""Exit codes of a command that ends by itself or by a signal that it may answer."""


class Place(NamedTuple):
    """A folder in which a command runs, with a cache of its own."""

    folder: Path

    def start(self, words: Sequence[str]) -> "subprocess.Popen[bytes]":
        """Start a command whose output goes to `log`."""
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache"), "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (".", os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "vqa_lightning", *words]
        with (self.folder / "log").open("a") as log:
            return subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def whole(self, words: Sequence[str]) -> int:
        """Run a command to its end; return its exit code."""
        return self.start(words).wait(timeout=900)

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
    (folder / "own.yaml").write_text(CONFIG.format(videos=videos, references=references, labels=labels))
    (folder / "chaos_marks.py").write_text(MARKS)
    return Place(folder)


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
        raise SystemExit((here.folder / "log").read_text()[-3000:])
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


def told(here: Place, code: int) -> str | None:
    """Return what is wrong with how a command ended; None: nothing."""
    if code not in ENDS:
        return f"exit code {code}"
    last = (here.folder / "log").read_text(errors="replace").strip().splitlines()
    if code and any(line.startswith("Traceback") for line in last):
        return "a traceback"
    return f"half written: {here.left()}" if here.left() else None


def struck(here: Place, known: Undisturbed, phase: str, number: int, chance: random.Random) -> str | None:
    """Send a fit a signal at a random moment of a phase; return what is wrong with its end."""
    process = here.start(here.fit)
    while not there(here.folder, phase) and process.poll() is None:
        time.sleep(0.01)
    time.sleep(chance.random() * known.phases[phase][1])
    os.killpg(process.pid, number)
    code = process.wait(timeout=60)
    return None if number == signal.SIGKILL else told(here, code)


def signalled(here: Place, known: Undisturbed, trouble: str, phase: str, chance: random.Random) -> str | None:
    """Disturb a fit by a signal, go on, and compare."""
    wrong = struck(here, known, phase, SIGNALS.get(trouble, signal.SIGKILL), chance)
    if trouble == "clock":
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


def without_room(here: Place, known: Undisturbed, chance: random.Random) -> str | None:
    """Fit on a small file system, then on one with room."""
    size = chance.randrange(200, 6000)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(here.folder)], check=True)
    try:
        place(here.folder, known.videos, known.references)
        wrong = told(here, here.whole(here.fit))
        subprocess.run(["mount", "-o", "remount,size=1g", str(here.folder)], check=True)
        return wrong or finished(here, known)
    finally:
        subprocess.run(["umount", "-l", str(here.folder)], check=True)


def read_while_changed(here: Place, known: Undisturbed, trouble: str, chance: random.Random) -> str | None:
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
    if trouble == "gone":
        victim.unlink()
    else:
        os.truncate(victim, victim.stat().st_size // 2)
    code = process.wait(timeout=300)
    if wrong := told(here, code):
        return wrong
    if code:
        return f"exit code {code}"
    found = rows_of(here.folder / "a.csv")
    others = {name for name in known.scores if name != victim.name}
    differs = [name for name in others if found.get(name) != known.scores[name]]
    if victim.name not in found:
        return f"no row of {victim.name}"
    return f"other rows of {', '.join(differs)}" if differs else None


def one(number: int, known: Undisturbed, options: argparse.Namespace) -> tuple[str, str | None]:
    """Meet one trouble; return its name, and what went wrong."""
    chance = random.Random(f"{options.seed} {number}")
    trouble = options.only[number % len(options.only)]
    phase = list(known.phases)[number // len(options.only) % len(known.phases)]
    folder = options.root / f"run-{number}"
    labels = f"late://{folder.resolve() / 'labels'}" if trouble == "late" else "labels"
    here = place(folder, known.videos, known.references, labels)
    name = f"{trouble} in {phase}" if trouble in (*SIGNALS, "clock", "late") else trouble
    do: dict[str, Callable[[], str | None]] = {
        "room": lambda: without_room(here, known, chance),
        "gone": lambda: read_while_changed(here, known, trouble, chance),
        "changed": lambda: read_while_changed(here, known, trouble, chance),
    }
    try:
        wrong = do.get(trouble, lambda: signalled(here, known, trouble, phase, chance))()
    except Exception as error:
        wrong = f"{type(error).__name__}: {error}"
    if wrong is None:
        shutil.rmtree(folder)
    print(number, name, wrong or "as undisturbed", file=sys.stderr, flush=True)
    return name, wrong


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
    with ThreadPoolExecutor(options.jobs) as pool:
        found = list(pool.map(lambda number: one(number, known, options), range(options.runs)))
    runs = Counter(name for name, _ in found)
    failed = Counter(name for name, wrong in found if wrong)
    table = Table("trouble", "runs", "ended as undisturbed, or in order")
    for name, count in runs.items():
        table.add_row(name, str(count), str(count - failed[name]))
    Console(width=80).print(table)
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
