"""How the frames of a segment follow each other, in six numbers; and the projector of every motion path."""

import torch
from torch import Tensor, nn

from datamodules.video import luma

NUMBERS = 6
"""That say how the frames of a segment follow each other."""

FLOOR = 1 / 255
"""One step of 8 bits, the unit of differences; as a share of itself it is added before the logarithm."""

HELD = 0.15
"""Of the mean difference; a frame that differs by less from the frame before is taken as held."""


def motion_projector(features: int, width: int) -> nn.Sequential:
    """Return the paper's projector (METHOD section 4): two layers with a GELU between them."""
    return nn.Sequential(nn.Linear(features, width), nn.GELU(), nn.Linear(width, width))


class FrameDifferences(nn.Module):
    """How a segment's frames follow each other, as six numbers that say nothing of the scene.

    They are of the mean absolute differences of consecutive frames: the logarithm of their mean, and their
    deviation, median, largest and smallest over that mean, and the share of frames that hardly differ from
    the frame before. A held frame differs by nothing, and the frame after it by twice as much.

    Args:
        frames: K, frames of a segment, at least 2.
        width: D of the language model's tokens.
    """

    fixed = True
    """Whether `features` always says the same of a clip."""
    takes_bytes = True
    """Whether `features` takes clips of bytes, too, of which it makes floats where it needs them."""

    def __init__(self, frames: int, width: int) -> None:
        super().__init__()
        self.frames = frames
        self.feature_width = NUMBERS
        self.projector = motion_projector(NUMBERS, width)

    def features(self, clips: Tensor) -> Tensor:
        """Return the six numbers (B, S, 6) of each segment of clips (B, S K, 3, H, W) in [0, 1], or bytes."""
        if clips.dtype == torch.uint8:  # whole frames, of which a float each would take twelve times a luma
            lumas = torch.stack([luma(frame / 255) for frame in clips.flatten(0, 1)])
            lumas = lumas.unflatten(0, clips.shape[:2])  # type: ignore[no-untyped-call]
        else:
            lumas = luma(clips)
        segments = lumas.unflatten(1, (-1, self.frames))  # type: ignore[no-untyped-call]
        # Sums of rows first: ONNX runtimes add one number after the other, which loses digits.
        steps = segments.diff(dim=2).abs().mean(dim=-1).mean(dim=-1) / FLOOR + FLOOR
        mean = steps.mean(dim=-1)
        relative = steps / mean[..., None]
        numbers = (
            mean.log(),
            relative.std(dim=-1, correction=0),
            # The lower median, as torch.median has it, which ONNX has no operator for.
            relative.sort(dim=-1).values[..., (relative.shape[-1] - 1) // 2],
            relative.amax(dim=-1),
            relative.amin(dim=-1),
            (relative < HELD).float().mean(dim=-1),
        )
        return torch.stack(numbers, dim=-1)

    def project(self, features: Tensor) -> Tensor:
        """Return tokens (B, S, D) of features (B, S, F)."""
        tokens: Tensor = self.projector(features.to(next(self.parameters()).dtype))
        return tokens

    def forward(self, clips: Tensor) -> Tensor:
        """Return tokens (B, S, D) of clips (B, S K, 3, H, W) in [0, 1]."""
        return self.project(self.features(clips))
