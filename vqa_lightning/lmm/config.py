"""Which large multimodal model: a published checkpoint, or the embedded model."""

from dataclasses import dataclass
from typing import Literal

from datamodules.checks import check_that
from datamodules.video.views import View
from vqa_lightning.families.embedded import EmbeddedSizes
from vqa_lightning.lmm.motion import Motion
from vqa_lightning.lmm.quality_tower import QualityTowerName


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
            video backbone, slowfast_r50_fast in the paper; the tower then sees the first frame of a segment
            only.
        motion_weights: weights of the video backbone: KINETICS400_V1, which is downloaded, or a file; null:
            random.
        motion_trained: train the video backbone too, not only its projector.
        quality_tower: add a token a segment from two of its frames in native pixels, made by the early
            stages of a network that was pretrained on photographs and stays frozen.
        pictures: show clips to the family's own tower; without it a clip is its quality and motion tokens.
        checkpointing: compute activations again in the backward pass to save memory; by default for published
            models only.
        feature_cache: where the features of frozen towers are kept from one epoch to the next: a folder;
            memory, for those of the quality tower, and without pictures for all that is known of a clip,
            which then is not even read again; null: nowhere.
        feature_cache_gb: gigabytes beyond which nothing is added to the folder, and the features that were
            not asked for longest leave the memory.
        embedded: family and sizes of the embedded model.

    Raises:
        InputError: a clip would have no tokens.
    """

    pretrained: str | None = None
    prompt: Literal["checkpoint", "paper"] = "checkpoint"
    view: View | None = None
    motion: Motion | None = None
    motion_weights: str | None = None
    motion_trained: bool = False
    quality_tower: QualityTowerName | None = None
    pictures: bool = True
    checkpointing: bool | None = None
    feature_cache: str | None = None
    feature_cache_gb: float = 100.0
    embedded: EmbeddedSizes = EmbeddedSizes()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        """Check that something of a clip is shown."""
        shown = self.pictures or self.motion is not None or self.quality_tower is not None
        must_be = "true where model.lmm.motion and model.lmm.quality_tower are null"
        check_that(shown, "model.lmm.pictures", must_be, self.pictures)
