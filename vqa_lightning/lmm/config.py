"""Which large multimodal model: a published checkpoint, or the embedded model."""

from dataclasses import dataclass
from typing import Literal

from datamodules.video.views import View
from vqa_lightning.families.embedded import EmbeddedSizes
from vqa_lightning.lmm.motion import Motion


@dataclass(frozen=True)
class LMMConfig:
    """Which LMM: a published checkpoint by name or folder, or the embedded model.

    Args:
        pretrained: name or folder of a checkpoint of any family that `vqa-lightning list` shows; null: the
            embedded model.
        prompt: the checkpoint's own chat template, or the paper's Qwen chat format.
        view: what the tower sees of a frame: the whole frame resized, its middle in native pixels (crop), a
            grid of native patches (fragments), or resize and fragments both. By default the embedded model
            crops and a published model resizes.
        motion: add a token a segment from all frames of the segment, made of fixed frame differences or by a
            torchvision video backbone; the tower then sees the first frame of a segment only.
        motion_weights: weights of the video backbone: a torchvision name such as KINETICS400_V1, or a file;
            null: random.
        motion_trained: train the video backbone too, not only its projector.
        checkpointing: compute activations again in the backward pass to save memory; by default for published
            models only.
        feature_cache: folder in which the features of a frozen tower are kept from one epoch to the next;
            null: nowhere.
        feature_cache_gb: gigabytes beyond which nothing is added to the feature cache.
        embedded: family and sizes of the embedded model.
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
    embedded: EmbeddedSizes = EmbeddedSizes()  # noqa: RUF009 - frozen
