"""Trained models leave for transformers and peft, and say there what they said here."""

import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch.cli import LightningCLI
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from datamodules.errors import InputError
from datamodules.labels import LEVELS
from vqa_lightning.cli import main
from vqa_lightning.commands.export import export_model
from vqa_lightning.families import FAMILIES, EmbeddedSizes
from vqa_lightning.lmm.prompt import ANSWER, QUESTION, QWEN_CHAT, SYSTEM
from vqa_lightning.training import RankingModule


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as published ones are, of a tiny model."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    family = FAMILIES["llava_onevision"]
    said = QWEN_CHAT.format(system=SYSTEM, user=QUESTION.format(video=family.video))
    tiny = family.embedded(
        EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=1), (said, ANSWER, *LEVELS)
    )
    tiny.model.save_pretrained(folder)
    tiny.processor.save_pretrained(folder)
    return folder


def train(path: Path, parts: str, *settings: str) -> RankingModule:
    """Saves a checkpoint as fit does, of a model that has left its starting point."""
    cli = LightningCLI(
        RankingModule,
        run=False,
        save_config_callback=None,
        seed_everything_default=0,
        auto_configure_optimizers=False,
        trainer_defaults={"accelerator": "cpu", "barebones": True},
        args=[
            *settings,
            f"--model.trained.parts={parts}",
            "--model.sampling.frames=2",
            "--model.sampling.window=32",
        ],
    )
    module: RankingModule = cli.model
    module.configure_model()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn_like(parameter)
    module.anchors.choose([torch.full((2, 3, 32, 32), 7, dtype=torch.uint8)])
    cli.trainer.strategy.connect(module)
    cli.trainer.save_checkpoint(path)
    return module.eval()


def said_by(model: torch.nn.Module, module: RankingModule) -> Tensor:
    """Logits (1, L, vocabulary) of the family's own forward on a prompt with two videos."""
    family = module.lmm.family
    pixels = family.normalise(torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    ids = torch.tensor([[token for part in module.lmm.prompt_ids((32, 32)) for token in part]])
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids, pixel_values_videos=pixels).logits
    return logits


def test_adapters_load_with_peft(base: Path, tmp_path: Path) -> None:
    module = train(tmp_path / "last.ckpt", "lora", f"--model.lmm.pretrained={base}")
    expected = said_by(module.lmm.model, module)
    output = tmp_path / "adapters"
    export_model(output, tmp_path / "last.ckpt")
    plain = AutoModelForImageTextToText.from_pretrained(base)
    assert not torch.allclose(said_by(plain, module), expected, atol=1e-2)
    adapted = PeftModel.from_pretrained(plain, output).eval()
    assert torch.equal(said_by(adapted, module), expected)
    assert json.loads((output / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)


@pytest.mark.parametrize(("parts", "merge"), [("lora", True), ("paper", False)])
def test_the_whole_model_loads_with_transformers(base: Path, tmp_path: Path, parts: str, merge: bool) -> None:
    module = train(tmp_path / "last.ckpt", parts, f"--model.lmm.pretrained={base}")
    output = tmp_path / "merged"
    export_model(output, tmp_path / "last.ckpt", merge=merge)
    plain = AutoModelForImageTextToText.from_pretrained(output).eval()
    # An adapter added to a weight, or to what the weight gives: float32 sums in another order.
    assert torch.allclose(said_by(plain, module), said_by(module.lmm.model, module), atol=1e-4)
    assert type(AutoProcessor.from_pretrained(output)) is type(module.lmm.family.processor)


def test_what_is_our_own_lies_beside(base: Path, tmp_path: Path) -> None:
    module = train(tmp_path / "last.ckpt", "lora", f"--model.lmm.pretrained={base}")
    export_model(tmp_path / "out", tmp_path / "last.ckpt")
    own = load_file(tmp_path / "out" / "vqa_lightning.safetensors")
    assert torch.equal(own["lmm.score_head.weight"], module.lmm.score_head.weight)
    assert torch.equal(own["scale"], module.scale)
    assert torch.equal(own["anchors.0"], module.anchors.clips[0])
    adapters = load_file(tmp_path / "out" / "adapter_model.safetensors")
    learnt = {name for name, p in module.named_parameters() if p.requires_grad}
    assert len(own.keys() & learnt) + len(adapters) == len(learnt)
    settings = json.loads((tmp_path / "out" / "vqa_lightning.json").read_text())
    assert settings["lmm"]["pretrained"] == str(base)


def test_the_embedded_model_leaves_as_a_whole(tmp_path: Path) -> None:
    sizes = ("image_size=32", "hidden_size=32", "vision_layers=1", "text_layers=1")
    settings = [f"--model.lmm.embedded.{size}" for size in sizes]
    module = train(tmp_path / "last.ckpt", "lora", *settings)
    with pytest.raises(InputError, match="--merge"):
        export_model(tmp_path / "out", tmp_path / "last.ckpt")
    words = ["--ckpt_path", str(tmp_path / "last.ckpt"), "--output", str(tmp_path / "out")]
    main(["export", *words, "--merge=true"])
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "out").eval()
    assert torch.allclose(said_by(plain, module), said_by(module.lmm.model, module), atol=1e-4)


def test_a_folder_in_use_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main(["export", "--ckpt_path", "last.ckpt", "--output", str(tmp_path), "--merge=true"])
    assert ended.value.code == 2
    assert "must be a folder that is empty or does not exist" in capsys.readouterr().err.splitlines()[-1]
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
