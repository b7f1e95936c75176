"""Two processes on the CPU that share the model (FSDP2) in half precision, by the real command line."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from vqa_lightning.cli import main

SMALL = [
    "--trainer.accelerator=cpu",
    "--trainer.devices=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--model.lmm.embedded.image_size=32",
    "--model.lmm.embedded.hidden_size=32",
    "--model.lmm.embedded.vision_layers=1",
    "--model.lmm.embedded.text_layers=1",
    "--model.sampling.window=32",
    "--model.scoring.draws=2",
    "--model.scoring.anchors=3",
    "--data.batch_size=4",
    "--data.synthetic_pairs=16",
    "--data.teacher_pairs=8",
    "--data.evaluation_pairs=8",
    "--data.draws=2",
    "--data.simulators=[gaussian_blur,jpeg]",
    "--data.shares=[0.5,0.25,0.25]",
    "--data.labels=labels",
]
SHARDED = [
    "--trainer.accelerator=cpu",  # what fsdp.yaml says of devices is for 8 GPUs
    "--trainer.devices=2",
    "--trainer.strategy.data_parallel_size=2",
    "--trainer.precision=bf16-mixed",
]


def run(here: Path, *words: str) -> None:
    command = [sys.executable, "-m", "vqa_lightning", *words]
    # Longer than a loaded machine needs, shorter than processes that wait for each other for ever.
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture
def fit(tmp_path: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words that begin a run in `tmp_path`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return ["fit", "--config", "round.yaml", *SMALL, f"--data.videos={small_corpus / 'manifest.csv'}"]


def rounds(here: Path) -> list[str]:
    with (here / "runs" / "round" / "version_0" / "rounds.csv").open(newline="") as file:
        return [row["round"] for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_sharded_run_goes_on_and_its_checkpoint_scores(
    tmp_path: Path, fit: list[str], small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = [*fit, "--config", "fsdp.yaml", *SHARDED]
    run(tmp_path, *fit, "--trainer.max_epochs=1")
    run(tmp_path, *fit, "--trainer.max_epochs=2", "--ckpt_path", "last")
    assert rounds(tmp_path) == ["0", "1"]
    checkpoint = tmp_path / "runs" / "round" / "version_0" / "checkpoints" / "last.ckpt"
    monkeypatch.chdir(tmp_path)
    main(["predict", "--ckpt_path", str(checkpoint), f"--data.videos={small_corpus}"])
    with (tmp_path / "scores.csv").open(newline="") as file:
        assert {row["status"] for row in csv.DictReader(file)} == {"ok"}
