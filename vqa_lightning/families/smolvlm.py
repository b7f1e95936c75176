"""SmolVLM2, the smallest family: SigLIP, a pixel shuffle and one linear layer, SmolLM2.

Every frame is an image of its own with its time written before it. The frames are squashed to the tower's
square in two steps, as the family's processor does it: first to the longest edge, then to the square.
"""

from collections.abc import Iterable, Sequence, Set
from typing import Any, cast

import torch
from torch import Tensor, nn
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

from vqa_lightning.families.base import Family, timed
from vqa_lightning.families.embedded import (
    EmbeddedSizes,
    build_tokenizer,
    decoder_sizes,
    shuffled_grid,
    whitened_cosines,
)

CHAT_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}: "
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


class SmolVLM(Family):
    """SmolVLM2 (Marafioti et al. 2025)."""

    model_type = "smolvlm"
    video = "<video>"
    model: SmolVLMForConditionalGeneration
    processor: SmolVLMProcessor

    @classmethod
    def embedded(cls, sizes: EmbeddedSizes, texts: Iterable[str]) -> "SmolVLM":
        """The family built tiny; its patch filters start from whitened cosines.

        Raises:
            InputError: the patches along a side are odd in number.
        """
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
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        }
        processor = SmolVLMProcessor(
            image_processor=SmolVLMImageProcessor(**settings),
            tokenizer=tokenizer,
            video_processor=SmolVLMVideoProcessor(**settings),
            image_seq_len=shuffled_grid(sizes) ** 2,
            chat_template=CHAT_TEMPLATE,
        )
        vision = SmolVLMVisionConfig(
            hidden_size=sizes.hidden_size,
            intermediate_size=4 * sizes.hidden_size,
            num_hidden_layers=sizes.vision_layers,
            num_attention_heads=sizes.hidden_size // 32,
            image_size=sizes.image_size,
            patch_size=sizes.patch_size,
            initializer_range=sizes.hidden_size**-0.5,
        )
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
        filters = whitened_cosines(sizes.patch_size, sizes.hidden_size)
        with torch.no_grad():
            model.model.vision_model.embeddings.patch_embedding.weight[: len(filters)] = filters
        return cls(model, processor)

    @property
    def tower(self) -> nn.Module:
        """SigLIP."""
        return cast(nn.Module, self.model.model.vision_model)

    @property
    def projector(self) -> nn.Module:
        """The pixel shuffle and its linear layer."""
        return cast(nn.Module, self.model.model.connector)

    @property
    def language_model(self) -> nn.Module:
        """SmolLM2."""
        return cast(nn.Module, self.model.model.text_model)

    @property
    def visual_ids(self) -> Set[int]:
        """The placeholder of an image, frames being images."""
        return {self.model.config.image_token_id}

    @property
    def delimiters(self) -> Set[int]:
        """What opens and closes an image."""
        marks = (self.processor.fake_image_token, self.processor.global_image_token)
        return {cast(int, self.tokenizer.convert_tokens_to_ids(mark)) for mark in marks}

    def size_for(self, height: int, width: int, frames: int) -> tuple[int, int]:
        """The tower's square, whatever the frame."""
        side = self.video_processor.max_image_size["longest_edge"]
        return side, side

    def resize(self, clips: Tensor, size: tuple[int, int]) -> Tensor:
        """To the longest edge with the aspect kept, then to the square, as the family's processor does.

        Checkpoints ask for Lanczos; the bicubic stands for it on every device, so that a model trained on a
        GPU sees the same pixels on a CPU.
        """
        kept = get_resize_output_image_size(clips, self.video_processor.size["longest_edge"])
        resize = super().resize
        # One clip at a time: the longest edge of the 256M and 500M checkpoints is 2048 pixels.
        return torch.stack([resize(resize(clip, kept), size) for clip in clips])

    def video_text(self, seconds: Sequence[float], size: tuple[int, int]) -> str:
        """How many frames in how long a video, then each frame's time and visual tokens."""
        inputs = {
            "pixel_values": torch.empty(1, len(seconds), device="meta"),
            "video_metadata": [timed(seconds)],
        }
        return self.processor.replace_video_token(inputs, 0)

    def features(self, frames: Tensor) -> tuple[Tensor, None]:
        """Each frame's shuffled patches, in order of time."""
        # Not by get_image_features, which takes a frame of zeros (after normalising: mid-grey) for padding.
        seen = self.tower(self.normalise(frames).flatten(0, 1)).last_hidden_state
        return self.projector(seen).unflatten(0, frames.shape[:2]).flatten(1, 2), None
