"""The published checkpoints' sizes as transformers configs built in code, for what must run without them.

The numbers are those of the config.json files on the Hub, defaults of transformers left out, so that a model
built from one has the checkpoint's parameters. Loading a checkpoint never reads them: they serve memory
estimates, benchmarks with random weights and the listing.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

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


def _llava_onevision(
    hidden_size: int,
    intermediate_size: int,
    layers: int,
    heads: int,
    key_value_heads: int,
    vocabulary: int,
    *,
    tied: bool,
) -> PreTrainedConfig:
    # The 27th layer of SigLIP so400m/14 is left out: its features are those of the 26th.
    vision = SiglipVisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=26,
        num_attention_heads=16,
        image_size=384,
        patch_size=14,
        vision_use_head=False,
    )
    text = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        max_position_embeddings=32768,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=tied,
    )
    return LlavaOnevisionConfig(vision_config=vision, text_config=text, tie_word_embeddings=tied)


def _qwen3_vl(
    hidden_size: int, intermediate_size: int, layers: int, heads: int, *, large_tower: bool, tied: bool
) -> PreTrainedConfig:
    vision = Qwen3VLVisionConfig(
        hidden_size=1152 if large_tower else 1024,
        intermediate_size=4304 if large_tower else 4096,
        depth=27 if large_tower else 24,
        num_heads=16,
        out_hidden_size=hidden_size,
        deepstack_visual_indexes=[8, 16, 24] if large_tower else [5, 11, 17],
    )
    text = Qwen3VLTextConfig(
        vocab_size=151936,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=262144,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 5_000_000.0,
            "mrope_section": [24, 20, 20],
            "mrope_interleaved": True,
        },
    )
    return Qwen3VLConfig(vision_config=vision, text_config=text, tie_word_embeddings=tied)


def _smolvlm2(
    hidden_size: int,
    intermediate_size: int,
    layers: int,
    heads: int,
    key_value_heads: int,
    *,
    large_tower: bool,
    rope_theta: float,
) -> PreTrainedConfig:
    vision = SmolVLMVisionConfig(
        hidden_size=1152 if large_tower else 768,
        intermediate_size=4304 if large_tower else 3072,
        num_hidden_layers=27 if large_tower else 12,
        num_attention_heads=16 if large_tower else 12,
        image_size=384 if large_tower else 512,
        patch_size=14 if large_tower else 16,
    )
    text = LlamaConfig(
        vocab_size=49280,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": rope_theta},
        pad_token_id=2,
    )
    return SmolVLMConfig(
        vision_config=vision, text_config=text, scale_factor=3 if large_tower else 4, image_token_id=49190
    )


def _internvl3_1b() -> PreTrainedConfig:
    text = Qwen2Config(
        vocab_size=151674,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
    )
    # InternViT-300M at 448 pixels is the default of InternVLVisionConfig.
    return InternVLConfig(vision_config=InternVLVisionConfig(), text_config=text, tie_word_embeddings=False)


PUBLISHED: Mapping[str, Callable[[], PreTrainedConfig]] = MappingProxyType(
    {
        "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": partial(
            _llava_onevision, 896, 4864, 24, 14, 2, 152000, tied=True
        ),
        "llava-hf/llava-onevision-qwen2-7b-ov-hf": partial(
            _llava_onevision, 3584, 18944, 28, 28, 4, 152128, tied=False
        ),
        "Qwen/Qwen3-VL-2B-Instruct": partial(_qwen3_vl, 2048, 6144, 28, 16, large_tower=False, tied=True),
        "Qwen/Qwen3-VL-4B-Instruct": partial(_qwen3_vl, 2560, 9728, 36, 32, large_tower=False, tied=True),
        "Qwen/Qwen3-VL-8B-Instruct": partial(_qwen3_vl, 4096, 12288, 36, 32, large_tower=True, tied=False),
        "HuggingFaceTB/SmolVLM2-256M-Video-Instruct": partial(
            _smolvlm2, 576, 1536, 30, 9, 3, large_tower=False, rope_theta=100_000.0
        ),
        "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": partial(
            _smolvlm2, 960, 2560, 32, 15, 5, large_tower=False, rope_theta=100_000.0
        ),
        "HuggingFaceTB/SmolVLM2-2.2B-Instruct": partial(
            _smolvlm2, 2048, 8192, 24, 32, 32, large_tower=True, rope_theta=130_000.0
        ),
        "OpenGVLab/InternVL3-1B-hf": _internvl3_1b,
    }
)


def published_config(name: str) -> PreTrainedConfig:
    """The config of a published checkpoint, at its real sizes.

    Args:
        name: name on the Hub, one of `PUBLISHED`.

    Raises:
        InputError: the sizes of `name` are not known here.
    """
    if name not in PUBLISHED:
        raise InputError(
            f"the sizes of {name!r} are not among those known here: name one of {', '.join(PUBLISHED)}."
        )
    return PUBLISHED[name]()
