"""The features of NIQE: how the local statistics of luma are distributed in each patch of a frame.

Mittal, Soundararajan and Bovik, "Making a completely blind image quality analyzer", IEEE Signal Processing
Letters 20 (2013), as a batched computation that agrees with the authors' release: the shape of every
distribution is found by table look-up for all patches at once, and nothing loops over patches.
"""

import torch
from torch import Tensor

from datamodules.devices import in_float64
from datamodules.teachers.natural_scenes.statistics import SHIFTS, asymmetric_gaussian, halve, normalise

PATCH = 96
"""Side of a patch in pixels at full scale; half of it at half scale."""


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
    frames = in_float64(frames)
    side = min(PATCH, min(frames.shape[-2:]) // 2 * 2)
    height, width = (length // side * side for length in frames.shape[-2:])
    frames = frames[:, :height, :width]
    features = []
    sharpness = frames
    for scale in (1, 2):
        normalised, deviation = normalise(frames)
        patches = _patches(normalised.float(), side // scale)
        if scale == 1:
            sharpness = _patches(deviation, side).mean(dim=(-2, -1))
            frames = halve(frames)
        sides = asymmetric_gaussian(patches)
        features += [sides.shape, torch.stack(sides.scales).mean(dim=0)]
        for shift in SHIFTS:
            sides = asymmetric_gaussian(patches * patches.roll(shift, dims=(-2, -1)))
            features += [sides.shape, sides.mean, *sides.scales]
    return torch.stack(features, dim=-1), sharpness


def _patches(values: Tensor, side: int) -> Tensor:
    """Cut (B, H, W) into (B, P, side, side)."""
    count, height, width = values.shape
    return values.view(count, height // side, side, width // side, side).transpose(2, 3).flatten(1, 2)
