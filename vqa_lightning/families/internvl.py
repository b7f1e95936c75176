"""InternVL3: InternViT, a pixel shuffle and a two-layer projector, Qwen2.5.

Every frame is squashed to the tower's square and numbered in the text, without its time.
"""

from collections.abc import Iterable, Sequence, Set
from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    InternVLVisionConfig,
    Qwen2Config,
)

from vqa_lightning.families.base import Family
from vqa_lightning.families.embedded import (
    CHAT_TEMPLATE,
    EmbeddedSizes,
    build_tokenizer,
    decoder_sizes,
    shuffled_grid,
    whitened_cosines,
)


class InternVL(Family):
    """InternVL3 (Zhu et al. 2025)."""

    model_type = "internvl"
    video = "<video>"
    model: InternVLForConditionalGeneration
    processor: InternVLProcessor

    @classmethod
    def embedded(cls, sizes: EmbeddedSizes, texts: Iterable[str]) -> "InternVL":
        """The family built tiny; its patch filters start from whitened cosines.

        Raises:
            InputError: the patches along a side are odd in number.
        """
        tokenizer = build_tokenizer(
            (*texts, "Frame0123456789:"),
            ("<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
            start_image_token="<img>",
            end_image_token="</img>",
            context_image_token="<IMG_CONTEXT>",
            video_token="<video>",
        )
        tokens = shuffled_grid(sizes) ** 2
        settings: dict[str, Any] = {
            "size": {"height": sizes.image_size, "width": sizes.image_size},
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        }
        processor = InternVLProcessor(
            image_processor=GotOcr2ImageProcessor(**settings),
            tokenizer=tokenizer,
            video_processor=InternVLVideoProcessor(**settings),
            image_seq_length=tokens,
            chat_template=CHAT_TEMPLATE,
        )
        vision = InternVLVisionConfig(
            hidden_size=sizes.hidden_size,
            intermediate_size=4 * sizes.hidden_size,
            num_hidden_layers=sizes.vision_layers,
            num_attention_heads=sizes.hidden_size // 32,
            image_size=sizes.image_size,
            patch_size=sizes.patch_size,
            initializer_range=sizes.hidden_size**-0.5,
            layer_scale_init_value=1.0,  # a tenth, as published, suits towers of 24 layers
        )
        config = InternVLConfig(
            vision_config=vision,
            text_config=Qwen2Config(**decoder_sizes(len(tokenizer), sizes)),
            image_token_id=tokenizer.vocab["<IMG_CONTEXT>"],
            image_seq_length=tokens,
            tie_word_embeddings=True,
        )
        model = InternVLForConditionalGeneration(config)
        filters = whitened_cosines(sizes.patch_size, sizes.hidden_size)
        with torch.no_grad():
            model.model.vision_tower.embeddings.patch_embeddings.projection.weight[: len(filters)] = filters
        return cls(model, processor)

    @property
    def visual_ids(self) -> Set[int]:
        """The placeholder of a picture's tokens."""
        return {self.model.config.image_token_id}

    @property
    def delimiters(self) -> Set[int]:
        """What opens and closes a picture."""
        return {self.processor.start_image_token_id, self.processor.end_image_token_id}

    @property
    def patch(self) -> int:
        """Side of the tower's patches in pixels, which the config gives as height and width."""
        return cast(int, self.model.model.vision_tower.embeddings.patch_size[0])

    def video_text(self, seconds: Sequence[float], size: tuple[int, int]) -> str:
        """A line a frame: its number and its visual tokens."""
        inputs = {"pixel_values_videos": torch.empty(1, len(seconds), device="meta")}
        return self.processor.replace_video_token(inputs, 0)

    def features(self, frames: Tensor) -> tuple[Tensor, None]:
        """Each frame's shuffled patches, in order of time."""
        seen = self.model.model.get_image_features(self.normalise(frames).flatten(0, 1)).pooler_output
        return seen.unflatten(0, frames.shape[:2]).flatten(1, 2), None
