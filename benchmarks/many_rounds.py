"""Memory and open files of a run of fifty rounds, each as small as rounds get.

    python benchmarks/many_rounds.py [--rounds 50] [--union]

The script runs the real command in this process, with every callback of round.yaml, on twelve procedural
videos: a round has 16 pairs, a validation, an annotation, a checkpoint and all pictures. Resident memory is
read at the same place in every round, its end, after a garbage collection. What a round needs is the same in
all of them, so whatever grows after the first few is kept by mistake. With `--union` a round trains on the
pairs of all rounds before, and may grow by these.
"""

import contextlib
import csv
import gc
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from experiment import arguments, table
from lightning.pytorch import Trainer
from rich.console import Console

from callbacks.rounds import FinishedRound, RoundListener
from datamodules.procedural import write_corpus
from vqa_lightning.cli import main as command
from vqa_lightning.training import RankingModule

SHOWN = (1, 5, 10, 20, 30, 40, 50)
SETTLED = 0.4
"""Share of the rounds in which something may still be imported or cached for the first time."""

CONFIG = """
trainer:
  accelerator: cpu
  max_epochs: {rounds}
  enable_progress_bar: false
  enable_model_summary: false
  log_every_n_steps: 1
  callbacks:
    - {{class_path: callbacks.SelfImprovement, init_args: {{calibration_simulators: [gaussian_noise]}}}}
    - {{class_path: callbacks.PairGallery, init_args: {{pairs: 2}}}}
    - {{class_path: callbacks.RoundPictures}}
    - {{class_path: callbacks.SourceScalars}}
    - {{class_path: callbacks.RunSettings}}
    - {{class_path: lightning.pytorch.callbacks.LearningRateMonitor}}
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {{filename: last, enable_version_counter: false, save_on_train_epoch_end: true}}
    - {{class_path: many_rounds.MemoryWatch, init_args: {{file: memory.csv}}}}
model:
  lmm: {{embedded: {{image_size: 32, hidden_size: 32, vision_layers: 1, text_layers: 1}}}}
  sampling: {{frames: 2, window: 32}}
  scoring: {{draws: 2}}
data:
  class_path: datamodules.RoundDataModule
  init_args:
    videos: {videos}
    labels: labels
    batch_size: 4
    counts: {{synthetic: 8, teacher: 8, evaluation: 8}}
    hard: {{share: 0.5}}
    later: {{union: {union}}}
    drawing: {{draws: 2}}
    simulators: [gaussian_blur, jpeg]
    teachers: [{{class_path: datamodules.Artefacts}}, {{class_path: datamodules.SITI}}]
    splits: {{shares: [0.5, 0.25, 0.25], duplicates: false}}
"""


class MemoryWatch(RoundListener):
    """Writes a row at the end of each round: seconds since the first, resident memory, open files.

    Args:
        file: CSV.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self.began = time.monotonic()

    def on_round_end(self, trainer: Trainer, pl_module: RankingModule, finished: FinishedRound) -> None:
        """Read what Linux says of this process."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        row = (
            time.monotonic() - self.began,
            pages * os.sysconf("SC_PAGE_SIZE"),
            len(os.listdir("/proc/self/fd")),
        )
        with self.file.open("a", newline="") as stream:
            csv.writer(stream).writerow((finished.row.round + 1, *row, len(gc.get_objects())))


def run(folder: Path, rounds: int, union: bool) -> list[list[float]]:
    """Fit; return a row a round: its number, seconds, bytes of resident memory, open files, objects."""
    os.chdir(folder)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    manifest = write_corpus(folder / "corpus", 12)
    Path("many.yaml").write_text(
        CONFIG.format(rounds=rounds, videos=manifest.parent / "manifest.csv", union=str(union).lower())
    )
    with Path("log").open("w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        command(["fit", "--config", "round.yaml", "--config", "many.yaml"])
    with Path("memory.csv").open() as stream:
        return [[float(cell) for cell in row] for row in csv.reader(stream)]


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=max(SHOWN))
    parser.add_argument("--union", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sys.argv = sys.argv[:1]
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        try:
            rows = np.array(run(Path(folder), given.rounds, given.union))
        finally:
            os.chdir(here)
    columns = ("round", "seconds", "resident memory, MB", "open files", "Python objects")
    report = table(f"{given.rounds} rounds", right=columns)
    for number, seconds, resident, files, objects in rows:
        if number in SHOWN:
            cells = (
                f"{number:.0f}",
                f"{seconds:.0f}",
                f"{resident / 1e6:.1f}",
                f"{files:.0f}",
                f"{objects:.0f}",
            )
            report.add_row(*cells)
    Console().print(report)
    late = rows[round(SETTLED * len(rows)) :]
    risen = (late[:, 2].max() - late[0, 2]) / 1e6
    print(f"after round {late[0, 0]:.0f} memory was never more than {risen:.1f} MB above what it was then")


if __name__ == "__main__":
    main()
