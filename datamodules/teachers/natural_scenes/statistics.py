"""Statistics of natural scenes that NIQE and BRISQUE share: normalised luma, its distributions, and halving.

All of it agrees with the MATLAB releases of Mittal, Moorthy, Soundararajan and Bovik. Luma is normalised in
double precision, which flat areas need; the distributions of what comes out are fitted in single precision.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.devices import in_float64

SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Neighbours that are multiplied: right, below, both diagonals."""

FLAT = 1e-6
"""Differences from the local mean that are rounding errors, code values; real differences are above 1e-4."""


class Sides(NamedTuple):
    """An asymmetric generalised Gaussian: its shape, and the deviation of each side about zero, (...)."""

    shape: Tensor
    left: Tensor
    right: Tensor

    @property
    def scales(self) -> tuple[Tensor, Tensor]:
        """The scale parameters of the density, left and right."""
        per_deviation = ((torch.lgamma(1 / self.shape) - torch.lgamma(3 / self.shape)) / 2).exp()
        return self.left * per_deviation, self.right * per_deviation

    @property
    def mean(self) -> Tensor:
        """The mean: (right - left) Gamma(2/a) / Gamma(1/a), in units of the scales."""
        left, right = self.scales
        return (right - left) * (torch.lgamma(2 / self.shape) - torch.lgamma(1 / self.shape)).exp()


def normalise(
    frames: Tensor, border: Literal["replicate", "constant"] = "replicate"
) -> tuple[Tensor, Tensor]:
    """Return (x - mean) / (deviation + 1) and the deviation, local under a 7 x 7 Gaussian of 7/6 pixels.

    Args:
        frames: luma (B, H, W) in 0..255, float64.
        border: what lies around the frame: its border pixels again, or zeros.

    Returns:
        Two float64 (B, H, W). The first is 0 wherever the frame is flat.

    Example:
        >>> normalised, deviation = normalise(torch.full((1, 8, 8), 7.0).double())
        >>> normalised.abs().max().item(), round(deviation.max().item(), 3)
        (0.0, 0.0)
    """
    weights = [math.exp(-(tap**2) / (2 * (7 / 6) ** 2)) for tap in range(-3, 4)]
    window = [weight / sum(weights) for weight in weights]
    moments = F.pad(torch.cat([frames, frames**2])[:, None], (3, 3, 3, 3), mode=border)[:, 0]
    mean, square = _convolve(_convolve(moments, window, dim=1), window, dim=2).chunk(2)
    deviation = square.addcmul_(mean, mean, value=-1).abs_().sqrt_()
    # Flat areas must give zeros, which count for neither side, rather than the signs of rounding errors.
    difference = frames - mean
    difference.masked_fill_(difference.abs() <= FLAT, 0)
    return difference / (deviation + 1), deviation


def asymmetric_gaussian(values: Tensor) -> Sides:
    """Fit an asymmetric generalised Gaussian by moments (Lasmar, Stitou and Berthoumieu, ICIP 2009).

    Args:
        values: (..., H, W).

    Returns:
        float64 (...): shape in 0.2..10 (on a grid of 0.001, as the authors' releases search it), left and
        right deviation; NaN where a side has no values.

    Example:
        >>> values = torch.randn(200, 200, generator=torch.Generator().manual_seed(0))
        >>> found = asymmetric_gaussian(3 * values)
        >>> [round(number.item(), 1) for number in found]  # the normal distribution has the shape 2
        [2.0, 3.0, 3.0]
    """
    values = values.flatten(-2)
    left, right = values.clamp(max=0), values.clamp(min=0)
    magnitude = in_float64(right.sum(dim=-1) - left.sum(dim=-1))
    # Signs count the values of either side: their sum is the difference, that of their magnitudes the total.
    signs = values.sign()
    more, total = in_float64(signs.sum(dim=-1)), in_float64(signs.abs().sum(dim=-1))
    left, right = _square(left), _square(right)
    ratio = magnitude**2 / ((left + right) * values.shape[-1])
    left, right = (left / ((total - more) / 2)).sqrt(), (right / ((total + more) / 2)).sqrt()
    balance = left / right
    return Sides(_shape(ratio * (balance**3 + 1) * (balance + 1) / (balance**2 + 1) ** 2), left, right)


def generalised_gaussian(values: Tensor) -> tuple[Tensor, Tensor]:
    """Fit a generalised Gaussian about zero by moments (Sharifi and Leon-Garcia, 1995).

    Args:
        values: (..., H, W).

    Returns:
        float64 (...): shape in 0.2..10 on a grid of 0.001, and mean square; the shape of zeros alone is NaN.

    Example:
        >>> shape, square = generalised_gaussian(torch.tensor([[-1.0, 1.0]]))  # as light as tails can be
        >>> round(shape.item(), 3), round(square.item(), 6)
        (10.0, 1.0)
    """
    values = values.flatten(-2)
    magnitude, square = in_float64(values.abs().sum(dim=-1)), _square(values)
    return _shape(magnitude**2 / (square * values.shape[-1])), square / values.shape[-1]


def _square(values: Tensor) -> Tensor:
    """Return the sum of squares over the last dimension, float64; nothing faster squares and sums."""
    norm: Tensor = torch.linalg.vector_norm(values, dim=-1)
    return in_float64(norm) ** 2


def _shape(ratio: Tensor) -> Tensor:
    """Return the shape whose ratio lies nearest, NaN where there is no ratio."""
    shapes, ratios = _shape_table(ratio.device)
    above = torch.searchsorted(ratios, ratio.contiguous()).clamp(1, len(ratios) - 1)
    nearest = torch.where(ratio - ratios[above - 1] <= ratios[above] - ratio, above - 1, above)
    return torch.where(ratio.isfinite(), shapes[nearest], torch.nan)


@cache
def _shape_table(device: torch.device) -> tuple[Tensor, Tensor]:
    shape = torch.arange(200, 10001, dtype=torch.float64, device=device) / 1000
    ratio = (2 * torch.lgamma(2 / shape) - torch.lgamma(1 / shape) - torch.lgamma(3 / shape)).exp()
    return shape, ratio


def halve(frames: Tensor) -> Tensor:
    """Halve (B, H, W) as MATLAB's imresize: antialiased cubic convolution, mirrored borders.

    Odd lengths are rounded up, as there; lengths must be 4 or more.

    Example:
        >>> halve(torch.ones(1, 9, 16).double()).shape
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
    # A sum over taps: torch has no fast convolution in double precision, which flat areas need.
    length = (values.shape[dim] - len(kernel)) // step + 1
    within = [slice(None)] * values.dim()
    total = torch.zeros(())
    for tap, weight in enumerate(kernel):
        within[dim] = slice(tap, tap + (length - 1) * step + 1, step)
        part = values[tuple(within)]
        total = part * weight if tap == 0 else total.add_(part, alpha=weight)
    return total
