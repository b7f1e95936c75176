"""A published checkpoint without its weights: its sizes, with a tokenizer made in code.

A stand-in loads by the path that the published checkpoint takes, `weights=False` given, so that memory and
operations of a run can be computed where nothing can be downloaded. Every word is one token here; a published
tokenizer makes a few more tokens of a prompt's words, which is next to nothing beside its pictures.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from transformers import (
    InternVLConfig,
    InternVLProcessor,
    LlavaOnevisionProcessor,
    PreTrainedConfig,
    Qwen3VLConfig,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SmolVLMConfig,
    SmolVLMProcessor,
    SmolVLMVisionConfig,
)

from datamodules.labels import LEVELS
from vqa_lightning.families import FAMILIES
from vqa_lightning.families.embedded import EmbeddedSizes
from vqa_lightning.families.published import published_config
from vqa_lightning.lmm.prompt import ANSWER, QUESTION, QWEN_CHAT, SYSTEM

QWEN3_VL_PIXELS = {"shortest_edge": 4096, "longest_edge": 25165824}
"""Of all frames of a video together, as in the published preprocessor_config.json."""


def write_stand_in(name: str, folder: Path) -> Path:
    """Write config, tokenizer and processor of a checkpoint.

    Args:
        name: on the Hub, one of `published.PUBLISHED`.
        folder: made if it is not there.

    Returns:
        The folder, for `model.lmm.pretrained`.

    Raises:
        InputError: the checkpoint's sizes are not known.
    """
    config = published_config(name)
    # Patches of 16 pixels divide every square evenly; the tiny model itself is not kept.
    square, family = _square(config), FAMILIES[config.model_type]
    sizes = EmbeddedSizes(family.model_type, square, 16, hidden_size=32, vision_layers=1, text_layers=1)
    texts = (QWEN_CHAT, SYSTEM, QUESTION, ANSWER, *LEVELS, "user assistant")
    tiny = family.embedded(sizes, texts)
    processor, ids = tiny.processor, tiny.model.config.to_dict()
    for key in ("image", "video", "vision_start", "vision_end"):
        for kind in (f"{key}_token_id", f"{key}_token_index"):
            if kind in ids:
                setattr(config, kind, ids[kind])
    if isinstance(processor, LlavaOnevisionProcessor):
        # The published tower's patches of 14 pixels leave a margin: 27 x 27.
        processor.num_image_tokens = (square // _side(config.vision_config.patch_size)) ** 2
    if isinstance(processor, SmolVLMProcessor) and isinstance(config, SmolVLMConfig):
        patches = square // _side(cast(SmolVLMVisionConfig, config.vision_config).patch_size)
        processor.image_seq_len = (patches // config.scale_factor) ** 2
    if isinstance(processor, InternVLProcessor) and isinstance(config, InternVLConfig):
        processor.image_seq_length = config.image_seq_length
    if isinstance(processor, Qwen3VLProcessor):
        processor.video_processor = Qwen3VLVideoProcessor(size=QWEN3_VL_PIXELS)
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _square(config: PreTrainedConfig) -> int:
    """Return the side of the pictures that the tower sees, in pixels; Qwen3-VL has no fixed side."""
    if isinstance(config, Qwen3VLConfig):
        return 256
    return _side(config.vision_config.image_size)


def _side(square: int | Sequence[int]) -> int:
    return square if isinstance(square, int) else square[0]
