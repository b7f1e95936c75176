"""Loss of detail: too few pixels, a lens out of focus, a camera that moved while the shutter was open."""

import math

import torch
import torch.nn.functional as F
from kornia.filters import filter2d, gaussian_blur2d
from torch import Tensor


def resize(
    clips: Tensor, strength: Tensor, times: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Lose resolution: down by a factor with an antialiased bicubic kernel, up again with a bilinear one.

    The kernels are the usual chain's: an encoder's scaler goes down with bicubic, a screen goes up with
    bilinear. Both are torch's. The few factors in a batch are taken in turn, since each has a size of its
    own.

    Args:
        clips: (B, T, C, H, W) in [0, 1].
        strength: (B,), the factor; W2S-VQA has 2, 3, 4, 8, 16. The small frame has at least one pixel a side.
        times: not used.
        generator: not used.
    """
    height, width = clips.shape[-2:]
    result = torch.empty_like(clips)
    for factor in sorted(set(strength.tolist())):
        here = strength == factor
        frames = clips[here].flatten(0, 1)
        small_size = [max(1, round(height / factor)), max(1, round(width / factor))]
        small = F.interpolate(frames, small_size, mode="bicubic", antialias=True)
        # bicubic overshoots at edges, which no stored frame could hold
        large = F.interpolate(small.clamp(0, 1), [height, width], mode="bilinear")
        result[here] = large.view(-1, *clips.shape[1:])
    return result


def gaussian_blur(
    clips: Tensor, strength: Tensor, times: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Blur with a Gaussian of a standard deviation per sample, by kornia's separable filter.

    The kernel reaches four deviations, and never beyond the mirrored frame: less than 1e-4 of its weight is
    cut off. At 0.1 pixels a neighbour weighs e^-50: the mildest of W2S-VQA's levels is the identity. The few
    deviations in a batch are taken in turn: in a kernel as long as the longest, a sample's last digits would
    depend on its neighbours.

    Args:
        clips: (B, T, C, H, W) in [0, 1].
        strength: (B,), standard deviation in pixels; W2S-VQA has 0.1, 0.5, 1, 2, 5.
        times: not used.
        generator: not used.
    """
    result = torch.empty_like(clips)
    for sigma in sorted(set(strength.tolist())):
        here = strength == sigma
        radius = min(math.ceil(4 * sigma), min(clips.shape[-2:]) - 1)
        frames = clips[here].flatten(0, 1)
        blurred: Tensor = gaussian_blur2d(frames, 2 * radius + 1, (sigma, sigma))
        result[here] = blurred.view(-1, *clips.shape[1:])
    return result


def motion_blur(
    clips: Tensor, strength: Tensor, times: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Blur along the lines, as a pan does while the shutter is open: the mean over a length of the line.

    Always along the lines: most pans are level, and of two directions that were drawn for the two sides of a
    pair the longer blur could well be the one that follows the picture's edges and shows less. The mean is
    that of the piecewise constant picture, so that lengths need not be whole; beyond the frame the picture is
    mirrored. By kornia's `filter2d`; its `motion_blur` takes one length a call.

    Args:
        clips: (B, T, C, H, W) in [0, 1].
        strength: (B,), the length in pixels, 1 or more; what reaches beyond the mirrored frame is cut off.
            Our levels 4, 8, 14, 24.
        times: not used.
        generator: not used.
    """
    radius = min(math.ceil((float(strength.max()) - 1) / 2), clips.shape[-1] - 1)
    offset = torch.arange(-radius, radius + 1, device=clips.device)
    share = (strength[:, None] / 2 - offset.abs() + 0.5).clamp(0, 1)  # of a pixel that the length covers
    blurred: Tensor = filter2d(clips.flatten(1, 2), share[:, None], normalized=True)
    return blurred.view(clips.shape)
