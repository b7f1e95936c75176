"""Luma of RGB frames: ITU-R BT.601, as most published measures take it."""

from torch import Tensor

LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""ITU-R BT.601, on full-range RGB."""


def luma(clips: Tensor) -> Tensor:
    """Return the BT.601 luma (..., H, W) of RGB (..., 3, H, W), in the same range."""
    red, green, blue = clips.unbind(-3)
    return LUMA_WEIGHTS[0] * red + LUMA_WEIGHTS[1] * green + LUMA_WEIGHTS[2] * blue
