"""The quality tower: a frozen network's early stages on native pixels, as one token a segment.

The family's own tower sees what a picture shows; what was done to the picture is seen here, by a network that
was pretrained on photographs and is never trained further. Only a projector learns.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from vqa_lightning.lmm.efficientnet import EarlyStages, published_weights
from vqa_lightning.lmm.feature_cache import FeatureCache, FeatureMemory, Features
from vqa_lightning.lmm.quality_features import FEATURES, LIMIT, quality_features, read_statistics

DROPOUT = 0.3
"""In the projector: versions of a few dozen contents would be learnt by heart."""

QualityTowerName = Literal["efficientnet_lite0"]


class QualityTower(nn.Module):
    """The features of two frames of each segment, averaged, standardised and projected to a token.

    The frames stand a third and two thirds into the segment: encoders spend most on the first.

    The network's weights are buffers that no checkpoint holds: the package that they come from is always
    there. Checkpoints do hold what features are standardised by, for the projector has learnt beside it.

    Args:
        frames: K, frames of a segment.
        width: D of the language model's tokens.

    Raises:
        InputError: the package with the network's weights is not installed.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, frames: int, width: int) -> None:
        super().__init__()
        self.frames = frames
        self.places = sorted({frames // 3, 2 * frames // 3})
        self.stages = EarlyStages(published_weights())
        for name, values in read_statistics()._asdict().items():
            self.register_buffer(name, values)
        self.cache: FeatureCache | FeatureMemory | None = None
        self.feature_width = FEATURES
        self.projector = nn.Sequential(
            nn.Linear(FEATURES, width), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(width, width)
        )

    def looked_at(self, clips: Tensor) -> Tensor:
        """Return the frames (B, S, 2, 3, H, W) of clips (B, S K, 3, H, W) that stand for their segments."""
        segments = clips.unflatten(1, (-1, self.frames))  # type: ignore[no-untyped-call]
        # Not by a list of places, which would have to cross to the device.
        return torch.stack([segments[:, :, place] for place in self.places], dim=2)

    def features(self, clips: Tensor) -> Tensor:
        """Return the features (B, S, 576) of clips (B, S K, 3, H, W) in [0, 1], or bytes, as they are."""
        seen = self.looked_at(clips)
        seen = seen / 255 if seen.dtype == torch.uint8 else seen
        return self._pooled(seen) if self.cache is None else self.cache.features(seen, self._alone)[0]

    def _pooled(self, seen: Tensor) -> Tensor:
        features = quality_features(seen.flatten(0, 2), self.stages)
        return features.view(*seen.shape[:3], FEATURES).mean(dim=2)

    def _alone(self, seen: Tensor) -> Features:
        return self._pooled(seen), None

    def standardised(self, features: Tensor) -> Tensor:
        """Return features (..., 576) in deviations from the mean, clipped at `LIMIT`."""
        return ((features - self.mean) / self.deviation).clamp(-LIMIT, LIMIT)

    fixed = True
    """Whether `features` always says the same of a clip."""
    takes_bytes = True
    """Whether `features` takes clips of bytes, too, of which it makes floats where it needs them."""

    def project(self, features: Tensor) -> Tensor:
        """Return tokens (B, S, D) of features (B, S, 576)."""
        known = self.standardised(features).to(next(self.projector.parameters()).dtype)
        tokens: Tensor = self.projector(known)
        return tokens

    def forward(self, clips: Tensor) -> Tensor:
        """Return tokens (B, S, D) of clips (B, S K, 3, H, W) in [0, 1], of any height and width."""
        return self.project(self.features(clips))
