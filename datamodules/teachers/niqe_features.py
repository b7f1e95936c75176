"""The features of NIQE: how the local statistics of luma are distributed in each patch of a frame.

Mittal, Soundararajan and Bovik, "Making a completely blind image quality analyzer", IEEE Signal Processing
Letters 20 (2013), as a batched computation that agrees with the authors' release: the shape of every
distribution is found by table look-up for all patches at once, and nothing loops over patches.
"""

import math
from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

PATCH = 96
"""Side of a patch in pixels at full scale; half of it at half scale."""

FLAT = 1e-6
"""Differences from the local mean that are rounding errors, code values; real differences are above 1e-4."""

_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))  # neighbours multiplied: right, below, both diagonals


def patch_features(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Return the 36 features of each patch and the patch's sharpness.

    At full and at half scale the features are the shape and the mean scale of the normalised luma (2), and
    for each of four neighbour directions the shape, mean, left and right scale of the products (4 x 4).

    Args:
        frames: luma (B, H, W) in 0..255; the rest at the right and bottom that fills no patch is left out. A
            frame smaller than a patch is one patch of its largest even side.

    Returns:
        features float64 (B, P, 36), NaN where a flat patch has no feature, and sharpness (B, P): the mean
        local standard deviation.
    """
    frames = frames.double()
    side = min(PATCH, min(frames.shape[-2:]) // 2 * 2)
    height, width = (length // side * side for length in frames.shape[-2:])
    frames = frames[:, :height, :width]
    features = []
    sharpness = frames
    for scale in (1, 2):
        normalised, deviation = _normalise(frames)
        patches = _patches(normalised, side // scale)
        if scale == 1:
            sharpness = _patches(deviation, side).mean(dim=(-2, -1))
            frames = halve(frames)
        shape, left, right = asymmetric_gaussian(patches)
        features += [shape, (left + right) / 2]
        for shift in _SHIFTS:
            shape, left, right = asymmetric_gaussian(patches * patches.roll(shift, dims=(-2, -1)))
            # The mean of the distribution: (right - left) Gamma(2/a) / Gamma(1/a), in units of its scales.
            mean = (right - left) * (torch.lgamma(2 / shape) - torch.lgamma(1 / shape)).exp()
            features += [shape, mean, left, right]
    return torch.stack(features, dim=-1), sharpness


def _patches(values: Tensor, side: int) -> Tensor:
    """Cut (B, H, W) into (B, P, side, side)."""
    count, height, width = values.shape
    return values.view(count, height // side, side, width // side, side).transpose(2, 3).flatten(1, 2)


def _convolve(values: Tensor, kernel: Sequence[float], dim: int, step: int = 1) -> Tensor:
    """Convolve one dimension where the kernel fits, keeping every `step`-th result."""
    # A sum over taps: torch has no fast convolution in double precision, which flat areas need.
    length = values.shape[dim] - len(kernel) + 1
    total = values.narrow(dim, 0, length) * kernel[0]
    for tap, weight in enumerate(kernel[1:], start=1):
        total.add_(values.narrow(dim, tap, length), alpha=weight)
    return total.index_select(dim, torch.arange(0, length, step, device=values.device))


def _normalise(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Return (x - mean) / (deviation + 1) and the deviation, local under a 7 x 7 Gaussian of 7/6 pixels."""
    weights = [math.exp(-(tap**2) / (2 * (7 / 6) ** 2)) for tap in range(-3, 4)]
    window = [weight / sum(weights) for weight in weights]
    moments = F.pad(torch.cat([frames, frames**2])[:, None], (3, 3, 3, 3), mode="replicate")[:, 0]
    mean, square = _convolve(_convolve(moments, window, dim=1), window, dim=2).chunk(2)
    deviation = (square - mean**2).abs().sqrt()
    # Flat areas must give zeros, which count for neither side, rather than the signs of rounding errors.
    difference = frames - mean
    return torch.where(difference.abs() > FLAT, difference, 0) / (deviation + 1), deviation


@cache
def _shape_table(device: torch.device) -> tuple[Tensor, Tensor]:
    shape = torch.arange(200, 10001, dtype=torch.float64, device=device) / 1000
    ratio = (2 * torch.lgamma(2 / shape) - torch.lgamma(1 / shape) - torch.lgamma(3 / shape)).exp()
    return shape, ratio


def asymmetric_gaussian(patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fit an asymmetric generalised Gaussian to each patch by moments (Lasmar, Stitou and Berthoumieu, 2009).

    Args:
        patches: (..., H, W).

    Returns:
        shape in 0.2..10 (on a grid of 0.001, as the authors' release searches it), left and right scale, each
        (...); NaN where a side has no values.
    """
    negative, positive = patches < 0, patches > 0
    square = patches**2
    left = ((square * negative).sum(dim=(-2, -1)) / negative.sum(dim=(-2, -1))).sqrt()
    right = ((square * positive).sum(dim=(-2, -1)) / positive.sum(dim=(-2, -1))).sqrt()
    balance = left / right
    ratio = patches.abs().mean(dim=(-2, -1)) ** 2 / square.mean(dim=(-2, -1))
    ratio = ratio * (balance**3 + 1) * (balance + 1) / (balance**2 + 1) ** 2
    shapes, ratios = _shape_table(patches.device)
    above = torch.searchsorted(ratios, ratio.contiguous()).clamp(1, len(ratios) - 1)
    nearest = torch.where(ratio - ratios[above - 1] <= ratios[above] - ratio, above - 1, above)
    shape = torch.where(ratio.isfinite(), shapes[nearest], torch.nan)
    # From standard deviation to the scale parameter of the density.
    scale = ((torch.lgamma(1 / shape) - torch.lgamma(3 / shape)) / 2).exp()
    return shape, left * scale, right * scale


def halve(frames: Tensor) -> Tensor:
    """Halve (B, H, W), both even, as MATLAB's imresize: antialiased cubic convolution, mirrored borders."""
    # The cubic (a = -1/2) at twice its width: taps .25, .75, 1.25 and 1.75 to either side; they sum to 2.
    half = [(1.5 * d**3 - 2.5 * d**2 + 1) / 2 for d in (0.25, 0.75)]
    half += [(-0.5 * d**3 + 2.5 * d**2 - 4 * d + 2) / 2 for d in (1.25, 1.75)]
    kernel = half[::-1] + half
    for dim in (1, 2):
        # Mirroring that repeats the border pixel; torch's "reflect" does not.
        first, last = frames.narrow(dim, 0, 3).flip(dim), frames.narrow(dim, -3, 3).flip(dim)
        frames = _convolve(torch.cat([first, frames, last], dim=dim), kernel, dim, step=2)
    return frames
