"""The settings that follow from the model where nobody has set them.

The embedded model learns from scratch, on small native windows and as a whole. A published model brings what
it knows: it sees whole frames, and low-rank adapters and its heads are trained.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import AdamW, Optimizer

from datamodules.video import Sampling
from vqa_lightning.lmm import LMMConfig, TrainedParts
from vqa_lightning.training.optimizers import MuonAdamW

RATES = {"paper": 1e-5, "lora": 1e-4, "full": 1e-5, "head": 1e-3}
"""AdamW's for a published model: the paper's own for its parts, and what is usual for the others."""


def default_sampling(lmm: LMMConfig) -> Sampling:
    """Cut a few frames of a native window, or eight segments of whole frames for a published model.

    The window is as small as an embedded tower of random weights can learn from; for a pretrained quality
    tower it holds enough of the picture to say what was done to it.
    """
    if lmm.pretrained is None and lmm.quality_tower is not None:
        return Sampling(frames=8, window=224)
    if lmm.pretrained is None:
        return Sampling(frames=4, window=lmm.embedded.image_size + lmm.embedded.patch_size)
    return Sampling(segments=8, frames=1 if lmm.motion is None else 4, window=None)


def default_trained(lmm: LMMConfig) -> TrainedParts:
    """Train all of the embedded model, adapters of a published model."""
    return TrainedParts(parts="full" if lmm.pretrained is None else "lora")


def default_optimizer(lmm: LMMConfig, trained: TrainedParts, params: Iterable[Any]) -> Optimizer:
    """Return Muon and AdamW for a model that starts from nothing, AdamW for a published model."""
    if lmm.pretrained is None:
        return MuonAdamW(params, lr=7e-4, matrix_lr=3e-3, weight_decay=0.1)
    return AdamW(params, lr=RATES[trained.parts], weight_decay=0.0, fused=torch.cuda.is_available())
