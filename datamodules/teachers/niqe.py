"""NIQE: how far the local statistics of a frame lie from those of pristine frames, without any human score.

Mittal, Soundararajan and Bovik, "Making a completely blind image quality analyzer", IEEE Signal Processing
Letters 20 (2013), as a batched computation that agrees with the authors' release: the shape of every
distribution is found by table look-up for all patches at once, and nothing loops over patches.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.io
import torch
import torch.nn.functional as F
from scipy.io.matlab import MatReadError
from torch import Tensor

from datamodules.corpus import build_corpus, videos
from datamodules.errors import InputError
from datamodules.labels import ClipDataset, Request
from datamodules.teachers.teacher import Teacher
from datamodules.video import Sampling, Video, luma

PATCH = 96
"""Side of a patch in pixels at full scale; half of it at half scale."""

PATCH_SHARPNESS = 0.75
"""Pristine patches are those above this share of the largest patch sharpness of their frame."""

FIT_VIDEOS = 256
"""Videos of the train split that the default pristine model looks at."""

FLAT = 1e-6
"""Differences from the local mean that are rounding errors, code values; real ones are above 1e-4."""

SHARPEST_VIDEOS, LEAST_VIDEOS = 0.5, 8
"""Share and least number of those videos whose patches, the sharpest of all, make the default pristine model:
videos in the wild are not all pristine, but a model needs several scenes. Fixed before any score was seen."""

NO_MODEL = "NIQE has no pristine model; prepare it with the train split, or name a model or videos."

_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))  # neighbours multiplied: right, below, both diagonals


class PristineModel(NamedTuple):
    """Gaussian of the features of pristine patches: mean (36,) and covariance (36, 36), float64."""

    mean: Tensor
    covariance: Tensor


def niqe(frames: Tensor, model: PristineModel) -> Tensor:
    """Return the NIQE distance of frames of luma (B, H, W) in 0..255: (B,), 0 or more, lower is better.

    NaN for a frame of which no patch has any texture.
    """
    features, _ = patch_features(frames)
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
    """Covariance (B, F, F) over the patches that are whole (B, P, 1); zero where fewer than two are."""
    count = whole.sum(dim=1, keepdim=True)
    values = torch.where(whole, features, 0)
    centred = torch.where(whole, features - values.sum(dim=1, keepdim=True) / count, 0)
    return centred.mT @ centred / (count - 1).clamp(min=1)


def patch_features(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Return the 36 features of each patch and the patch's sharpness.

    Features are, at full and at half scale, the shape and the mean scale of the normalised luma (2), and for
    each of four neighbour directions the shape, mean, left and right scale of the products (4 x 4).

    Args:
        frames: luma (B, H, W) in 0..255; what does not fill a patch at the right and bottom is left out. A
            frame smaller than a patch is one patch of its largest even side.

    Returns:
        features float64 (B, P, 36), NaN where a flat patch has none, and sharpness (B, P): the mean local
        standard deviation.
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
    # A sum over taps, for torch has no fast convolution in the double precision that flat areas need.
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
    # Flat areas must give zeros, which count for neither side, and not the signs of rounding errors.
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


def fit_pristine(videos: Iterable[Tensor], sharpest: float = 1.0) -> PristineModel:
    """Fit the model of pristine patches to frames of luma.

    As published, a frame gives those of its patches whose sharpness is over three quarters of its sharpest
    one. Ours: of videos that nobody vouches for only the share with the sharpest chosen patches is taken
    (noisy ones pass for sharp: a reason to name a pristine model); and the covariance is shrunk towards its
    diagonal with the weight of 36 patches, so that a handful of clips gives a usable model
    and many give the published one.

    Args:
        videos: for each video the luma of its frames, (T, H, W) in 0..255; gone through once.
        sharpest: share of the videos to keep, in (0, 1]; never fewer than `LEAST_VIDEOS`.

    Raises:
        InputError: if fewer than two patches have any texture.
    """
    candidates: list[tuple[float, Tensor]] = []
    for frames in videos:
        features, sharpness = patch_features(frames)
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
            f"NIQE found texture in {count} patches, too few for a pristine model; "
            "give more videos, or a pristine model file."
        )
    covariance = torch.cov(rows.T)
    diagonal = torch.diag(covariance.diagonal())
    return PristineModel(rows.mean(dim=0), (count * covariance + width * diagonal) / (count + width))


def load_pristine(path: Path) -> PristineModel:
    """Read a pristine model from a .mat or .npz file.

    Its names are those of the authors' release (`pop_mu`, `pop_cov`) or of BasicSR (`mu_pris_param`,
    `cov_pris_param`).

    Raises:
        InputError: if the file cannot be read or holds no such model.
    """
    try:
        if path.suffix.lower() == ".mat":
            arrays: Mapping[str, np.ndarray] = scipy.io.loadmat(path)
        else:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
    except (OSError, ValueError, NotImplementedError, MatReadError) as error:  # loadmat: not for MATLAB 7.3
        raise InputError(
            f"The pristine model {path} cannot be read ({error}); give a .mat or .npz file."
        ) from error
    for mean, covariance in (("pop_mu", "pop_cov"), ("mu_pris_param", "cov_pris_param")):
        if mean in arrays and covariance in arrays:
            numbers = [torch.from_numpy(arrays[key].astype(float)) for key in (mean, covariance)]
            if numbers[0].numel() == 36 and numbers[1].shape == (36, 36):
                return PristineModel(numbers[0].flatten(), numbers[1])
    names = ", ".join(name for name in arrays if not name.startswith("__"))
    raise InputError(
        f"The pristine model {path} holds {names or 'nothing'}; it needs pop_mu with 36 values and pop_cov "
        "with 36 x 36."
    )


class NIQE(Teacher):
    """NIQE with the sign turned, so that higher is better.

    The default pristine model is fitted to the sharpest of the train split, out of at most `FIT_VIDEOS` of it
    with the smallest ids: ids are hashes of content, so these are a random sample that hardly changes as a
    large corpus grows, and with it the fingerprint, which names the videos and not the numbers fitted to them
    (those differ in the last digit between machines). For scores that stay the same whatever the corpus, name
    a pristine model or pristine videos.

    Args:
        pristine: a model (.npz, .mat) or videos (a folder, file, glob or manifest); None: the train split.
        segments: single frames taken over the duration.
        window: frames larger than this are cut to a square of this side, in pixels.
        device: where frames are scored.
        name: under which the scores are stored; "niqe" by default.

    Raises:
        InputError: if `pristine` is neither a model nor names videos that can be read.
    """

    def __init__(
        self,
        pristine: str | None = None,
        segments: int = 4,
        window: int | None = 512,
        device: str | torch.device = "cpu",
        name: str | None = None,
    ) -> None:
        sampling = Sampling(segments=segments, frames=1, window=window)
        super().__init__(name or "niqe", sampling, device=device)
        self.pristine = pristine
        self.model: PristineModel | None = None
        self._videos: list[Video] = []
        if pristine is not None and Path(pristine).suffix.lower() in (".npz", ".mat"):
            self.model = load_pristine(Path(pristine))
        elif pristine is not None:
            self._videos = videos(build_corpus(pristine, progress=False))

    def prepare(self, train: Sequence[Video]) -> None:
        """Take note of the videos on which the default model is to be fitted."""
        if self.pristine is None:
            readable = [video for video in train if video.status == "ok"]
            chosen = sorted(readable, key=lambda video: video.video_id)[:FIT_VIDEOS]
            if chosen != self._videos:
                self._videos, self.model = chosen, None

    @property
    def settings(self) -> Mapping[str, object]:
        """Also the pristine model: a hash of the file's, or the ids of the videos that it is fitted to."""
        if self._videos:
            fitted_to: object = sorted(video.video_id for video in self._videos)
        elif self.model is not None:
            fitted_to = hashlib.sha256(b"".join(part.numpy().tobytes() for part in self.model)).hexdigest()
        else:
            raise InputError(NO_MODEL)
        return {**super().settings, "pristine": fitted_to, "sharpest": self._sharpest}

    @property
    def _sharpest(self) -> float:
        return SHARPEST_VIDEOS if self.pristine is None else 1.0

    def fit(self, workers: int) -> None:
        """Fit the pristine model, unless there is one."""
        if self.model is None:
            if not self._videos:
                raise InputError(NO_MODEL)
            dataset = ClipDataset([Request(video) for video in self._videos], self.sampling, pad=False)
            planes = (luma(item.frames[0].to(self.device)).round() for item in dataset.read(workers))
            self.model = fit_pristine(planes, self._sharpest)

    def score(self, clips: Tensor) -> Tensor:
        """Score clips (B, T, C, H, W) in [0, 1]: (B,), minus the mean distance over frames with texture."""
        if self.model is None:
            raise InputError(NO_MODEL)
        distance = niqe(luma(clips * 255).round().flatten(0, 1), self.model)
        return -distance.view(clips.shape[:2]).nanmean(dim=1)
