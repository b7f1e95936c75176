"""Qwen3-VL: frames at their own aspect ratio within a pixel budget, two to a visual token, and DeepStack.

Features of earlier tower layers enter the first layers of the language model too, and rotary positions count
time, rows and columns apart. Both belong to a clip's own tokens, so that clips of any sizes share a batch.
"""

from collections.abc import Iterable, Sequence, Set
from itertools import groupby
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import (
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLTextConfig,
    Qwen3VLVideoProcessor,
    Qwen3VLVisionConfig,
)

from vqa_lightning.families.base import Family, timed
from vqa_lightning.families.embedded import (
    CHAT_TEMPLATE,
    HALF,
    EmbeddedSizes,
    build_tokenizer,
    decoder_sizes,
    whiten,
)
from vqa_lightning.families.tokens import Tokens


class Qwen3VL(Family):
    """Qwen3-VL (Bai et al. 2025)."""

    model_type = "qwen3_vl"
    tower_path = "model.visual"  # the projectors lie inside it
    video = "<|video_pad|>"
    model: Qwen3VLForConditionalGeneration

    @classmethod
    def embedded(cls, sizes: EmbeddedSizes, texts: Iterable[str]) -> "Qwen3VL":
        """Build the family tiny; its patch filters start from whitened cosines, shared by both frames."""
        tokenizer = build_tokenizer(
            (*texts, "<0123456789. seconds>"),
            ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
        )
        settings: dict[str, Any] = {
            "patch_size": sizes.patch_size,
            # The budget counts the pixels of all frames together: here sixteen squares.
            "size": {"shortest_edge": sizes.image_size**2, "longest_edge": 16 * sizes.image_size**2},
            **HALF,
        }
        processor = Qwen3VLProcessor(  # type: ignore[no-untyped-call]
            image_processor=Qwen2VLImageProcessor(**settings),
            tokenizer=tokenizer,
            video_processor=Qwen3VLVideoProcessor(**settings, cap_pixels_per_frame=False),
            chat_template=CHAT_TEMPLATE,
        )
        vision = Qwen3VLVisionConfig(
            hidden_size=sizes.hidden_size,
            intermediate_size=4 * sizes.hidden_size,
            depth=sizes.vision_layers,
            num_heads=sizes.hidden_size // 32,
            patch_size=sizes.patch_size,
            initializer_range=sizes.hidden_size**-0.5,
            out_hidden_size=sizes.hidden_size,
            num_position_embeddings=(sizes.image_size // sizes.patch_size) ** 2,
            deepstack_visual_indexes=list(range(min(3, sizes.vision_layers, sizes.text_layers))),
        )
        text = Qwen3VLTextConfig(
            **decoder_sizes(len(tokenizer), sizes),
            head_dim=32,
            # Half of a head's 32 channels, shared between time, rows and columns.
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
        )
        config = Qwen3VLConfig(
            vision_config=vision,
            text_config=text,
            image_token_id=tokenizer.vocab["<|image_pad|>"],
            video_token_id=tokenizer.vocab["<|video_pad|>"],
            vision_start_token_id=tokenizer.vocab["<|vision_start|>"],
            vision_end_token_id=tokenizer.vocab["<|vision_end|>"],
            tie_word_embeddings=True,
        )
        model = Qwen3VLForConditionalGeneration(config)
        whiten(model.model.visual.patch_embed.proj.weight, sizes)
        return cls(model, processor)

    @property
    def projector(self) -> nn.Module:
        """The merger of the last layer's patches, and those of the layers that feed DeepStack."""
        visual = self.model.model.visual
        return nn.ModuleList([visual.merger, visual.deepstack_merger_list])

    @property
    def visual_ids(self) -> Set[int]:
        """The placeholder of a video."""
        return {self.model.config.video_token_id}

    @property
    def delimiters(self) -> Set[int]:
        """What opens and closes the tokens of two frames."""
        return {self.model.config.vision_start_token_id, self.model.config.vision_end_token_id}

    @property
    def merged_frames(self) -> int:
        """Two, as published."""
        return cast(int, self.video_processor.temporal_patch_size)

    def size_for(self, height: int, width: int, frames: int) -> tuple[int, int]:
        """Return the nearest multiples of two patches whose frames together stay within the budget."""
        processor = self.video_processor
        shown = processor.resize(
            # The processor's own arithmetic on no pixels at all; one frame alone it refuses, and is doubled.
            torch.empty(1, max(frames, processor.temporal_patch_size), 3, height, width, device="meta"),
            size=processor.size,
            resample=processor.resample,
            factor=processor.patch_size * processor.merge_size,
            temporal_factor=processor.temporal_patch_size,
            cap_pixels_per_frame=processor.cap_pixels_per_frame,
        )
        return int(shown.shape[-2]), int(shown.shape[-1])

    def video_inputs(self, seconds: Sequence[float], size: tuple[int, int]) -> dict[str, Any]:
        """Return the grid of patches, two frames to a patch, and the times of the frames."""
        processor = self.video_processor
        frames = -(-len(seconds) // processor.temporal_patch_size)
        rows, columns = (side // processor.patch_size for side in size)
        grid = torch.tensor([[frames, rows, columns]], device="cpu")
        return {"video_grid_thw": grid, "video_metadata": [timed(seconds)]}

    def features(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return merged patches of every two frames, an odd last frame standing twice."""
        processor = self.video_processor
        patches, *grid = processor.patchify(
            self.normalise(frames).contiguous(),
            patch_size=processor.patch_size,
            merge_size=processor.merge_size,
            temporal_patch_size=processor.temporal_patch_size,
        )
        batch = len(frames)
        grids = torch.tensor([grid], device=frames.device).expand(batch, -1)
        seen = self.model.model.visual(patches.flatten(0, 1), grid_thw=grids)
        deep = torch.stack(seen.deepstack_features, dim=1)
        return seen.pooler_output.view(batch, -1, deep.shape[-1]), deep.view(batch, -1, *deep.shape[1:])

    def positions(self, ids: Sequence[int], size: tuple[int, int]) -> tuple[Tensor, int]:
        """Count text on all three axes, and a picture's rows and columns from its first token's place."""
        merged = self.video_processor.patch_size * self.video_processor.merge_size
        rows, columns = (side // merged for side in size)
        picture = torch.cartesian_prod(torch.arange(1), torch.arange(rows), torch.arange(columns))
        start, placed = 0, []
        for visual, run in groupby(ids, self.visual_ids.__contains__):
            if visual:
                placed.append(start + picture)
                start += max(rows, columns)
            else:
                length = len(list(run))
                placed.append(start + torch.arange(length)[:, None].expand(-1, 3))
                start += length
        return torch.cat(placed), start

    def position_inputs(self, tokens: Tokens) -> dict[str, Any]:
        """Return rotary positions, and deep features for every place, which are zero where there is text."""
        extra: dict[str, Any] = {}
        if tokens.positions is not None:
            extra["position_ids"] = tokens.positions.permute(2, 0, 1)
        if tokens.deep is not None:
            batch, length = tokens.embeddings.shape[:2]
            extra["visual_pos_masks"] = torch.ones(
                batch, length, dtype=torch.bool, device=tokens.embeddings.device
            )
            extra["deepstack_visual_embeds"] = tokens.deep.flatten(0, 1).unbind(1)
        return extra
