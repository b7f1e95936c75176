"""The pristine model of NIQE: a Gaussian of the features of pristine patches, and the distance from it.

Mittal, Soundararajan and Bovik, IEEE Signal Processing Letters 20 (2013); a model is fitted to videos or read
from the authors' file.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.errors import InputError, reason
from datamodules.files.arrays import read_arrays
from datamodules.teachers.natural_scenes.niqe_features import patch_features, patch_sharpness

PATCH_SHARPNESS = 0.75
"""Pristine patches are the patches above this share of the largest patch sharpness of their frame."""

LEAST_VIDEOS = 8
"""Least number of videos whose patches make a model: it needs several scenes."""


class PristineModel(NamedTuple):
    """Gaussian of the features of pristine patches: mean (36,) and covariance (36, 36), float64."""

    mean: Tensor
    covariance: Tensor


def niqe(frames: Tensor, model: PristineModel, known: Tensor | None = None) -> Tensor:
    """Return the NIQE distance of frames of luma (B, H, W) in 0..255: (B,), 0 or more, lower is better.

    A frame without texture in any patch has the distance NaN.

    Args:
        frames: whose distance is asked.
        model: of pristine patches.
        known: what `normalise` returned for the frames, where that is known.
    """
    features = patch_features(frames, known)
    known = features.isfinite()
    count = known.sum(dim=1)
    mean = torch.where(known, features, 0).sum(dim=1) / count
    whole = known.all(dim=2, keepdim=True)
    covariance = _covariance(features, whole)
    difference = model.mean.to(mean) - mean
    pooled = (model.covariance.to(mean) + covariance) / 2
    finite = difference.isfinite().all(dim=1)
    inverse = torch.linalg.pinv(pooled, hermitian=True)
    difference = torch.where(finite[:, None], difference, 0)
    distance = torch.einsum("bi,bij,bj->b", difference, inverse, difference).clamp(min=0).sqrt()
    return torch.where(finite, distance, torch.nan)


def _covariance(features: Tensor, whole: Tensor) -> Tensor:
    """Return the covariance (B, F, F) over the whole patches (B, P, 1); 0 where fewer than two are whole."""
    count = whole.sum(dim=1, keepdim=True)
    values = torch.where(whole, features, 0)
    centred = torch.where(whole, features - values.sum(dim=1, keepdim=True) / count, 0)
    return centred.mT @ centred / (count - 1).clamp(min=1)


def fit_pristine(videos: Iterable[Tensor], sharpest: float = 1.0) -> PristineModel:
    """Fit the model of pristine patches to frames of luma.

    As published, a frame gives the patches whose sharpness is over three quarters of the sharpness of its
    sharpest patch. Two things are ours. Of videos that nobody vouches for only the share with the sharpest
    chosen patches is taken; noisy videos pass for sharp, which is a reason to name a pristine model. And the
    covariance is shrunk towards its diagonal with the weight of 36 patches, so that a handful of clips gives
    a usable model and many clips give the published model.

    Args:
        videos: for each video the luma of its frames, (T, H, W) in 0..255; gone through once.
        sharpest: share of the videos to keep, in (0, 1]; never fewer than `LEAST_VIDEOS`.

    Raises:
        InputError: fewer than two patches have any texture.
    """
    candidates: list[tuple[float, Tensor]] = []
    for frames in videos:
        features, sharpness = patch_features(frames), patch_sharpness(frames)
        sharp = sharpness > PATCH_SHARPNESS * sharpness.amax(dim=1, keepdim=True)
        chosen = sharp & features.isfinite().all(dim=2)
        if chosen.any():
            candidates.append((sharpness[chosen].mean().item(), features[chosen]))
    candidates.sort(key=lambda candidate: -candidate[0])
    kept = candidates[: max(LEAST_VIDEOS, round(sharpest * len(candidates)))]
    rows = torch.cat([features for _, features in kept]) if kept else torch.empty(0, 36, dtype=torch.float64)
    count, width = rows.shape
    if count < 2:
        raise InputError(
            f"A pristine model of NIQE must have 2 or more patches with texture; got {count}: give more "
            "videos, or a pristine model file."
        )
    covariance = torch.cov(rows.T)
    diagonal = torch.diag(covariance.diagonal())
    return PristineModel(rows.mean(dim=0), (count * covariance + width * diagonal) / (count + width))


def load_pristine(path: Path) -> PristineModel:
    """Read a pristine model from a .mat or .npz file.

    The names in the file are those of the authors' release (`pop_mu`, `pop_cov`) or of BasicSR
    (`mu_pris_param`, `cov_pris_param`).

    Raises:
        InputError: the file cannot be read or holds no such model.
    """
    try:
        arrays = read_arrays(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"The pristine model {path} cannot be read ({reason(error)}); give a .mat or .npz file."
        ) from error
    for mean, covariance in (("pop_mu", "pop_cov"), ("mu_pris_param", "cov_pris_param")):
        if mean in arrays and covariance in arrays:
            numbers = [torch.from_numpy(arrays[key].astype(float)) for key in (mean, covariance)]
            if numbers[0].numel() == 36 and numbers[1].shape == (36, 36):
                return PristineModel(numbers[0].flatten(), numbers[1])
    names = ", ".join(arrays)
    raise InputError(
        f"The pristine model {path} must hold pop_mu with 36 values and pop_cov with 36 x 36; got "
        f"{names or 'nothing'}."
    )
