"""Visual information fidelity at four scales, as VMAF measures it (Sheikh and Bovik, IEEE TIP 15(2), 2006).

VIF is the share of the information in the source's detail that the clip still carries, in the pixel domain.
"""

import math

import torch
from torch import Tensor

from datamodules.fidelity.filters import Filter, across, down

_NOISE = 2.0  # variance of the eye's own noise, on the scale of 8 bits
_BIT = math.log(2)  # in natural units
_WINDOWS = tuple(  # Gaussians of a fifth of their taps at each scale, in the fixed point of libvmaf
    tuple(tap / 2**16 for tap in (*half, middle, *reversed(half)))
    for *half, middle in (
        (489, 935, 1640, 2640, 3896, 5274, 6547, 7455, 7784),
        (1244, 3663, 7925, 12590, 14692),
        (3571, 16004, 26386),
        (10904, 43728),
    )
)


def vif(clip: Tensor, source: Tensor, gain_limit: float) -> Tensor:
    """Return the share of the source's information that frames carry, at each scale.

    Args:
        clip: (N, H, W) luma in 0..255.
        source: the same shape.
        gain_limit: what an enhanced contrast counts at most: 100 in VMAF, 1 in VMAF NEG.

    Returns:
        (N, 4), the finest scale first; 1 for equal frames, more where contrast was enhanced.

    Example:
        >>> frames = 255 * torch.rand(2, 48, 64)
        >>> vif(frames, frames, 100.0).shape
        torch.Size([2, 4])
    """
    pair = torch.stack([source, clip])
    shares = []
    for scale, taps in enumerate(_WINDOWS):
        if scale:
            halving = Filter(taps, len(taps) // 2, stride=2)
            pair = _rounded(across(_rounded(down(pair, halving)), halving))
        window = Filter(taps, len(taps) // 2)
        columns = down(torch.cat([pair, pair * pair, pair.prod(0, keepdim=True)]), window)
        _rounded(columns[:2])
        moments = across(columns, window)
        means, squares, product = moments[:2], moments[2:4], moments[4]
        variance, distorted = (squares - means * means).clamp_(min=0)
        covariance = product.sub_(means[0] * means[1]).clamp_(min=0)
        flat = variance < _NOISE
        gain = covariance / (variance + 1e-10)
        noise = (distorted - gain * covariance).clamp_(min=1e-10).add_(_NOISE)
        gain.clamp_(max=gain_limit)
        carried = (gain * gain).mul_(variance).div_(noise).log1p_()
        # A flat place of the source has one bit, less what the clip adds there.
        carried = torch.where(flat, (1 - distorted * (4 / 255**2)) * _BIT, carried)
        there = (variance / _NOISE).log1p_().masked_fill_(flat, _BIT)
        shares.append(carried.sum((-2, -1)) / there.sum((-2, -1)))
    return torch.stack(shares, -1)


def _rounded(planes: Tensor) -> Tensor:
    """Round in place where libvmaf does: whether a place counts as flat can hang on it."""
    return planes.mul_(256).add_(0.5).floor_().div_(256)
