"""What every metric of single planes asks of them."""

from torch import Tensor

from datamodules.errors import InputError

SMALLEST_SIDE = 32
"""Pixels: leaves 7 x 7 blocks to SSIM, and 14 x 14 gradients to GMSD, which halves the frame first."""


def check_planes(first: Tensor, second: Tensor) -> None:
    """Check that planes have equal shapes (..., H, W) and are large enough.

    Raises:
        InputError: the shapes differ or a side is too small.

    Example:
        >>> import torch
        >>> check_planes(torch.zeros(2, 64, 64), torch.zeros(2, 64, 64))
    """
    if first.shape != second.shape or min(first.shape[-2:]) < SMALLEST_SIDE:
        raise InputError(
            f"Planes must have equal shapes (..., H, W) with sides of at least {SMALLEST_SIDE} pixels; got "
            f"{tuple(first.shape)} and {tuple(second.shape)}."
        )
