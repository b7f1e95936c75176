"""The detail loss of VMAF, ADM (Li, Zhang, Ma and Ngan, IEEE Trans. Multimedia 13(5), 2011).

Wavelet coefficients of the clip are split into detail that comes from the source and an impairment that was
added; what remains of the detail, masked by the impairment, is compared with the source's.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.devices import for_device
from datamodules.fidelity.filters import Filter, across, down

_WAVELETS = [  # Daubechies' of four taps, low and high, in the fixed point of libvmaf
    Filter(tuple(tap / 2**15 for tap in taps), lead=1, stride=2, repeats=True)
    for taps in ((15826, 27411, 7345, -4240), (-4240, -7345, 27411, -15826))
]
_VISIBILITY = (  # of an edge and of a diagonal at each scale, at the viewing distance of three heights
    (0.017382, 0.005891),
    (0.031985, 0.014299),
    (0.043373, 0.024397),
    (0.045673, 0.031313),
)
_BORDER = 0.1  # share of each side that does not count
_SAME_ANGLE = math.cos(math.pi / 180) ** 2


def adm(clip: Tensor, source: Tensor, gain_limit: float) -> Tensor:
    """Return the share of the source's visible detail that frames keep.

    Args:
        clip: (N, H, W) luma in 0..255.
        source: the same shape.
        gain_limit: what an enhanced contrast counts at most: 100 in VMAF, 1 in VMAF NEG.

    Returns:
        (N,); 1 for equal frames, more where contrast was enhanced.

    Example:
        >>> frames = 255 * torch.rand(2, 48, 64)
        >>> adm(frames, frames, 100.0).tolist()
        [1.0, 1.0]
    """
    pair = torch.stack([source, clip]) - 128
    kept = there = torch.zeros((), device=clip.device)
    for scale, (edge, diagonal) in enumerate(_VISIBILITY):
        pair, details = _wavelets(pair, scale == 0)
        visible = for_device(torch.tensor([edge, edge, diagonal]), clip.device)[:, None, None, None]
        kept_here, there_here = _compare(details[0], details[1], visible, gain_limit)
        kept, there = kept + kept_here, there + there_here
    return kept / there


def _wavelets(pair: Tensor, finest: bool) -> tuple[Tensor, Tensor]:
    """Split planes (2, N, H, W) into an approximation (2, N, H/2, W/2) and details (2, 3, N, H/2, W/2).

    Details are those of rows, of columns and of diagonals. The finest are rounded as libvmaf rounds them:
    whether two strong edges point the same way can hang on it, and with it a point of VMAF.
    """
    columns = down(pair, *_WAVELETS)
    if finest:
        columns = columns.mul_(128).add_(0.5).floor_().div_(128)
    bands = across(columns, *_WAVELETS)
    if finest:
        bands = bands.mul_(64).add_(0.5).floor_().div_(64)
    height, width = bands.shape[-2] // 2, bands.shape[-1] // 2
    low, high = torch.split(bands, height, -2)
    details = torch.stack([high[..., :width], low[..., width:], high[..., width:]], 1)
    return low[..., :width], details


def _compare(source: Tensor, clip: Tensor, visible: Tensor, gain_limit: float) -> tuple[Tensor, Tensor]:
    """Return what remains of the detail (N,) and what was there, both summed over the three bands."""
    bound = source
    if gain_limit > 1:  # where both edges point the same way, a stronger edge is an enhanced one
        along = (source[:2] * clip[:2]).sum(0)
        lengths = (source[:2] ** 2).sum(0) * (clip[:2] ** 2).sum(0)
        aligned = (along >= 0) & (along * along >= _SAME_ANGLE * lengths)
        bound = torch.where(aligned, source * gain_limit, source)
    restored = torch.minimum(torch.maximum(clip, bound.clamp(max=0)), bound.clamp(min=0))
    added = ((clip - restored).abs() * visible).sum(0)
    around = F.pad(F.pad(added, (1, 0, 1, 0), mode="reflect"), (0, 1, 0, 1), mode="replicate")
    masking = (9 * F.avg_pool2d(around, 3, 1) + added) / 30
    height, width = source.shape[-2:]
    top, left = (max(int(size * _BORDER - 0.5), 0) for size in (height, width))
    inner = slice(top, height - top), slice(left, width - left)
    area = (height - 2 * top) * (width - 2 * left)
    detail = (restored[..., *inner] * visible).abs_().sub_(masking[:, *inner]).clamp_(min=0)
    return _pooled(detail, area), _pooled((source[..., *inner] * visible).abs_(), area)


def _pooled(detail: Tensor, area: int) -> Tensor:
    cubes: Tensor = (detail * detail * detail).sum((-2, -1))
    pooled: Tensor = (cubes ** (1 / 3) + (area / 32) ** (1 / 3)).sum(0)
    return pooled
