"""The command `export`: from a checkpoint of ours to a folder that transformers or peft loads by itself.

Adapters become a PEFT folder; anything else, and adapters merged on request, a folder for `from_pretrained`.
What neither of the libraries knows lies beside, so that nothing that was learnt is lost.
"""

import json
from pathlib import Path

from peft import LoraConfig, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from rich.console import Console
from safetensors.torch import save_file
from torch import nn

from datamodules.errors import InputError
from vqa_lightning.annotators.checkpoint_teacher import load_checkpoint
from vqa_lightning.checkpoints.resumable import read_checkpoint
from vqa_lightning.training import RankingModule

OWN_WEIGHTS = "vqa_lightning.safetensors"
"""Score head, motion path, cuts, scale and anchors."""

OWN_SETTINGS = "vqa_lightning.json"
"""The hyper-parameters of the RankingModule."""


def export_model(ckpt_path: Path, output: Path, merge: bool = False) -> None:
    """Write a trained model for transformers, or its adapters for peft, and what is our own beside them.

    Args:
        ckpt_path: a .ckpt that fit wrote.
        output: the folder to write; it must not exist, or be empty.
        merge: add adapters to the weights that they adapt and write the whole model. A model that was
            trained otherwise is always written as a whole.

    Raises:
        InputError: the checkpoint cannot be loaded, the folder is in use or cannot be written, or adapters
            are asked for whose base is not published.
    """
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise InputError(f"--output must be a folder that is empty or does not exist; got {output}.")
    module = load_checkpoint(ckpt_path)
    adapters = module.trained.parts == "lora" and not merge
    if adapters and module.lmm_config.pretrained is None:
        raise InputError(
            f"--ckpt_path {ckpt_path} holds adapters of the embedded model, which exists nowhere else; "
            "add --merge=true to write both as one."
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
        if adapters:
            _write_adapters(module, output)
        else:
            _merge_adapters(module.lmm.model)
            module.lmm.model.save_pretrained(output)
            module.lmm.family.processor.save_pretrained(output)
        _write_own(module, ckpt_path, output)
    except OSError as error:
        raise InputError(
            f"--output {output} cannot be written ({error.strerror}); name another place."
        ) from error
    loader = "peft.PeftModel" if adapters else "transformers.AutoModelForImageTextToText"
    Console().print(f"{output} is written; {loader}.from_pretrained loads it.", highlight=False)


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
    (output / OWN_SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")
