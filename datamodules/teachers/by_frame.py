"""Measuring frames one at a time where that is faster than all together."""

from collections.abc import Callable

import torch
from torch import Tensor


def by_frame(measure: Callable[[Tensor], Tensor], clips: Tensor) -> Tensor:
    """Measure each frame of clips, on a CPU one after the other.

    What is computed in between then stays in the CPU's cache: NIQE and BRISQUE of 32 frames of 512 x 360 take
    less than half of the time. Other devices measure all frames together.

    Args:
        measure: says something of frames (N, C, H, W), (N,).
        clips: (B, T, C, H, W).

    Returns:
        (B, T).

    Example:
        >>> by_frame(lambda frames: frames.amax(dim=(1, 2, 3)), torch.arange(8.0).view(1, 2, 1, 2, 2))
        tensor([[3., 7.]])
    """
    frames = clips.flatten(0, 1)
    some = torch.split(frames, 1) if frames.device.type == "cpu" else (frames,)
    return torch.cat([measure(frame) for frame in some]).view(clips.shape[:2])
