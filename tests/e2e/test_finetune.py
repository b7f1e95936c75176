"""Fine-tuning on MOS through the real command line, on a small corpus with a tiny model."""

import csv
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from datamodules.corpus import build_corpus, videos
from datamodules.procedural import VERSION, write_corpus, write_mos
from vqa_lightning.annotators.checkpoint_teacher import load_checkpoint
from vqa_lightning.cli import main

SMALL = [
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=1",
    "--data.batch_size=4",
    "--data.counts.synthetic=8",
    "--data.counts.teacher=8",
    "--data.counts.evaluation=16",
    "--data.simulators=[gaussian_blur, gaussian_noise]",
]
TINY = [
    "--model.lmm.quality_tower=null",
    "--model.lmm.pictures=true",
    "--model.lmm.feature_cache=null",
    "--model.scoring.whole=false",
    "--data.workers=0",
    "--data.counts.reference=0",
    "--model.lmm.embedded.image_size=32",
    "--model.lmm.embedded.hidden_size=32",
    "--model.lmm.embedded.vision_layers=1",
    "--model.lmm.embedded.text_layers=1",
    "--model.sampling.window=32",
]


@pytest.fixture(scope="module")
def checkpoint(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tiny model that was trained without any label."""
    folder = tmp_path_factory.mktemp("before")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(sys, "argv", ["vqa-lightning"])
        words = ["--config", "round.yaml", "--data.videos", str(small_corpus / "manifest.csv")]
        main(["fit", *words, *SMALL, *TINY])
    return folder / "runs" / "round" / "version_0" / "checkpoints" / "last.ckpt"


@pytest.fixture
def here(here: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder, with the scores that the teachers gave before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(checkpoint.parents[4] / "cache"))
    return here


def finetune(checkpoint: Path, *more: str) -> None:
    words = ["--config", "finetune.yaml", "--model.init_from", str(checkpoint), "--data.counts.human=16"]
    main(["fit", *words, *SMALL, *more])


def test_people_s_pairs_are_mixed_with_the_others(here: Path, small_corpus: Path, checkpoint: Path) -> None:
    shutil.copy(small_corpus / "truth.csv", here)
    mos = write_mos(here)
    manifest = small_corpus / "manifest.csv"
    finetune(checkpoint, f"--data.videos={manifest}", f"--data.labelling.mos=[{mos}]")
    run = here / "runs" / "finetune" / "version_0"
    pairs = pq.read_table(run / "pairs" / "round-0.parquet").to_pylist()
    assert Counter(row["source"] for row in pairs) == {"synthetic": 8, "teacher": 8, "human": 16}
    train = {video.video_id for video in videos(build_corpus(manifest, progress=False), "train")}
    assert {row[side] for row in pairs for side in ("first", "second")} <= train
    with (run / "rounds.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["pairs_human"] == "16"
    assert -1 <= float(row["mos_srcc_student"]) <= 1
    before, after = load_checkpoint(checkpoint), load_checkpoint(run / "checkpoints" / "last.ckpt")
    assert after.lmm_config == before.lmm_config  # which nobody has typed
    weights = after.state_dict()
    moved = [
        name
        for name, value in before.lmm.state_dict().items()
        if not torch.equal(weights[f"lmm.{name}"], value)
    ]
    assert moved


def test_simulated_observers_vote_on_the_embedded_corpus(
    here: Path, small_corpus: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not the many that take minutes.
    few = partial(write_corpus, contents=8, chains=1)
    monkeypatch.setattr("datamodules.round_data.write_corpus", lambda folder, _: few(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(here))
    embedded = shutil.copytree(small_corpus, here / "vqa-lightning" / f"embedded-{VERSION}")
    known = f"--data.labels={checkpoint.parents[4] / 'cache' / 'vqa-lightning' / 'labels'}"
    finetune(checkpoint, known, "--data.counts.human=0")
    assert not (embedded / "mos.csv").exists()
    finetune(checkpoint, known)
    assert (embedded / "mos.csv").exists()
    pairs = pq.read_table("runs/finetune/version_1/pairs/round-0.parquet")
    assert pairs["source"].to_pylist().count("human") == 16


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--data.labelling.mos=[absent.csv]"], "absent.csv"),
        (["--data.labelling.mos=[other.csv]"], "none of the 8 videos"),
        (["--data.labelling.mos=[letters.csv]"], "letters.csv"),
        ([], "data.labelling.mos must name a list"),
        (
            ["--data.labelling.mos=[other.csv]", "--data.counts.human=0"],
            "human must be 1 or more",
        ),
    ],
)
def test_bad_input_is_one_sentence(
    here: Path,
    small_corpus: Path,
    checkpoint: Path,
    refused: Callable[..., str],
    words: list[str],
    sentence: str,
) -> None:
    (here / "other.csv").write_text("path,mos\nelsewhere.mp4,3.0\n")
    (here / "letters.csv").write_text("path,mos\ncontent_000.mp4,good\n")
    assert sentence in refused(finetune, checkpoint, f"--data.videos={small_corpus / 'manifest.csv'}", *words)
    assert not (here / "runs").exists()
