"""Loss of detail: too few pixels, a lens out of focus, a camera that moved while the shutter was open.

Blurs are kornia's `gaussian_blur2d` and `filter2d`, resizing is torch's: kornia's `resize` blurs with a
Gaussian and then takes single pixels. Sizes of frames and kernels follow from these strengths, so the
strengths are numbers of the host: to read them from a device would make the host wait for it.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from kornia.filters import filter2d, gaussian_blur2d
from torch import Tensor

from datamodules.devices import for_device


def resize(clips: Tensor, strength: Sequence[float] | Tensor, *_: object) -> Tensor:
    """Lose resolution: down by a factor with an antialiased bicubic kernel, up again with a bilinear one.

    The kernels are the usual chain's: an encoder's scaler goes down with bicubic, a screen goes up with
    bilinear. Both are torch's.

    Args:
        clips: (B, T, C, H, W) in [0, 1].
        strength: (B,), the factor; W2S-VQA has 2, 3, 4, 8, 16. The small frame has at least one pixel a side.

    Returns:
        Tensor (B, T, C, H, W) in [0, 1].

    Example:
        >>> resize(torch.rand(2, 4, 3, 64, 48), [2.0, 8.0]).shape
        torch.Size([2, 4, 3, 64, 48])
    """
    size = clips.shape[-2:]

    def resized(frames: Tensor, factor: float) -> Tensor:
        small_size = [max(1, round(side / factor)) for side in size]
        small = F.interpolate(frames, small_size, mode="bicubic", antialias=True)
        # bicubic overshoots at edges, which no stored frame could hold
        return F.interpolate(small.clamp(0, 1), size, mode="bilinear")

    return _by_strength(clips, strength, resized)


def gaussian_blur(clips: Tensor, strength: Sequence[float] | Tensor, *_: object) -> Tensor:
    """Blur with a Gaussian of a standard deviation per sample, by kornia's separable filter.

    The kernel reaches four deviations, and never beyond the mirrored frame: less than 1e-4 of its weight is
    cut off. At 0.1 pixels a neighbour weighs e^-50: the mildest of W2S-VQA's levels is the identity.

    Args:
        clips: (B, T, C, H, W) in [0, 1].
        strength: (B,), standard deviation in pixels; W2S-VQA has 0.1, 0.5, 1, 2, 5.

    Returns:
        Tensor (B, T, C, H, W) in [0, 1].

    Example:
        >>> gaussian_blur(torch.rand(2, 4, 3, 64, 48), [0.5, 2.0]).shape
        torch.Size([2, 4, 3, 64, 48])
    """

    def blurred(frames: Tensor, sigma: float) -> Tensor:
        radius = min(math.ceil(4 * sigma), min(clips.shape[-2:]) - 1)
        return gaussian_blur2d(frames, 2 * radius + 1, (sigma, sigma))

    return _by_strength(clips, strength, blurred)


def motion_blur(clips: Tensor, strength: Sequence[float] | Tensor, *_: object) -> Tensor:
    """Blur along the lines, as a pan does while the shutter is open: take the mean over a length of the line.

    The direction is always that of the lines: most pans are level, and if a direction were drawn for each
    side of a pair, the longer blur could follow the picture's edges and show less. The mean is that of the
    piecewise constant picture, so that lengths need not be whole; beyond the frame the picture is mirrored.
    The filter is kornia's `filter2d`, since kornia's `motion_blur` takes one length a call.

    Args:
        clips: (B, T, C, H, W) in [0, 1].
        strength: (B,), the length in pixels, 1 or more; what reaches beyond the mirrored frame is cut off.
            Our levels are 4, 8, 14, 24.

    Returns:
        Tensor (B, T, C, H, W) in [0, 1].

    Example:
        >>> motion_blur(torch.rand(2, 4, 3, 64, 48), [4.0, 14.5]).shape
        torch.Size([2, 4, 3, 64, 48])
    """
    lengths = torch.as_tensor(strength)
    radius = min(math.ceil((max(_numbers(strength)) - 1) / 2), clips.shape[-1] - 1)
    offset = torch.arange(-radius, radius + 1, device=lengths.device)
    share = (lengths[:, None] / 2 - offset.abs() + 0.5).clamp(0, 1)  # of a pixel that the length covers
    blurred: Tensor = filter2d(clips.flatten(1, 2), for_device(share[:, None], clips.device), normalized=True)
    return blurred.view(clips.shape)


SIZED = (resize, gaussian_blur, motion_blur)
"""Operators that are given their strengths as numbers of the host."""


def _by_strength(
    clips: Tensor, strength: Sequence[float] | Tensor, change: Callable[[Tensor, float], Tensor]
) -> Tensor:
    """Give the frames (N, C, H, W) of all clips of one strength to `change`, one strength after another.

    In one kernel as long as the longest, a sample's last digits would depend on its neighbours.
    """
    values = _numbers(strength)
    result = torch.empty_like(clips)
    for value in sorted(set(values)):
        rows = [row for row, own in enumerate(values) if own == value]
        here = for_device(torch.tensor(rows), clips.device)
        changed = change(clips.index_select(0, here).flatten(0, 1), value)
        result.index_copy_(0, here, changed.view(-1, *clips.shape[1:]))
    return result


def _numbers(strength: Sequence[float] | Tensor) -> Sequence[float]:
    return strength.tolist() if isinstance(strength, Tensor) else strength
