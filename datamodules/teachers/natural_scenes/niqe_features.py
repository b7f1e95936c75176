"""The features of NIQE: how the local statistics of luma are distributed in each patch of a frame.

Mittal, Soundararajan and Bovik, "Making a completely blind image quality analyzer", IEEE Signal Processing
Letters 20 (2013), as a batched computation that agrees with the authors' release: the shape of every
distribution is found by table look-up for all patches at once, and nothing loops over patches.
"""

import torch
from torch import Tensor

from datamodules.teachers.natural_scenes.distributions import asymmetric_gaussian, moments
from datamodules.teachers.natural_scenes.normalising import deviation, halve, normalise

PATCH = 96
"""Side of a patch in pixels at full scale; half of it at half scale."""


def patch_features(frames: Tensor, known: Tensor | None = None) -> Tensor:
    """Return the 36 features of each patch.

    At full and at half scale the features are the shape and the mean scale of the normalised luma (2), and
    for each of four neighbour directions the shape, mean, left and right scale of the products (4 x 4).

    Args:
        frames: luma (B, H, W) in 0..255; the rest at the right and bottom that fills no patch is left out. A
            frame smaller than a patch is one patch of its largest even side.
        known: what `normalise` returned for the frames, where that is known.

    Returns:
        float64 (B, P, 36), NaN where a flat patch has no feature.
    """
    frames, side = _whole_patches(frames)
    features = []
    for scale in (1, 2):
        patches = _patches(normalise(frames, known=known if scale == 1 else None), side // scale)
        sides = asymmetric_gaussian(moments(patches))
        scales = sides.left_scale, sides.right_scale
        own = torch.stack([sides.shape[0], (scales[0][0] + scales[1][0]) / 2], dim=-1)
        features += [own, *torch.stack([sides.shape, sides.mean, *scales], dim=-1)[1:]]
        if scale == 1:
            frames = halve(frames)
    return torch.cat(features, dim=-1)


def patch_sharpness(frames: Tensor) -> Tensor:
    """Return the mean local standard deviation (B, P) in each patch of frames (B, H, W) in 0..255."""
    frames, side = _whole_patches(frames)
    return _patches(deviation(frames), side).mean(dim=(-2, -1))


def _whole_patches(frames: Tensor) -> tuple[Tensor, int]:
    """Return the part of frames that patches fill, float32, and the side of a patch."""
    side = min(PATCH, min(frames.shape[-2:]) // 2 * 2)
    height, width = (length // side * side for length in frames.shape[-2:])
    return frames[:, :height, :width].float(), side


def _patches(values: Tensor, side: int) -> Tensor:
    """Cut (B, H, W) into (B, P, side, side)."""
    count, height, width = values.shape
    return values.view(count, height // side, side, width // side, side).transpose(2, 3).flatten(1, 2)
