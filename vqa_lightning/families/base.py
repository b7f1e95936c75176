"""What the LMM asks of a family of multimodal models, whatever its tower and its language model are.

A family works on the transformers model as it is: it shows frames to the tower as device tensors, writes what
its own processor would write for a video, and says where in the sequence the features stand. No processor
runs on pixels, and nothing is generated.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence, Set
from inspect import signature
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as transforms
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin
from transformers.image_utils import PILImageResampling
from transformers.video_utils import VideoMetadata

from datamodules.devices import for_device
from vqa_lightning.families.embedded import EmbeddedSizes
from vqa_lightning.families.tokens import Tokens

INTERPOLATIONS = {
    PILImageResampling.BILINEAR: transforms.InterpolationMode.BILINEAR,
    PILImageResampling.BICUBIC: transforms.InterpolationMode.BICUBIC,
    # Tensors on a GPU have no Lanczos: transformers' own processors take the bicubic there too.
    PILImageResampling.LANCZOS: transforms.InterpolationMode.BICUBIC,
}


def timed(seconds: Sequence[float]) -> VideoMetadata:
    """Return what a processor is told of a video whose frames stand at these times."""
    # At one frame a second an index is a time, fractions included.
    return VideoMetadata(len(seconds), fps=1.0, frames_indices=cast(list[int], list(seconds)))


class NoCache(DynamicCache):
    """A cache that keeps nothing.

    Where there is no cache, transformers reads from the positions in every pass whether several sequences are
    packed in one, and makes the host wait for the device.
    """

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Return keys and values as they are given."""
        return key_states, value_states


