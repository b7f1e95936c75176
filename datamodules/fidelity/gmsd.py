"""GMSD of planes: how unevenly the gradients of a source fell over the frame."""

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.fidelity.planes import check_planes


def gmsd(first: Tensor, second: Tensor) -> Tensor:
    """Compare planes by gradient magnitude similarity deviation (Xue et al., IEEE TIP 23(2), 2014).

    GMSD is the standard deviation over the plane of the similarity (2 m n + c) / (m^2 + n^2 + c), where m and
    n are the magnitudes of the Prewitt gradients after averaging 2 x 2 pixels, and c = 170 on the scale of 8
    bits. Gradients are taken where they fit: the authors' code pads with zeros, which draws an edge around
    the frame.

    Args:
        first: (..., H, W) in [0, 1], sides of at least 32 pixels.
        second: the same shape.

    Returns:
        (...), at least 0 and exactly 0 for equal planes, higher worse; symmetric, and blind to a constant
        added to either plane.

    Raises:
        InputError: the shapes differ or a side is too small.

    Example:
        >>> planes = torch.rand(2, 48, 64)
        >>> gmsd(planes, planes).tolist()
        [0.0, 0.0]
    """
    check_planes(first, second)
    c = 170 / 255**2
    m, n = _gradient_magnitude(first), _gradient_magnitude(second)
    return ((2 * m * n + c) / (m * m + n * n + c)).std((-2, -1), correction=0)


def _gradient_magnitude(planes: Tensor) -> Tensor:
    halved = F.avg_pool2d(planes.reshape(-1, *planes.shape[-2:]), 2)
    across = F.avg_pool2d(halved, (3, 1), 1)
    down = F.avg_pool2d(halved, (1, 3), 1)
    gradient = torch.hypot(across[..., 2:] - across[..., :-2], down[..., 2:, :] - down[..., :-2, :])
    return gradient.view(*planes.shape[:-2], *gradient.shape[-2:])
