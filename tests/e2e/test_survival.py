"""Runs that are killed, find no room, or are changed, and go on: by the real command line."""

import csv
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from torch import Tensor

from datamodules.labels import LabelStore
from datamodules.video import Sampling
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMM, LMMConfig

Run = Callable[..., int]
Start = Callable[..., "subprocess.Popen[bytes]"]

VERSION = Path("runs", "round", "version_0")
LAST = ["--ckpt_path", "last"]
MODELS = {
    "embedded": ["--model.score_by=pairwise"],
    "adapters": [  # with dropout, so that every random number counts
        *("--model.lmm.pretrained=../base", "--model.trained.parts=lora", "--model.trained.dropout=0.2"),
        *("--model.sampling.window=null", "--model.sampling.segments=2"),
    ],
}
COPIES = 5
"""Of each model's run, every one of which is killed twice: twenty moments in all."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a saved model, `base`, and nothing else."""
    folder = tmp_path_factory.mktemp("survival")
    torch.manual_seed(0)
    lmm = LMM(
        LMMConfig(embedded=EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=1)),
        Sampling(),
    )
    lmm.model.save_pretrained(folder / "base")
    lmm.family.processor.save_pretrained(folder / "base")
    return folder


def rows_of(file: Path) -> list[dict[str, str]]:
    """A report without the columns that tell time."""
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [{name: cell for name, cell in row.items() if not name.endswith("seconds")} for row in rows]


def outcome(here: Path) -> dict[str, object]:
    """What a run has found out, but for its weights."""
    run = here / VERSION
    return {
        "rounds.csv": rows_of(run / "rounds.csv"),
        "teachers.csv": rows_of(run / "teachers.csv"),
        "pairs": {path.name: pq.read_table(path).to_pylist() for path in run.glob("pairs/*")},
        "student's scores": LabelStore(run / "labels").read().to_pylist(),
        "teachers' scores": LabelStore(here / "labels").read().to_pylist(),
    }


def weights_of(here: Path, name: str = "last.ckpt") -> dict[str, Tensor]:
    held = torch.load(here / VERSION / "checkpoints" / name, weights_only=True)
    weights: dict[str, Tensor] = held["state_dict"]
    return weights


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    """Bit for bit."""
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
@pytest.mark.parametrize("model", list(MODELS))
def test_killed_at_any_moment_a_run_ends_where_an_undisturbed_one_does(
    model: str, base: Path, smallest: list[str], start: Start
) -> None:
    words = [*smallest, *MODELS[model]]

    def begin_or_go_on(here: Path) -> "subprocess.Popen[bytes]":
        # Killed before there was a run folder, there is nothing to go on with.
        return start(here, [*words, *(LAST if (here / VERSION).is_dir() else [])])

    def whole(here: Path) -> None:
        # Longer than a loaded machine needs.
        assert begin_or_go_on(here).wait(timeout=300) == 0, (here / "log").read_text()[-3000:]

    def disturbed(copy: int) -> list[float]:
        here, shares = base / f"{model}-{copy}", random.Random(f"{model} {copy}")
        moments = [undisturbed * shares.random() for _ in range(2)]
        for moment in moments:
            process = begin_or_go_on(here)
            time.sleep(moment)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        whole(here)
        return moments

    began = time.monotonic()
    whole(base / model)
    undisturbed = time.monotonic() - began
    with ThreadPoolExecutor(2) as pool:
        moments = list(pool.map(disturbed, range(COPIES)))
    expected = outcome(base / model)
    for copy in range(COPIES):
        here, told = base / f"{model}-{copy}", f"copy {copy}, killed after {moments[copy]} s"
        found = outcome(here)
        for part, value in expected.items():
            assert found[part] == value, f"{part} of {told}"
        for name in ("last.ckpt", "best.ckpt"):
            assert same(weights_of(here, name), weights_of(base / model, name)), f"{name} of {told}"
        assert not list(here.rglob(".*.tmp")), told


DIES = """
import os, signal
from pathlib import Path
from lightning.pytorch import Callback

class Dies(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == 1 and batch_idx == 2 and trainer.is_global_zero:
            if not Path("died").exists():
                Path("died").touch()
                os.killpg(0, signal.SIGKILL)
"""
EVERY_STEP = (
    "{class_path: lightning.pytorch.callbacks.ModelCheckpoint, "
    "init_args: {filename: last, enable_version_counter: false, every_n_train_steps: 1}}"
)


