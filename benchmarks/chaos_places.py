"""Where the runs of `chaos.py` take place, and what an undisturbed one finds out."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import torch

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
