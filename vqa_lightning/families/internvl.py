"""InternVL3: InternViT, a pixel shuffle and a two-layer projector, Qwen2.5.

Every frame is squashed to the tower's square and numbered in the text, without its time.
"""

from collections.abc import Iterable, Set
from typing import Any, cast

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

from vqa_lightning.families.embedded import (
    CHAT_TEMPLATE,
    HALF,
    EmbeddedSizes,
    build_tokenizer,
    decoder_sizes,
    tower_sizes,
    whiten,
)
from vqa_lightning.families.shuffled import ShuffledFamily, shuffled_tokens


class InternVL(ShuffledFamily):
    """InternVL3 (Zhu et al. 2025)."""

    model_type = "internvl"
    model: InternVLForConditionalGeneration
    processor: InternVLProcessor

    @classmethod
    def embedded(cls, sizes: EmbeddedSizes, texts: Iterable[str]) -> "InternVL":
        """Build the family tiny; its patch filters start from whitened cosines."""
        tokenizer = build_tokenizer(
            (*texts, "Frame0123456789:"),
            ("<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
            start_image_token="<img>",
            end_image_token="</img>",
            context_image_token="<IMG_CONTEXT>",
            video_token="<video>",
        )
        tokens = shuffled_tokens(sizes)
        settings: dict[str, Any] = {
            "size": {"height": sizes.image_size, "width": sizes.image_size},
            **HALF,
        }
        processor = InternVLProcessor(
            image_processor=GotOcr2ImageProcessor(**settings),
            tokenizer=tokenizer,
            video_processor=InternVLVideoProcessor(**settings),
            image_seq_length=tokens,
            chat_template=CHAT_TEMPLATE,
        )
        vision = InternVLVisionConfig(
            **tower_sizes(sizes),
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
        whiten(model.model.vision_tower.embeddings.patch_embeddings.projection.weight, sizes)
        return cls(model, processor)

    @property
    def delimiters(self) -> Set[int]:
        """What opens and closes a picture."""
        return {self.processor.start_image_token_id, self.processor.end_image_token_id}

    @property
    def patch(self) -> int:
        """Side of the tower's patches in pixels, which the config gives as height and width."""
        return cast(int, self.model.model.vision_tower.embeddings.patch_size[0])

    def see(self, pictures: Tensor) -> Tensor:
        """Return what the family's own way from pictures to the language model gives."""
        return cast(Tensor, self.model.model.get_image_features(pictures).pooler_output)
