"""What looks at clips and is never trained, by itself: it can look before there is a model.

Full-reference metrics read and encode every version once; what is seen then need not be read again.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.video import Sampling
from vqa_lightning.lmm.config import LMMConfig
from vqa_lightning.lmm.feature_cache import MEMORY
from vqa_lightning.lmm.motion import FrameDifferences, VideoBackbone, build_motion
from vqa_lightning.lmm.quality_tower import QualityTower


class FrozenEyes:
    """What looks at clips and is never trained; it can be sent to the processes that read clips.

    Args:
        parts: of a model, each with `features`.
    """

    def __init__(self, parts: Sequence[QualityTower | FrameDifferences | VideoBackbone]) -> None:
        self.parts = parts

    @torch.no_grad()
    def __call__(self, clips: Tensor) -> Tensor:
        """Return features (N, S, F) of clips (N, T, 3, H, W) in [0, 1]."""
        return torch.cat([part.features(clips) for part in self.parts], dim=-1)


def frozen_eyes(config: LMMConfig, sampling: Sampling) -> FrozenEyes | None:
    """Return `LMM.eyes` of a model that has yet to be built.

    Args:
        config: of the model.
        sampling: how its clips are cut.

    Returns:
        None where the model keeps no features in memory, or sees clips by more than what is the same for
        every model of this config.
    """
    fixed = config.motion in (None, "differences")
    if config.feature_cache != MEMORY or config.pictures or not fixed:
        return None
    with torch.random.fork_rng(devices=[]):
        # The projectors, of any width, are not used.
        quality = QualityTower(sampling.frames, 1) if config.quality_tower else None
        motion = build_motion(config.motion, sampling.frames, 1) if config.motion else None
    return FrozenEyes([part for part in (quality, motion) if part is not None])
