"""The command `export`: from a checkpoint of ours to a folder that transformers or peft loads, or to ONNX.

Adapters become a PEFT folder; anything else, and adapters merged on request, a folder for `from_pretrained`.
What neither of the libraries knows lies beside, so that nothing that was learnt is lost. An ONNX file is a
whole scorer.
"""

import json
from pathlib import Path
from typing import Literal

from peft import LoraConfig, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from rich.console import Console
from safetensors.torch import save_file
from torch import nn

from datamodules.checks import check_that
from datamodules.errors import InputError
from vqa_lightning.annotators.checkpoint_teacher import load_checkpoint
from vqa_lightning.checkpoints.resumable import read_checkpoint
from vqa_lightning.checkpoints.scorer_file import SHIPPED, SUFFIX, write_scorer
from vqa_lightning.commands.onnx_file import OPSET, check_exportable, write_onnx
from vqa_lightning.training import RankingModule

OWN_WEIGHTS = "vqa_lightning.safetensors"
"""Score head, motion path, cuts, scale and anchors."""

OWN_SETTINGS = "vqa_lightning.json"
"""The hyper-parameters of the RankingModule."""


def export_model(
    output: Path,
    ckpt_path: Path = SHIPPED,
    merge: bool = False,
    format: Literal["transformers", "scorer", "onnx"] = "transformers",
) -> None:
    """Write a trained model for transformers, its adapters for peft, or a scorer to give away.

    Args:
        output: the folder to write, which is empty or does not exist; for a scorer a file that is not there.
        ckpt_path: a .ckpt that fit wrote, or a scorer; by default the scorer of this package.
        merge: add adapters to the weights that they adapt and write the whole model. A model that was
            trained otherwise, and a scorer for onnx, is always written as a whole.
        format: transformers, a folder with the model and what is our own beside it; scorer, the file that
            --ckpt_path takes, .safetensors with its settings beside it; or onnx, one file from frames to
            scores that needs no torch, for an embedded model that scores pointwise.

    Raises:
        InputError: the checkpoint cannot be loaded, the output is in use or cannot be written, adapters are
            asked for whose base is not published, or the model cannot be a scorer for onnx.
    """
    _check_output(output, format)
    module = load_checkpoint(ckpt_path)
    try:
        if format == "onnx":
            said = _write_onnx(module, output)
        elif format == "scorer":
            write_scorer(read_checkpoint(ckpt_path), output)
            said = f"vqa-lightning predict --ckpt_path {output} scores with it"
        else:
            said = _write_folder(module, ckpt_path, output, merge)
    except OSError as error:
        raise InputError(
            f"--output {output} cannot be written ({error.strerror}); name another place."
        ) from error
    Console().print(f"{output} is written; {said}.", highlight=False, soft_wrap=True)


def _check_output(output: Path, format: str) -> None:
    if format != "transformers":
        suffix = ".onnx" if format == "onnx" else SUFFIX
        free = output.suffix == suffix and not output.exists() and output.resolve().parent.is_dir()
        must_be = f"a file {suffix} that does not exist, in a folder that does"
    else:
        free = not output.exists() or (output.is_dir() and not any(output.iterdir()))
        must_be = "a folder that is empty or does not exist"
    check_that(free, "--output", must_be, output)


def _write_onnx(module: RankingModule, output: Path) -> str:
    check_exportable(module)
    _merge_adapters(module.lmm.model)
    difference = write_onnx(module, output)
    return f"opset {OPSET}, its scores differ from torch's by {difference:.0e} at most"


def _write_folder(module: RankingModule, ckpt_path: Path, output: Path, merge: bool) -> str:
    adapters = module.trained.parts == "lora" and not merge
    if adapters and module.lmm_config.pretrained is None:
        raise InputError(
            f"--ckpt_path {ckpt_path} holds adapters of the embedded model, which exists nowhere else; "
            "add --merge=true to write both as one."
        )
    output.mkdir(parents=True, exist_ok=True)
    if adapters:
        _write_adapters(module, output)
    else:
        _merge_adapters(module.lmm.model)
        module.lmm.model.save_pretrained(output)
        module.lmm.family.processor.save_pretrained(output)
    _write_own(module, ckpt_path, output)
    loader = "peft.PeftModel" if adapters else "transformers.AutoModelForImageTextToText"
    return f"{loader}.from_pretrained loads it"


def _write_adapters(module: RankingModule, output: Path) -> None:
    model = module.lmm.model
    config = model.peft_config["default"]
    assert isinstance(config, LoraConfig)
    config.base_model_name_or_path = module.lmm_config.pretrained
    config.inference_mode = True
    config.save_pretrained(str(output))
    # A PeftModel holds the model two levels further down than ours.
    state = get_peft_model_state_dict(model)
    weights = {f"base_model.model.{name}": value.contiguous() for name, value in state.items()}
    save_file(weights, output / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})


def _merge_adapters(model: nn.Module) -> None:
    adapted = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, LoraLayer)]
    for name, layer in adapted:
        layer.merge(safe_merge=True)
        model.set_submodule(name, layer.get_base_layer())


def _write_own(module: RankingModule, ckpt_path: Path, output: Path) -> None:
    weights = {
        name: value.contiguous()
        for name, value in module.state_dict().items()
        if not name.startswith("lmm.model.")
    }
    weights |= {f"anchors.{place}": clip.contiguous() for place, clip in enumerate(module.anchors.clips)}
    save_file(weights, output / OWN_WEIGHTS)
    settings = read_checkpoint(ckpt_path)["hyper_parameters"]
    settings.pop("_instantiator", None)
    (output / OWN_SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
