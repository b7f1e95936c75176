"""LLaVA-OneVision, the paper's family: SigLIP, a two-layer projector, Qwen2.

Every frame is squashed to the tower's square, pooled to a quarter of its patches, and one learnt token ends
the video.
"""

from collections.abc import Iterable, Sequence, Set
from typing import cast

from torch import Tensor, nn
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    Qwen2Config,
    SiglipVisionConfig,
)

from vqa_lightning.families.base import Family
from vqa_lightning.families.embedded import (
    EmbeddedSizes,
    build_tokenizer,
    build_video_processor,
    decoder_sizes,
    tower_sizes,
    whiten,
)


class LlavaOnevision(Family):
    """LLaVA-OneVision (Li et al. 2024)."""

    model_type = "llava_onevision"
    video = "<video>"
    model: LlavaOnevisionForConditionalGeneration
    processor: LlavaOnevisionProcessor

    @classmethod
    def embedded(cls, sizes: EmbeddedSizes, texts: Iterable[str]) -> "LlavaOnevision":
        """Build the family tiny; its patch filters start from whitened cosines."""
        tokenizer = build_tokenizer(texts)
        processor = LlavaOnevisionProcessor(  # type: ignore[no-untyped-call]
            image_processor=LlavaOnevisionImageProcessor(
                size={"height": sizes.image_size, "width": sizes.image_size}
            ),
            tokenizer=tokenizer,
            video_processor=build_video_processor(sizes.image_size),
            num_image_tokens=(sizes.image_size // sizes.patch_size) ** 2,
        )
        config = LlavaOnevisionConfig(
            vision_config=SiglipVisionConfig(**tower_sizes(sizes), vision_use_head=False),
            text_config=Qwen2Config(**decoder_sizes(len(tokenizer), sizes)),
            image_token_index=tokenizer.vocab["<image>"],
            video_token_index=tokenizer.vocab["<video>"],
            image_grid_pinpoints=[[sizes.image_size, sizes.image_size]],
            tie_word_embeddings=True,
        )
        model = LlavaOnevisionForConditionalGeneration(config)
        whiten(model.model.vision_tower.embeddings.patch_embedding.weight, sizes)
        return cls(model, processor)

    @property
    def unreached(self) -> Sequence[nn.Module]:
        """The features are those before the tower's last normalisation."""
        return (self.tower.post_layernorm,)  # type: ignore[return-value]

    @property
    def visual_ids(self) -> Set[int]:
        """The placeholder of a video."""
        return {self.model.config.video_token_index}

    def features(self, frames: Tensor) -> tuple[Tensor, None]:
        """Return all pictures' pooled patches, then the token that ends the video."""
        pixels = self.normalise(frames)
        return cast(Tensor, self.model.model.get_video_features(pixels).pooler_output), None
