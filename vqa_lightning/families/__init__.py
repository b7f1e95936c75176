"""Families of multimodal models behind one interface; a checkpoint's config says which family it is.

Imports `datamodules.errors`, `datamodules.checks`, `datamodules.devices` and `datamodules.video`, and
nothing else of ours.
"""

from typing import Literal

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from datamodules.errors import InputError
from vqa_lightning.families.base import Family
from vqa_lightning.families.embedded import EmbeddedSizes
from vqa_lightning.families.internvl import InternVL
from vqa_lightning.families.llava_onevision import LlavaOnevision
from vqa_lightning.families.qwen3_vl import Qwen3VL
from vqa_lightning.families.smolvlm import SmolVLM

FAMILIES: dict[str, type[Family]] = {
    family.model_type: family for family in (LlavaOnevision, Qwen3VL, SmolVLM, InternVL)
}

__all__ = ["FAMILIES", "EmbeddedSizes", "Family", "load_family"]


def load_family(
    name: str,
    dtype: torch.dtype | Literal["auto"] = torch.float32,
    *,
    weights: bool = True,
) -> Family:
    """Load a published checkpoint, or a checkpoint saved by `save_pretrained`, in training mode.

    Args:
        name: folder, or name on the Hugging Face hub.
        dtype: of the weights; "auto": as they are stored.
        weights: False: build the model of the checkpoint's config without reading its weights.

    Raises:
        InputError: the checkpoint is missing, broken, of a family that is not here, or sees no pictures.
    """
    try:
        config = AutoConfig.from_pretrained(name)
        if config.model_type not in FAMILIES:
            sees = "" if "vision_config" in config.sub_configs else ", which sees no pictures"
            raise InputError(
                f"model.lmm.pretrained {name!r} is a {config.model_type} model{sees}: name a checkpoint of "
                f"{', '.join(FAMILIES)}."
            )
        processor = AutoProcessor.from_pretrained(name)  # type: ignore[no-untyped-call]
        if weights:
            model = AutoModelForImageTextToText.from_pretrained(name, dtype=dtype)
        else:
            model = AutoModelForImageTextToText.from_config(  # type: ignore[no-untyped-call]
                config, dtype=config.dtype if dtype == "auto" else dtype
            )
    except (ImportError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".:")
        raise InputError(
            f"model.lmm.pretrained {name!r} cannot be loaded ({reason}): "
            "name a folder or a published checkpoint."
        ) from error
    model.train()  # transformers loads in eval mode, and Lightning keeps the mode it finds
    return FAMILIES[config.model_type](model, processor)