@pytest.mark.slow
def test_two_processes_killed_within_a_round_end_where_undisturbed_ones_do(
    base: Path, smallest: list[str], start: Start
) -> None:
    words = [*smallest, *MODELS["adapters"], "--trainer.max_epochs=2", "--data.batch_size=2"]
    words += ["--trainer.devices=2", "--trainer.strategy=ddp"]
    whole, here = base / "two", base / "two-killed"
    assert start(whole, words).wait(timeout=300) == 0, (whole / "log").read_text()[-3000:]
    here.mkdir()
    (here / "dies.py").write_text(DIES)
    words += ["--trainer.callbacks+=dies.Dies", f"--trainer.callbacks+={EVERY_STEP}"]
    assert start(here, words).wait(timeout=300) == -signal.SIGKILL
    saved = torch.load(here / VERSION / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 5 + 2  # within the second round
    assert start(here, [*words, *LAST]).wait(timeout=300) == 0, (here / "log").read_text()[-3000:]
    assert outcome(here) == outcome(whole)
    for name in ("last.ckpt", "best.ckpt"):
        assert same(weights_of(here, name), weights_of(whole, name)), name


@pytest.fixture(scope="module")
def finished(base: Path, smallest: list[str], run: Run) -> Path:
    """Folder of a finished run of one round."""
    assert run(base / "finished", [*smallest, "--trainer.max_epochs=1"]) == 0
    return base / "finished"


def test_a_run_that_died_before_its_first_checkpoint_begins_again_in_its_folder(
    finished: Path, base: Path, smallest: list[str], run: Run
) -> None:
    folder = base / "early" / VERSION
    (folder / "labels" / "round=1" / "annotator=student-0a").mkdir(parents=True)
    (folder / "pairs").mkdir()
    for name in ("rounds.csv", "config.yaml", "pairs/.round-0.parquet.tmp", "pairs/round-9.parquet", "mine"):
        (folder / name).write_text("left behind")
    assert run(base / "early", [*smallest, *LAST, "--trainer.max_epochs=1"]) == 0
    assert [path.name for path in folder.parent.iterdir()] == ["version_0"]
    assert (folder / "mine").read_text() == "left behind"
    assert outcome(base / "early") == outcome(finished)
    assert not list(folder.rglob(".*.tmp"))


class TestWhatChanged:
    """A run that is to go on with other settings or videos."""

    def test_settings_are_listed_and_refused(
        self, finished: Path, smallest: list[str], run: Run, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = outcome(finished)
        changed = ["--data.batch_size=5", "--model.optimizer=AdamW", "--data.workers=1"]
        assert run(finished, [*smallest, *LAST, *changed]) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        # The longer run and the other number of workers are free.
        assert "(model.optimizer: None -> AdamW; data.batch_size: 4 -> 5)" in said
        assert "--force" in said
        assert outcome(finished) == before

    def test_videos_are_listed_refused_and_forced(
        self,
        base: Path,
        small_corpus: Path,
        smallest: list[str],
        run: Run,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        here = base / "videos"
        assert run(here, [*smallest, "--trainer.max_epochs=1"]) == 0
        fewer = small_corpus / "fewer.csv"
        fewer.write_text("".join((small_corpus / "manifest.csv").read_text().splitlines(keepends=True)[:-1]))
        words = [*smallest, *LAST, f"--data.videos={fewer}", "--trainer.max_epochs=2"]
        assert run(here, words) == 2
        assert "(1 video gone (content_007_0.mp4))" in capsys.readouterr().err
        assert run(here, [*words, "--force"]) == 0
        assert [row["round"] for row in rows_of(here / VERSION / "rounds.csv")] == ["0", "1"]
        # With what it was last given the next command is compared, and a new run may be begun.
        assert yaml.safe_load((here / VERSION / "config.yaml").read_text())["ckpt_path"] is None
        assert pq.read_table(here / VERSION / "videos.parquet").num_rows == 7


class TestNoRoom:
    """A disk on which files end at a certain size."""

    @pytest.mark.parametrize("size", [100_000, 5_000])
    def test_is_one_sentence_and_the_run_goes_on_when_there_is(
        self,
        size: int,
        finished: Path,
        base: Path,
        smallest: list[str],
        run: Run,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        here = base / f"room-{size}"
        words = [*smallest, "--trainer.max_epochs=1"]
        assert run(here, words, size) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith("error: ")
        assert "(File too large)" in said
        assert run(here, [*words, *LAST]) == 0
        assert outcome(here) == outcome(finished)

    def test_leaves_the_checkpoint_before(
        self, base: Path, smallest: list[str], run: Run, capsys: pytest.CaptureFixture[str]
    ) -> None:
        here = base / "before"
        assert run(here, [*smallest, "--trainer.max_epochs=1"]) == 0
        before = weights_of(here)
        assert run(here, [*smallest, *LAST, "--trainer.max_epochs=2"], 100_000) == 2
        assert "ckpt cannot be written (File too large)" in capsys.readouterr().err
        assert same(weights_of(here), before)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--data.labels=/proc/labels"], "label store /proc/labels cannot be written to"),
        (["--trainer.default_root_dir=/sys/out"], "/sys/out"),
        (["--data.splits.shares=[1,1,0]"], "shares"),
    ],
)
def test_bad_input_is_one_sentence(
    words: list[str],
    sentence: str,
    base: Path,
    smallest: list[str],
    run: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(base / "bad", [*smallest, *words]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ")
    assert sentence in said


@pytest.mark.parametrize("splits", [["train", "report"], ["select", "report"]])
def test_every_split_needs_videos(
    splits: list[str],
    base: Path,
    small_corpus: Path,
    smallest: list[str],
    run: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = small_corpus / "splits.csv"
    rows = [f"content_00{number}.mp4,{splits[number % 2]}" for number in range(8)]
    manifest.write_text("\n".join(["path,split", *rows]) + "\n")
    assert run(base / "bad", [*smallest, f"--data.videos={manifest}"]) == 2
    (missing,) = {"train", "select", "report"} - set(splits)
    assert f"splits leave no content for {missing}" in capsys.readouterr().err


def test_a_run_is_made_of_whole_rounds(
    base: Path, smallest: list[str], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    two = base / "two.yaml"
    improvement = {"class_path": "callbacks.SelfImprovement", "init_args": {"epochs_per_round": 2}}
    two.write_text(yaml.safe_dump({"trainer": {"callbacks": [improvement]}}))
    assert run(base / "bad", [*smallest, "--config", str(two)]) == 2
    assert "multiple of SelfImprovement.epochs_per_round, 2; got 3" in capsys.readouterr().err
