"""Which large multimodal model: a published checkpoint, or the embedded one and its sizes."""

from dataclasses import dataclass
from typing import Literal

from datamodules.video.views import View
from vqa_lightning.families import FAMILIES, InputError
from vqa_lightning.families.embedded import EmbeddedSizes
from vqa_lightning.lmm.motion import Motion


@dataclass(frozen=True)
class LMMConfig:
    """Which LMM: a published checkpoint by name or folder, or the embedded one of these sizes.

    Args:
        pretrained: name or folder of a checkpoint of any family that `vqa-lightning list` shows; the sizes
            below then do not apply.
        prompt: the checkpoint's own chat template, or the paper's Qwen chat format.
        view: what the tower sees of a frame: all of it resized, its middle in native pixels, a grid of native
            patches (fragments), or resize and fragments both. By default the embedded model crops and a
            published one resizes.
        motion: adds a token a segment from all of its frames, the tower then seeing the first only: from
            fixed frame differences, or from a torchvision video backbone.
        motion_weights: the backbone's: a torchvision name such as KINETICS400_V1, or a file; null: random.
        motion_trained: trains the backbone too, not only its projector.
        checkpointing: recomputes activations in the backward pass to save memory; by default for published
            models only.
        feature_cache: folder in which the features of a frozen tower are kept from one epoch to the next;
            null: nowhere.
        feature_cache_gb: gigabytes beyond which nothing is added to it.
        family: of the embedded model.
        image_size: side of the square that the embedded tower sees, in pixels.
        patch_size: side of the embedded tower's patches, in pixels.
        hidden_size: width of the embedded tower and language model.
        vision_layers: depth of the embedded tower.
        text_layers: depth of the embedded language model.
    """

    pretrained: str | None = None
    prompt: Literal["checkpoint", "paper"] = "checkpoint"
    view: View | None = None
    motion: Motion | None = None
    motion_weights: str | None = None
    motion_trained: bool = False
    checkpointing: bool | None = None
    feature_cache: str | None = None
    feature_cache_gb: float = 100.0
    family: str = "llava_onevision"
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
        if self.family not in FAMILIES:
            raise InputError(
                f"model.lmm.family {self.family!r} is unknown: choose one of {', '.join(FAMILIES)}."
            )

    @property
    def sizes(self) -> EmbeddedSizes:
        """Of the embedded model."""
        return EmbeddedSizes(
            self.image_size, self.patch_size, self.hidden_size, self.vision_layers, self.text_layers
        )
