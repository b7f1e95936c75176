"""What looks at clips and is never trained, by itself: it can look before there is a model.

Full-reference metrics read and encode every version once; what is seen then need not be read again.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from datamodules.video import Sampling
from vqa_lightning.lmm.config import LMMConfig
from vqa_lightning.lmm.feature_cache import MEMORY
from vqa_lightning.lmm.motion import build_motion
from vqa_lightning.lmm.quality_tower import QualityTower


def frozen_eyes(config: LMMConfig, sampling: Sampling) -> Callable[[Tensor], Tensor] | None:
    """Return `LMM.fixed_features` of a model that has yet to be built.

    Args:
        config: of the model.
        sampling: how its clips are cut.

    Returns:
        From clips (N, T, 3, H, W) in [0, 1] to features (N, S, F); None where the model keeps no features in
        memory, or sees clips by more than what is the same for every model of this config.
    """
    fixed = config.motion in (None, "differences")
    if config.feature_cache != MEMORY or config.pictures or not fixed:
        return None
    with torch.random.fork_rng(devices=[]):
        # The projectors, of any width, are not used.
        quality = QualityTower(sampling.frames, 1) if config.quality_tower else None
        motion = build_motion(config.motion, sampling.frames, 1) if config.motion else None
    parts = [part for part in (quality, motion) if part is not None]

    @torch.no_grad()
    def look(clips: Tensor) -> Tensor:
        return torch.cat([part.features(clips) for part in parts], dim=-1)

    return look
