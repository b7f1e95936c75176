"""SmolVLM2, the smallest family: SigLIP, a pixel shuffle and one linear layer, SmolLM2.

Every frame is an image of its own with its time written before it. The frames are squashed to the tower's
square in two steps, as the family's processor does it: first to the longest edge, then to the square.
"""

from collections.abc import Iterable, Sequence, Set
from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    LlamaConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
    SmolVLMVisionConfig,
)
from transformers.models.smolvlm.processing_smolvlm import DEFAULT_VIDEO_INTRO, FRAME_TIMESTAMP_MESSAGE
from transformers.models.smolvlm.video_processing_smolvlm import get_resize_output_image_size

from vqa_lightning.families.base import timed
from vqa_lightning.families.embedded import (
    HALF,
    EmbeddedSizes,
    build_tokenizer,
    decoder_sizes,
    tower_sizes,
    whiten,
)
from vqa_lightning.families.shuffled import ShuffledFamily, shuffled_tokens

CHAT_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}: "
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


class SmolVLM(ShuffledFamily):
    """SmolVLM2 (Marafioti et al. 2025)."""

    model_type = "smolvlm"
    tower_path = "model.vision_model"
    projector_path = "model.connector"
    decoder_path = "model.text_model"
    model: SmolVLMForConditionalGeneration
    processor: SmolVLMProcessor

    @classmethod
    def embedded(cls, sizes: EmbeddedSizes, texts: Iterable[str]) -> "SmolVLM":
        """Build the family tiny; its patch filters start from whitened cosines."""
        tokenizer = build_tokenizer(
            (
                *texts,
                DEFAULT_VIDEO_INTRO,
                f"{FRAME_TIMESTAMP_MESSAGE} 0123456789",
                "System: User: Assistant:",
            ),
            ("<fake_token_around_image>", "<global-img>", "<image>", "<video>", "<end_of_utterance>"),
        )
        settings: dict[str, Any] = {
            "size": {"longest_edge": sizes.image_size},
            "max_image_size": {"longest_edge": sizes.image_size},
            **HALF,
        }
        processor = SmolVLMProcessor(
            image_processor=SmolVLMImageProcessor(**settings),
            tokenizer=tokenizer,
            video_processor=SmolVLMVideoProcessor(**settings),
            image_seq_len=shuffled_tokens(sizes),
            chat_template=CHAT_TEMPLATE,
        )
        vision = SmolVLMVisionConfig(**tower_sizes(sizes), initializer_range=sizes.hidden_size**-0.5)
        config = SmolVLMConfig(
            vision_config=vision,
            text_config=LlamaConfig(
                **decoder_sizes(len(tokenizer), sizes), pad_token_id=tokenizer.pad_token_id
            ),
            image_token_id=tokenizer.vocab["<image>"],
            scale_factor=2,
            tie_word_embeddings=True,
        )
        model = SmolVLMForConditionalGeneration(config)
        whiten(model.model.vision_model.embeddings.patch_embedding.weight, sizes)
        return cls(model, processor)

    @property
    def delimiters(self) -> Set[int]:
        """What opens and closes an image."""
        marks = (self.processor.fake_image_token, self.processor.global_image_token)
        return {cast(int, self.tokenizer.convert_tokens_to_ids(mark)) for mark in marks}

    def size_for(self, height: int, width: int, frames: int) -> tuple[int, int]:
        """Return the tower's square, whatever the frame."""
        side = self.video_processor.max_image_size["longest_edge"]
        return side, side

    def resize(self, clips: Tensor, size: tuple[int, int]) -> Tensor:
        """Resize to the longest edge with the aspect kept, then to the square, as the processor does.

        Checkpoints ask for Lanczos; the bicubic stands for it on every device, so that a model trained on a
        GPU sees the same pixels on a CPU.
        """
        kept = get_resize_output_image_size(clips, self.video_processor.size["longest_edge"])
        resize = super().resize
        # One clip at a time: the longest edge of the 256M and 500M checkpoints is 2048 pixels.
        return torch.stack([resize(resize(clip, kept), size) for clip in clips])

    def video_inputs(self, seconds: Sequence[float], size: tuple[int, int]) -> dict[str, Any]:
        """Return pictures, the form in which the processor takes frames, and their times."""
        frames = torch.empty(1, len(seconds), device="meta")
        return {"pixel_values": frames, "video_metadata": [timed(seconds)]}

    def see(self, pictures: Tensor) -> Tensor:
        """Return what tower and projector give.

        Not `get_image_features`, which takes a frame of zeros (after normalising: mid-grey) for padding.
        """
        return cast(Tensor, self.projector(self.tower(pictures).last_hidden_state))
