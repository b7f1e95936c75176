"""The motion path: what changes between the frames of a segment, as one token a segment.

As in the paper the tower sees one frame of a segment and the motion path all of them, so that dense frames
cost next to nothing. Its features are fixed: how much each pair of frames differs in each cell of the
picture. A held frame differs by nothing, a shaken one by as much after two frames as after one, a moving one
by more.
"""

from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.teachers import luma

CELLS = 4
"""Rows and columns of the picture that are told apart."""

FLOOR = 1 / 255
"""Added before the logarithm: differences that 8 bits cannot show count as none."""


class MotionPath(nn.Module):
    """Differences between all pairs of a segment's frames, projected to a token by a two-layer perceptron.

    Args:
        frames: K, frames a segment, at least 2.
        width: D of the language model's tokens.
    """

    def __init__(self, frames: int, width: int) -> None:
        super().__init__()
        self.frames = frames
        self.pairs = list(combinations(range(frames), 2))
        self.projector = nn.Sequential(
            nn.Linear(len(self.pairs) * CELLS**2, width), nn.GELU(), nn.Linear(width, width)
        )

    def forward(self, clips: Tensor) -> Tensor:
        """Tokens (B, S, D) of clips (B, S K, 3, H, W) in [0, 1]."""
        segments = luma(clips).unflatten(1, (-1, self.frames))  # type: ignore[no-untyped-call]
        early, late = (segments[:, :, [pair[side] for pair in self.pairs]] for side in (0, 1))
        energy = F.adaptive_avg_pool2d((late - early).abs().flatten(0, 1), CELLS)
        features = torch.log(energy + FLOOR) - torch.log(torch.tensor(FLOOR))
        tokens: Tensor = self.projector(features.flatten(1))
        return tokens.view(*segments.shape[:2], -1)
