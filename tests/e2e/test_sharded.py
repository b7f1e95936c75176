"""Two processes on the CPU that share the model (FSDP2) in half precision, by the real command line."""

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SHARDED = [
    *("--config", "fsdp.yaml", "--trainer.accelerator=cpu"),  # its devices are 8 GPUs
    *("--trainer.devices=2", "--trainer.strategy.data_parallel_size=2", "--trainer.precision=bf16-mixed"),
]


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_a_sharded_run_goes_on_and_its_checkpoint_scores(
    tmp_path: Path,
    small_corpus: Path,
    smallest: list[str],
    start: Callable[..., "subprocess.Popen[bytes]"],
    run: Callable[..., int],
) -> None:
    fit = [*smallest, *SHARDED]
    for more in (["--trainer.max_epochs=1"], ["--trainer.max_epochs=2", "--ckpt_path", "last"]):
        # Longer than a loaded machine needs, shorter than processes that wait for each other for ever.
        assert start(tmp_path, [*fit, *more]).wait(timeout=300) == 0, (tmp_path / "log").read_text()[-3000:]
    folder = tmp_path / "runs" / "round" / "version_0"
    assert [row["round"] for row in rows_of(folder / "rounds.csv")] == ["0", "1"]
    checkpoint = folder / "checkpoints" / "last.ckpt"
    assert run(tmp_path, ["predict", "--ckpt_path", str(checkpoint), f"--data.videos={small_corpus}"]) == 0
    assert {row["status"] for row in rows_of(tmp_path / "scores.csv")} == {"ok"}
