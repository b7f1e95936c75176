"""The large multimodal model behind both judgements.

Pairwise: two clips in one prompt, and the logits of the five level words at the answer position, never
    generated text.
Pointwise: a scalar from the hidden state at the last token of the first clip, which in a causal model has
    seen nothing
but the prompt's opening and that clip. Each clip passes the vision tower once, however many prompts it
appears in.
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as transforms
from transformers import (
    AutoConfig,
    AutoTokenizer,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerBase,
)

from datamodules.errors import InputError
from datamodules.levels import LEVELS
from vqa_lightning.embedded import build_model, build_tokenizer, build_video_processor
from vqa_lightning.motion import MotionPath

# METHOD section 4, cut where the two clips stand; the answer's opening ends before the level word.
PROMPT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    "Now you will receive two videos. The first video: ",
    ". The second video: ",
    ". Please watch these videos carefully, and then answer the following question: "
    "Comparing with the first video, how do you assess the quality of the second video?<|im_end|>\n"
    "<|im_start|>assistant\nThe quality of the second video is",
)


@dataclass(frozen=True)
class LMMConfig:
    """Which LMM: a published checkpoint by name or folder, or the embedded one of these sizes.

    Args:
        pretrained: name or folder of a LLaVA-OneVision checkpoint for `from_pretrained`; the sizes below
            then do not apply.
        view: whether a window is resized to the tower's square or cropped to it at native resolution.
        image_size: side of the square that the embedded tower sees, in pixels.
        motion: adds a token a segment of what changes between its frames; the tower then sees the segment's
            first frame only.
        patch_size: side of the embedded tower's patches, in pixels.
        hidden_size: width of the embedded tower and language model.
        vision_layers: depth of the embedded tower.
        text_layers: depth of the embedded language model.
    """

    pretrained: str | None = None
    view: Literal["resize", "crop"] = "resize"
    motion: bool = False
    image_size: int = 64
    patch_size: int = 8
    hidden_size: int = 128
    vision_layers: int = 3
    text_layers: int = 3

    def __post_init__(self) -> None:
        """Checks the embedded sizes against each other."""
        if self.image_size % self.patch_size:
            raise InputError(
                f"model.lmm.image_size {self.image_size} is not a multiple of "
                f"patch_size {self.patch_size}: change either."
            )
        if self.hidden_size % 32:
            raise InputError(
                f"model.lmm.hidden_size {self.hidden_size} is not a multiple of 32: choose one that is."
            )


def _load(
    name: str,
) -> tuple[LlavaOnevisionForConditionalGeneration, PreTrainedTokenizerBase, LlavaOnevisionVideoProcessor]:
    try:
        config = AutoConfig.from_pretrained(name)
        if config.model_type != "llava_onevision":
            raise InputError(
                f"model.lmm.pretrained {name!r} is a {config.model_type} model: "
                "name a LLaVA-OneVision checkpoint."
            )
        model = LlavaOnevisionForConditionalGeneration.from_pretrained(name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(name)
        processor = LlavaOnevisionVideoProcessor.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"model.lmm.pretrained {name!r} cannot be loaded ({reason}): "
            "name a folder or a published checkpoint."
        ) from error
    return model, tokenizer, processor


class LMM(nn.Module):
    """A LLaVA-OneVision that compares two clips and scores one.

    Args:
        config: which checkpoint, or the sizes of the embedded model.
        frames: consecutive frames in each segment of the clips.

    Raises:
        InputError: the checkpoint is missing, of another family, or its level words share a first token.
    """

    answer_ids: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, config: LMMConfig, frames: int) -> None:
        super().__init__()
        if config.motion and frames < 2:
            raise InputError(
                f"model.lmm.motion needs 2 or more frames a segment: model.sampling.frames is {frames}."
            )
        if config.pretrained is None:
            embedded = build_tokenizer((*PROMPT, *LEVELS))
            tokenizer: PreTrainedTokenizerBase = embedded
            self.model = build_model(
                embedded,
                image_size=config.image_size,
                patch_size=config.patch_size,
                hidden_size=config.hidden_size,
                vision_layers=config.vision_layers,
                text_layers=config.text_layers,
            )
            processor = build_video_processor(config.image_size)
        else:
            self.model, tokenizer, processor = _load(config.pretrained)
            self.model.train()  # transformers loads in eval mode, and Lightning keeps the mode it finds
        sizes = self.model.config.to_dict()
        # The features are those before the tower's last normalisation: a gradient never reaches that.
        self.model.model.vision_tower.post_layernorm.requires_grad_(False)
        self.view = config.view
        self.image_size = int(sizes["vision_config"]["image_size"])
        width = int(sizes["text_config"]["hidden_size"])
        self.score_head = nn.Linear(width, 1)
        self.motion = MotionPath(frames, width) if config.motion else None
        nn.init.zeros_(self.score_head.bias)
        words = [tokenizer(f" {level}", add_special_tokens=False).input_ids[0] for level in LEVELS]
        if len(set(words)) != len(LEVELS):
            raise InputError(
                f"the tokenizer of {config.pretrained!r} gives two level words the same first "
                "token: choose another model."
            )
        self.register_buffer("answer_ids", torch.tensor(words), persistent=False)
        for index, text in enumerate(PROMPT):
            ids = torch.tensor(tokenizer(text, add_special_tokens=False).input_ids)
            self.register_buffer(f"prompt_{index}", ids, persistent=False)
        self.register_buffer("mean", torch.tensor(processor.image_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(processor.image_std).view(3, 1, 1), persistent=False)

    def encode(self, clips: Tensor) -> Tensor:
        """Turns clips into the language model's tokens.

        Args:
            clips: (B, T, 3, H, W) in [0, 1]; brought to the tower's square by the view.

        Returns:
            Embeddings (B, L, D): the frames' pooled patches in order of time, a newline, motion tokens.
        """
        tokens = self._see(clips if self.motion is None else clips[:, :: self.motion.frames])
        return tokens if self.motion is None else torch.cat([tokens, self.motion(clips)], dim=1)

    def _see(self, clips: Tensor) -> Tensor:
        size = [self.image_size, self.image_size]
        if self.view == "crop":
            clips = transforms.center_crop(clips, size)
        elif list(clips.shape[-2:]) != size:
            clips = transforms.resize(
                clips, size, interpolation=transforms.InterpolationMode.BICUBIC, antialias=True
            ).clamp(0, 1)
        return cast(Tensor, self.model.get_video_features((clips - self.mean) / self.std).pooler_output)

    def _text(self, index: int, batch: int) -> Tensor:
        embedded = self.model.get_input_embeddings()(self.get_buffer(f"prompt_{index}"))
        return cast(Tensor, embedded.expand(batch, -1, -1))

    def _hidden(self, *parts: Tensor) -> Tensor:
        output = self.model.model.language_model(inputs_embeds=torch.cat(parts, dim=1), use_cache=False)
        return cast(Tensor, output.last_hidden_state)

    def compare(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Judges pairs of encoded clips.

        Args:
            first: tokens (B, L, D) of the first clips, from `encode`.
            second: tokens (B, L, D) of the second clips.

        Returns:
            Logits (B, 5) of the level words, inferior first, and pointwise scores (B,) of the first clips.
        """
        batch = len(first)
        opening = self._text(0, batch)
        hidden = self._hidden(opening, first, self._text(1, batch), second, self._text(2, batch))
        words = self.model.lm_head.weight[self.answer_ids]
        last_of_first = opening.shape[1] + first.shape[1] - 1
        return hidden[:, -1] @ words.T, self.score_head(hidden[:, last_of_first])[:, 0]

    def score(self, clips: Tensor) -> Tensor:
        """Pointwise scores (B,) of encoded clips (B, L, D), unbounded, higher better."""
        return cast(Tensor, self.score_head(self._hidden(self._text(0, len(clips)), clips)[:, -1])[:, 0])