class Family(ABC):
    """One model of a family with its tokenizer and the settings of its processor.

    Args:
        model: as `from_pretrained` gives it; its modules belong to whoever calls.
        processor: the family's own; used for its settings, tokenizer and chat template, never on pixels.
    """

    model_type: ClassVar[str]
    """As in the checkpoint's config.json."""
    video: ClassVar[str]
    """What stands for a video in the text that the chat template is given."""
    tower_path: ClassVar[str] = "model.vision_tower"
    projector_path: ClassVar[str] = "model.multi_modal_projector"
    decoder_path: ClassVar[str] = "model.language_model"
    model: PreTrainedModel
    processor: ProcessorMixin

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin) -> None:
        self.model = model
        self.processor = processor

    @classmethod
    @abstractmethod
    def embedded(cls, sizes: EmbeddedSizes, texts: Iterable[str]) -> "Family":
        """Build the family tiny from its config; weights follow from torch's global generator.

        Args:
            sizes: of tower and language model.
            texts: all that will ever be said to it.

        Raises:
            InputError: the sizes do not suit the family.
        """

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Of the language model."""
        return cast(PreTrainedTokenizerBase, self.processor.tokenizer)

    @property
    def video_processor(self) -> Any:
        """The processor's part for frames: sizes, interpolation, mean and deviation."""
        return self.processor.video_processor

    @property
    def tower(self) -> nn.Module:
        """The vision tower, inside the model."""
        return self.model.get_submodule(self.tower_path)

    @property
    def projector(self) -> nn.Module:
        """What maps the tower's features to the language model's width, inside the model."""
        return self.model.get_submodule(self.projector_path)

    @property
    def language_model(self) -> nn.Module:
        """The decoder without its head, inside the model."""
        return self.model.get_submodule(self.decoder_path)

    @property
    def head(self) -> nn.Linear:
        """From hidden states to the vocabulary."""
        return cast(nn.Linear, self.model.lm_head)

    @property
    def unreached(self) -> Sequence[nn.Module]:
        """Modules that video features never pass: no gradient reaches them."""
        return ()

    @property
    @abstractmethod
    def visual_ids(self) -> Set[int]:
        """Token ids whose embeddings are replaced by features, in order."""

    @property
    def delimiters(self) -> Set[int]:
        """Token ids that open or close a run of visual tokens."""
        return frozenset()

    def around(self, block: list[int]) -> tuple[list[int], list[int]]:
        """Return of a video's tokens those that open and close it, without pictures and what is between."""
        visual = [place for place, token in enumerate(block) if token in self.visual_ids]
        return block[: visual[0]], block[visual[-1] + 1 :]

    @property
    def merged_frames(self) -> int:
        """Consecutive pictures that the tower makes one of."""
        return 1

    @property
    def patch(self) -> int:
        """Side of the tower's patches in pixels."""
        return cast(int, self.model.config.vision_config.patch_size)

    def size_for(self, height: int, width: int, frames: int) -> tuple[int, int]:
        """Return height and width at which the family's processor shows frames of this size, in pixels.

        That is the tower's square for every frame, where a family does not keep the aspect ratio.
        """
        size = self.video_processor.size
        return size["height"], size["width"]

    def resize(self, clips: Tensor, size: tuple[int, int]) -> Tensor:
        """Bring clips (N, T, 3, H, W) in [0, 1] to a size by the family's own interpolation.

        Columns first and then rows, rounded and clipped after each, as processors resize bytes. In one pass
        over both, edges overshoot differently: hard edges came out up to 18 of 255 levels apart.
        """
        if tuple(clips.shape[-2:]) == size:
            return clips
        mode = INTERPOLATIONS[PILImageResampling(self.video_processor.resample)]
        clips = clips * 255
        for passed in ([clips.shape[-2], size[1]], list(size)):
            clips = transforms.resize(clips, passed, interpolation=mode, antialias=True).round().clamp(0, 255)
        return clips / 255

    def video_text(self, seconds: Sequence[float], size: tuple[int, int]) -> str:
        """Return what the family's processor writes for a video.

        Args:
            seconds: time of each picture.
            size: height and width of the pictures as the tower sees them.
        """
        return self.processor.replace_video_token(self.video_inputs(seconds, size), 0)

    def video_inputs(self, seconds: Sequence[float], size: tuple[int, int]) -> dict[str, Any]:
        """Return what the processor reads of a video to write its text; the arguments are `video_text`'s."""
        return {"pixel_values_videos": torch.empty(1, len(seconds), device="meta")}

    def normalise(self, frames: Tensor) -> Tensor:
        """Return frames (..., 3, h, w) in [0, 1] as the tower was trained to see them, in its precision."""
        mean, std = (
            for_device(torch.tensor(values), frames.device)[:, None, None]
            for values in (self.video_processor.image_mean, self.video_processor.image_std)
        )
        weight = next(self.tower.parameters())
        return ((frames - mean) / std).to(weight.dtype)

    @abstractmethod
    def features(self, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """Show frames to the tower.

        Args:
            frames: (B, T, 3, h, w) in [0, 1], of a size that `size_for` or a view gives.

        Returns:
            Features (B, V, D) in the order of the V visual tokens that `video_text` writes, and those for
            deeper layers (B, V, layers, D) where the family has them.
        """

    def positions(self, ids: Sequence[int], size: tuple[int, int]) -> tuple[Tensor, int] | None:
        """Return rotary positions of the tokens of one video, from its own start.

        Args:
            ids: the L tokens that stand for the video.
            size: height and width of the pictures.

        Returns:
            Positions (L, 3) in time, height and width, and by how much they advance; None where they count.
        """
        return None

    def hidden(self, tokens: Tokens, cache: DynamicCache | None = None) -> Tensor:
        """Return the language model's last hidden states (B, L, D).

        Args:
            tokens: of the prompts; what follows the prompts' beginnings where a cache holds those.
            cache: is read, and has the tokens' own keys and values added.
        """
        # Transformers 5.24 renamed it.
        name = "cache" if "cache" in signature(self.language_model.forward).parameters else "past_key_values"
        kept: dict[str, Any] = {"use_cache": cache is not None, name: NoCache() if cache is None else cache}
        inputs = self.position_inputs(tokens)
        output = self.language_model(inputs_embeds=tokens.embeddings, **kept, **inputs)
        return cast(Tensor, output.last_hidden_state)

    def position_inputs(self, tokens: Tokens) -> dict[str, Any]:
        """Return what the language model is told of tokens besides embeddings."""
        return {}
