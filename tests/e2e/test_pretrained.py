"""Runs that start from a saved checkpoint, by the real command line: bad input, precision, moved bases."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from datamodules.video import Sampling
from vqa_lightning.cli import main
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMM, LMMConfig

TINY = LMMConfig(embedded=EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=1))
SMALL = [
    "--trainer.max_epochs=1",
    "--model.lmm.pretrained=base",
    "--model.sampling.segments=2",
    "--model.sampling.window=null",
    "--data.counts.synthetic=8",
    "--data.counts.teacher=4",
]


@pytest.fixture
def here(here: Path) -> Path:
    """An empty current folder but for a saved model."""
    torch.manual_seed(0)
    lmm = LMM(TINY, Sampling())
    lmm.model.save_pretrained("base")
    lmm.family.processor.save_pretrained("base")
    return here


@pytest.fixture
def fit(smallest: list[str]) -> Callable[..., None]:
    """Trains one round, beginning with the saved model."""
    return lambda *more: main([*smallest, *SMALL, *more])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--model.lmm.pretrained=text"], "is a qwen2 model, which sees no pictures"),
        (["--model.lmm.pretrained=/nowhere"], "'/nowhere' cannot be loaded"),
        (
            ["--model.lmm.embedded.family=minicpm"],
            "internvl; got 'minicpm'",
        ),
        (["--model.trained.parts=lora", "--model.trained.targets=.*nothing"], "matches no layer"),
        (["--model.sampling.segments=600"], "context holds 4096"),
        (["--model.lmm.feature_cache=features", "--model.trained.parts=full"], "model.lmm.feature_cache"),
        (
            ["--trainer.precision=bf16-true"],
            "trainer.precision must be one of 32-true",
        ),
        (
            [
                "--model.trained.parts=head",
                "--model.judgements=[pairwise]",
                "--model.score_by=pairwise",
                "--model.lmm.motion=null",
            ],
            "trains nothing",
        ),
    ],
)
def test_bad_input_is_one_sentence_before_anything_runs(
    words: list[str],
    sentence: str,
    here: Path,
    fit: Callable[..., None],
    refused: Callable[..., str],
) -> None:
    Qwen2ForCausalLM(Qwen2Config(vocab_size=8, hidden_size=32, num_hidden_layers=1)).save_pretrained("text")
    assert sentence in refused(fit, *words)
    assert not (here / "runs").exists()


def test_adapters_in_mixed_precision_and_a_base_that_has_moved(
    here: Path, fit: Callable[..., None], small_corpus: Path
) -> None:
    fit("--trainer.precision=bf16-mixed", "--model.lmm.feature_cache=features")
    run = here / "runs" / "round" / "version_0"
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert any("lora_B" in name for name in checkpoint["state_dict"])
    assert not any("base_layer" in name for name in checkpoint["state_dict"])
    assert list((here / "features").iterdir())
    (here / "elsewhere").mkdir()
    (here / "base").rename(here / "elsewhere" / "base")
    moved = ["--model.lmm.pretrained=elsewhere/base", "--model.lmm.feature_cache=null"]
    words = ["predict", "--ckpt_path", str(run / "checkpoints" / "last.ckpt"), *moved]
    main([*words, "--data.videos", str(small_corpus)])
    with (here / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["status"] for row in rows} == {"ok"}
    assert len({row["score"] for row in rows}) == len(rows)


def test_other_settings_of_the_model_are_named_one_by_one(
    here: Path, fit: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    fit()
    checkpoint = here / "runs" / "round" / "version_0" / "checkpoints" / "last.ckpt"
    with pytest.raises(SystemExit):
        main(["predict", "--ckpt_path", str(checkpoint), "--model.lmm.view", "crop"])
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "trained with model.lmm.view None, not crop" in message
