"""Luma normalised by its local mean and deviation, and luma at half size, as NIQE and BRISQUE both see it.

All of it agrees with the MATLAB releases of Mittal, Moorthy, Soundararajan and Bovik. The two differ only in
what they take to lie around a frame, so that what was computed for one gives the other all but its border.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.teachers.pictures import Picture

Border = Literal["replicate", "constant"]

REACH = 3
"""Pixels from the middle of the window to its end."""

_TAPS = [math.exp(-(tap**2) / (2 * (7 / 6) ** 2)) for tap in range(-REACH, REACH + 1)]
WINDOW = [tap / sum(_TAPS) for tap in _TAPS]
"""A Gaussian of 7/6 pixels."""

BAND, LEAST_ROWS = 2**15, 64
"""Pixels of a frame that are normalised together, in whole rows, and the fewest rows: what is computed in
between then stays in a core's cache, and the six rows that bands share cost little."""

FLAT = 1e-6
"""Differences from the local mean that are rounding errors, code values; those of whole code values are above
1e-4."""


def normalise(frames: Tensor, border: Border = "replicate", known: Tensor | None = None) -> Tensor:
    """Return (x - mean) / (deviation + 1), local under a 7 x 7 Gaussian of 7/6 pixels.

    Args:
        frames: luma (B, H, W) in 0..255.
        border: what lies around the frame: its border pixels again, or zeros.
        known: (B, H', W') what this returned for frames of which these are the upper left part, whatever the
            border: only what lies near the border is then computed.

    Returns:
        float32 (B, H, W), 0 wherever the frame is flat.

    Example:
        >>> normalise(torch.full((1, 8, 8), 7.0)).abs().max().item()
        0.0
        >>> frames = torch.rand(1, 40, 30) * 255
        >>> black = normalise(frames, "constant")
        >>> torch.allclose(normalise(frames, "constant", known=normalise(frames)), black, atol=1e-5)
        True
    """
    if known is None or min(frames.shape[1:]) < 2 * REACH:
        around = _surrounded(frames, border)
        rows = max(BAND // frames.shape[2], LEAST_ROWS)
        bands = [around[:, top : top + rows + 2 * REACH] for top in range(0, frames.shape[1], rows)]
        return torch.cat([_normalised(band) for band in bands], dim=1)
    field = known[:, : frames.shape[1], : frames.shape[2]].clone()
    for dim in (1, 2):
        behind = frames.shape[dim] - 2 * REACH
        ends = torch.cat([frames.narrow(dim, 0, 2 * REACH), frames.narrow(dim, behind, 2 * REACH)])
        first, last = normalise(ends, border).chunk(2)
        field.narrow(dim, 0, REACH).copy_(first.narrow(dim, 0, REACH))
        field.narrow(dim, behind + REACH, REACH).copy_(last.narrow(dim, REACH, REACH))
    return field


def normalised(picture: Picture) -> Tensor:
    """Return what `normalise` makes of a picture's luma: NIQE and BRISQUE share it (`Picture.once`)."""
    return normalise(picture.codes)


def deviation(frames: Tensor) -> Tensor:
    """Return the local deviation (B, H, W) that `normalise` divides by, of frames of luma in 0..255."""
    return _local(_surrounded(frames, "replicate"))[1]


def _surrounded(frames: Tensor, border: Border) -> Tensor:
    return F.pad(frames[:, None].float(), (REACH,) * 4, mode=border)[:, 0]


def _normalised(around: Tensor) -> Tensor:
    difference, spread = _local(around)
    # Flat areas must give zeros, which count for neither side, rather than the signs of rounding errors.
    return F.hardshrink(difference, FLAT).div_(spread.add_(1))


def _local(around: Tensor) -> tuple[Tensor, Tensor]:
    """Return the differences from the local mean, and the local deviation, where the whole window fits."""
    above, within = _along(around, dim=1)
    beside, between = _along(around[:, REACH:-REACH] + above, dim=2)
    variance = _convolve(within, WINDOW, dim=2).add_(between)  # the law of total variance
    return above[:, :, REACH:-REACH].add(beside).neg_(), variance.sqrt_()


def _along(values: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return how far the mean of the window along one dimension lies above its middle, and its variance.

    All is seen from the middle: the squares of code values would be too large for float32.
    """
    length = values.shape[dim] - 2 * REACH
    middle = values.narrow(dim, REACH, length)
    mean, square = torch.zeros_like(middle), torch.zeros_like(middle)
    for tap, weight in enumerate(WINDOW[:REACH]):
        one = values.narrow(dim, tap, length) - middle
        other = values.narrow(dim, 2 * REACH - tap, length) - middle
        square.addcmul_(one, one, value=weight).addcmul_(other, other, value=weight)
        mean.add_(one.add_(other), alpha=weight)
    return mean, square.addcmul_(mean, mean, value=-1).clamp_(min=0)


def halve(frames: Tensor) -> Tensor:
    """Halve (B, H, W) as MATLAB's imresize: antialiased cubic convolution, mirrored borders.

    Odd lengths are rounded up, as there; lengths must be 4 or more.

    Example:
        >>> halve(torch.ones(1, 9, 16)).shape
        torch.Size([1, 5, 8])
    """
    # The cubic (a = -1/2) at twice its width: taps .25, .75, 1.25 and 1.75 to either side; they sum to 2.
    half = [(1.5 * d**3 - 2.5 * d**2 + 1) / 2 for d in (0.25, 0.75)]
    half += [(-0.5 * d**3 + 2.5 * d**2 - 4 * d + 2) / 2 for d in (1.25, 1.75)]
    kernel = half[::-1] + half
    for dim in (1, 2):
        # Mirroring that repeats the border pixel; torch's "reflect" does not.
        after = 3 + frames.shape[dim] % 2
        first, last = frames.narrow(dim, 0, 3).flip(dim), frames.narrow(dim, -after, after).flip(dim)
        frames = _convolve(torch.cat([first, frames, last], dim=dim), kernel, dim, step=2)
    return frames


def _convolve(values: Tensor, kernel: Sequence[float], dim: int, step: int = 1) -> Tensor:
    """Convolve one dimension where the kernel fits, keeping every `step`-th result."""
    # A sum over taps: torch's own convolutions of one channel are slower.
    length = (values.shape[dim] - len(kernel)) // step + 1
    within = [slice(None)] * values.dim()
    total = torch.zeros(())
    for tap, weight in enumerate(kernel):
        within[dim] = slice(tap, tap + (length - 1) * step + 1, step)
        part = values[tuple(within)]
        total = part * weight if tap == 0 else total.add_(part, alpha=weight)
    return total
