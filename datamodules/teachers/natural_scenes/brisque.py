"""BRISQUE: what people said of distorted pictures, learnt from the local statistics of luma.

Mittal, Moorthy and Bovik, "No-reference image quality assessment in the spatial domain", IEEE Transactions on
Image Processing 21 (2012): 36 features as the authors' release computes them, and their support vector
machine, which comes with the package. It was fitted to LIVE's blur, noise, JPEG, JPEG 2000 and fading.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.devices import in_float64
from datamodules.teachers.by_frame import by_frame
from datamodules.teachers.natural_scenes.statistics import (
    SHIFTS,
    asymmetric_gaussian,
    generalised_gaussian,
    halve,
    normalise,
)
from datamodules.teachers.teacher import Teacher
from datamodules.video import Sampling, luma

PUBLISHED = Path(__file__).with_name("published") / "brisque.npz"
"""The authors' machine, from libsvm's text: Apache-2.0, see the licence beside it."""


class Machine(NamedTuple):
    """A support vector regression with radial basis functions; features are brought to [-1, 1] first.

    Attributes:
        support_vectors: (N, 36) in [-1, 1].
        coefficients: (N,) of the support vectors.
        gamma: of exp(-gamma |x - v|^2), ().
        rho: what is taken off the weighted sum, ().
        lowest: features that become -1, (36,).
        highest: features that become 1, (36,).
    """

    support_vectors: Tensor
    coefficients: Tensor
    gamma: Tensor
    rho: Tensor
    lowest: Tensor
    highest: Tensor


@cache
def published_machine(device: torch.device) -> Machine:
    """Return the machine that comes with the package, float64.

    Example:
        >>> published_machine(torch.device("cpu")).support_vectors.shape
        torch.Size([770, 36])
    """
    with np.load(PUBLISHED, allow_pickle=False) as file:
        return Machine(*(torch.from_numpy(file[name]).to(device).double() for name in Machine._fields))


def brisque_features(frames: Tensor) -> Tensor:
    """Return the 36 features of each frame.

    At full and at half scale the features are shape and mean square of the normalised luma (2), and for each
    of four neighbour directions the shape, the mean, and the mean square left and right of zero of the
    products (4 x 4).

    Args:
        frames: luma (B, H, W) in 0..255, of 7 lines and columns or more.

    Returns:
        float64 (B, 36); NaN for a frame of one colour.

    Example:
        >>> brisque_features(torch.rand(2, 64, 48) * 255).shape
        torch.Size([2, 36])
    """
    frames = in_float64(frames)
    textured = frames.flatten(1).amax(dim=1) > frames.flatten(1).amin(dim=1)  # zeros around it are no texture
    features: list[Tensor] = []
    for scale in (1, 2):
        normalised = normalise(frames, border="constant")[0].float()
        features += generalised_gaussian(normalised)
        for shift in SHIFTS:
            sides = asymmetric_gaussian(normalised * normalised.roll(shift, dims=(-2, -1)))
            features += [sides.shape, sides.mean, sides.left**2, sides.right**2]
        if scale == 1:
            frames = halve(frames)
    return torch.where(textured[:, None], torch.stack(features, dim=-1), torch.nan)


def brisque(frames: Tensor) -> Tensor:
    """Return BRISQUE of frames of luma (B, H, W) in 0..255: (B,), about 0..100, lower is better.

    A frame without texture has the score NaN.

    Example:
        >>> brisque(torch.full((1, 64, 64), 16.0)).item()
        nan
    """
    features = brisque_features(frames)
    machine = published_machine(features.device)
    scaled = 2 * (features - machine.lowest) / (machine.highest - machine.lowest) - 1
    distance = (scaled[:, None] - machine.support_vectors).square().sum(dim=-1)
    return (-machine.gamma * distance).exp() @ machine.coefficients - machine.rho


class BRISQUE(Teacher):
    """BRISQUE with the sign turned, so that higher is better.

    Args:
        segments: single frames taken over the duration.
        window: frames larger than this are cut to a square of this side, in pixels.
        device: where frames are scored.
    """

    in_workers = True

    def __init__(
        self, segments: int = 4, window: int | None = 512, device: str | torch.device = "cpu"
    ) -> None:
        super().__init__("brisque", Sampling(segments=segments, frames=1, window=window), device=device)

    def score(self, clips: Tensor) -> Tensor:
        """Score clips (B, T, C, H, W) in [0, 1]: (B,), minus the mean over frames with texture."""
        return -by_frame(lambda frames: brisque(luma(frames * 255).round()), clips).nanmean(dim=1)
