"""How normalised luma and the products of neighbours in it are distributed, as NIQE and BRISQUE both ask.

A generalised Gaussian is fitted by a few moments. Of a product each of these moments is the product of the
factors' powers, so the moments of all products are correlations of five fields with themselves: no product is
ever written down. Shapes are searched on the grid of the MATLAB releases of Mittal, Moorthy, Soundararajan
and Bovik.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.devices import in_float64

SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Neighbours that are multiplied, down and across: right, below, both diagonals."""


class Moments(NamedTuple):
    """Means over all values v of a field, zeros included; each float64 (...).

    Attributes:
        magnitude: of |v|.
        square: of v^2.
        signed: of v |v|: what the squares right of zero exceed those left of it by.
        balance: of the sign of v: by what share the values right of zero are more.
        counted: of the sign's magnitude: the share of values that are not 0, which is on neither side.
    """

    magnitude: Tensor
    square: Tensor
    signed: Tensor
    balance: Tensor
    counted: Tensor


class Sides(NamedTuple):
    """An asymmetric generalised Gaussian, each (...).

    Attributes:
        shape: a of exp(-|v / scale|^a).
        left: deviation about zero of the values left of it.
        right: of those right of it.
        left_scale: the density's scale on the left.
        right_scale: and on the right.
        mean: (right - left) Gamma(2/a) / Gamma(1/a), in units of the scales.
    """

    shape: Tensor
    left: Tensor
    right: Tensor
    left_scale: Tensor
    right_scale: Tensor
    mean: Tensor


def moments(values: Tensor) -> Moments:
    """Return the moments of values (..., H, W) and of their products with each neighbour of `SHIFTS`.

    The first neighbour beyond the last line or column is the first line or column, as in the releases.

    Args:
        values: float32 (B, ..., H, W).

    Returns:
        Each (5, B, ...): of the values, and of the four products.

    Example:
        >>> found = moments(torch.tensor([[[-1.0, 2.0, -1.0, 2.0]]]))
        >>> found.magnitude[:, 0].tolist(), found.balance[:2, 0].tolist()
        ([1.5, 2.0, 2.5, 2.0, 2.0], [0.0, -1.0])
    """
    height, width = values.shape[-2:]
    around = F.pad(values, (1, 1, 0, 1), mode="circular")
    powers = around.new_empty(len(Moments._fields), *around.shape)
    magnitude, square, signed, sign, counted = powers
    torch.abs(around, out=magnitude)
    torch.mul(around, around, out=square)
    torch.mul(around, magnitude, out=signed)
    torch.sign(around, out=sign)
    torch.abs(sign, out=counted)
    here = powers[..., :height, 1:-1]
    sums = [in_float64(here.sum(dim=(-2, -1)))]
    for down, across in SHIFTS:
        sums.append(_inner(here, powers[..., down : down + height, 1 + across : 1 + across + width]))
    return Moments(*(torch.stack(sums, dim=1) / (height * width)))


def _inner(first: Tensor, second: Tensor) -> Tensor:
    """Return the sum of products over (H, W), float64 (...)."""
    if first.device.type == "cpu":  # three times as fast as a product that is written, and then read
        return torch.from_numpy(np.vecdot(first.numpy(), second.numpy()).sum(axis=-1, dtype=np.float64))
    return in_float64((first * second).sum(dim=-1)).sum(dim=-1)


def asymmetric_gaussian(moments: Moments) -> Sides:
    """Fit an asymmetric generalised Gaussian by moments (Lasmar, Stitou and Berthoumieu, ICIP 2009).

    Returns:
        float64 (...): shape in 0.2..10 (on a grid of 0.001, as the authors' releases search it), left and
        right deviation; NaN where a side has no values.

    Example:
        >>> values = torch.randn(1, 200, 200, generator=torch.Generator().manual_seed(0))
        >>> found = asymmetric_gaussian(moments(3 * values))
        >>> [round(number[0].item(), 1) for number in found[:3]]  # the normal distribution has the shape 2
        [2.0, 3.0, 3.0]
    """
    left, right = (
        torch.where(share > 0, (square.clamp(min=0) / share), torch.nan).sqrt()
        for square, share in (
            (moments.square - moments.signed, moments.counted - moments.balance),
            (moments.square + moments.signed, moments.counted + moments.balance),
        )
    )
    balance = left / right
    ratio = moments.magnitude**2 / moments.square
    ratio = ratio * (balance**3 + 1) * (balance + 1) / (balance**2 + 1) ** 2
    shape, per_deviation, per_scale = _shape(ratio)
    left_scale, right_scale = left * per_deviation, right * per_deviation
    return Sides(shape, left, right, left_scale, right_scale, (right_scale - left_scale) * per_scale)


def generalised_gaussian(moments: Moments) -> tuple[Tensor, Tensor]:
    """Fit a generalised Gaussian about zero by moments (Sharifi and Leon-Garcia, 1995).

    Returns:
        float64 (...): shape in 0.2..10 on a grid of 0.001, and mean square; the shape of zeros alone is NaN.

    Example:
        >>> shape, square = generalised_gaussian(moments(torch.tensor([[[-1.0, 1.0]]])))
        >>> round(shape[0].item(), 3), round(square[0].item(), 6)  # as light as tails can be
        (10.0, 1.0)
    """
    return _shape(moments.magnitude**2 / moments.square)[0], moments.square


def _shape(ratio: Tensor) -> Tensor:
    """Return the shape whose ratio lies nearest and what depends on it (3, ...), NaN where there is none."""
    ratios, table = _shape_table(ratio.device)
    above = torch.searchsorted(ratios, ratio.contiguous()).clamp(1, len(ratios) - 1)
    nearest = torch.where(ratio - ratios[above - 1] <= ratios[above] - ratio, above - 1, above)
    return torch.where(ratio.isfinite(), table[:, nearest], torch.nan)


@cache
def _shape_table(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the ratios of all shapes; and the shapes a, scale / deviation, and Gamma(2/a) / Gamma(1/a)."""
    with torch.inference_mode(False):
        shape = torch.arange(200, 10001, dtype=torch.float64, device=device) / 1000
        one, two, three = (torch.lgamma(count / shape) for count in (1, 2, 3))
        table = torch.stack([shape, ((one - three) / 2).exp(), (two - one).exp()])
        return (2 * two - one - three).exp(), table
