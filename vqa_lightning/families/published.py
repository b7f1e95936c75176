"""The published checkpoints' sizes as transformers configs built in code, for what must run without them.

The numbers are those of the config.json files on the Hub, defaults of transformers left out, so that a model
built from one has the checkpoint's parameters. Loading a checkpoint never reads them: they serve memory
estimates, benchmarks with random weights and the listing.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from transformers import (
    InternVLConfig,
    InternVLVisionConfig,
    LlamaConfig,
    LlavaOnevisionConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3VLConfig,
    Qwen3VLTextConfig,
    Qwen3VLVisionConfig,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMVisionConfig,
)

from datamodules.errors import InputError


def _decoder(
    hidden_size: int, intermediate_size: int, layers: int, heads: int, key_value_heads: int
) -> dict[str, Any]:
    return {
        "hidden_size": hidden_size,
        "intermediate_size": intermediate_size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
    }


def _rope(theta: float) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": theta}


LARGE_TOWER: dict[str, Any] = {"hidden_size": 1152, "intermediate_size": 4304}
"""SigLIP so400m, and Qwen3-VL's tower of the same size; both have 16 heads and 27 layers."""

QWEN2: dict[str, Any] = {"max_position_embeddings": 32768, "rope_parameters": _rope(1_000_000.0)}


def _llava_onevision(decoder: dict[str, Any], vocabulary: int, *, tied: bool) -> PreTrainedConfig:
    # The 27th layer of SigLIP so400m/14 is left out: its features are those of the 26th.
    vision = SiglipVisionConfig(
        **LARGE_TOWER,
        num_hidden_layers=26,
        num_attention_heads=16,
        image_size=384,
        patch_size=14,
        vision_use_head=False,
    )
    text = Qwen2Config(**decoder, **QWEN2, vocab_size=vocabulary, tie_word_embeddings=tied)
    return LlavaOnevisionConfig(vision_config=vision, text_config=text, tie_word_embeddings=tied)


def _qwen3_vl(decoder: dict[str, Any], *, large_tower: bool, tied: bool) -> PreTrainedConfig:
    sizes = LARGE_TOWER if large_tower else {"hidden_size": 1024, "intermediate_size": 4096}
    vision = Qwen3VLVisionConfig(
        **sizes,
        depth=27 if large_tower else 24,
        num_heads=16,
        out_hidden_size=decoder["hidden_size"],
        deepstack_visual_indexes=[8, 16, 24] if large_tower else [5, 11, 17],
    )
    text = Qwen3VLTextConfig(
        **decoder,
        vocab_size=151936,
        head_dim=128,
        max_position_embeddings=262144,
        rope_parameters={
            **_rope(5_000_000.0),
            "mrope_section": [24, 20, 20],
            "mrope_interleaved": True,
        },
    )
    return Qwen3VLConfig(vision_config=vision, text_config=text, tie_word_embeddings=tied)


def _smolvlm2(decoder: dict[str, Any], *, large_tower: bool, rope_theta: float) -> PreTrainedConfig:
    sizes = LARGE_TOWER if large_tower else {"hidden_size": 768, "intermediate_size": 3072}
    vision = SmolVLMVisionConfig(
        **sizes,
        num_hidden_layers=27 if large_tower else 12,
        num_attention_heads=16 if large_tower else 12,
        image_size=384 if large_tower else 512,
        patch_size=14 if large_tower else 16,
    )
    text = LlamaConfig(
        **decoder,
        vocab_size=49280,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters=_rope(rope_theta),
        pad_token_id=2,
    )
    return SmolVLMConfig(
        vision_config=vision, text_config=text, scale_factor=3 if large_tower else 4, image_token_id=49190
    )


def _internvl3_1b() -> PreTrainedConfig:
    text = Qwen2Config(**_decoder(896, 4864, 24, 14, 2), **QWEN2, vocab_size=151674)
    # InternViT-300M at 448 pixels is the default of InternVLVisionConfig.
    return InternVLConfig(vision_config=InternVLVisionConfig(), text_config=text, tie_word_embeddings=False)


_QWEN3_VL = {
    "2B": partial(_qwen3_vl, _decoder(2048, 6144, 28, 16, 8), large_tower=False, tied=True),
    "4B": partial(_qwen3_vl, _decoder(2560, 9728, 36, 32, 8), large_tower=False, tied=True),
    "8B": partial(_qwen3_vl, _decoder(4096, 12288, 36, 32, 8), large_tower=True, tied=False),
}
_SMOLVLM2 = {
    "256M-Video": partial(_smolvlm2, _decoder(576, 1536, 30, 9, 3), large_tower=False, rope_theta=1e5),
    "500M-Video": partial(_smolvlm2, _decoder(960, 2560, 32, 15, 5), large_tower=False, rope_theta=1e5),
    "2.2B": partial(_smolvlm2, _decoder(2048, 8192, 24, 32, 32), large_tower=True, rope_theta=1.3e5),
}
_LLAVA_ONEVISION = {
    "0.5b": partial(_llava_onevision, _decoder(896, 4864, 24, 14, 2), 152000, tied=True),
    "7b": partial(_llava_onevision, _decoder(3584, 18944, 28, 28, 4), 152128, tied=False),
}
PUBLISHED: Mapping[str, Callable[[], PreTrainedConfig]] = MappingProxyType(
    {f"llava-hf/llava-onevision-qwen2-{size}-ov-hf": config for size, config in _LLAVA_ONEVISION.items()}
    | {f"Qwen/Qwen3-VL-{size}-Instruct": config for size, config in _QWEN3_VL.items()}
    | {f"HuggingFaceTB/SmolVLM2-{size}-Instruct": config for size, config in _SMOLVLM2.items()}
    | {"OpenGVLab/InternVL3-1B-hf": _internvl3_1b}
)


def published_config(name: str) -> PreTrainedConfig:
    """Return the config of a published checkpoint, at its real sizes.

    Args:
        name: name on the Hub, one of `PUBLISHED`.

    Raises:
        InputError: the sizes of `name` are not known here.
    """
    if name not in PUBLISHED:
        raise InputError(f"a checkpoint of known sizes must be one of {', '.join(PUBLISHED)}; got {name!r}.")
    return PUBLISHED[name]()
