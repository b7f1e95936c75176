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

from datamodules.teachers.natural_scenes.distributions import (
    asymmetric_gaussian,
    generalised_gaussian,
    moments,
)
from datamodules.teachers.natural_scenes.normalising import halve, normalise, normalised
from datamodules.teachers.pictures import Picture, PictureTeacher
from datamodules.video import Sampling

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


def brisque_features(frames: Tensor, known: Tensor | None = None) -> Tensor:
    """Return the 36 features of each frame.

    At full and at half scale the features are shape and mean square of the normalised luma (2), and for each
    of four neighbour directions the shape, the mean, and the mean square left and right of zero of the
    products (4 x 4).

    Args:
        frames: luma (B, H, W) in 0..255, of 7 lines and columns or more.
        known: what `normalise` returned for the frames, with either border, where that is known.

    Returns:
        float64 (B, 36); NaN for a frame of one colour.

    Example:
        >>> brisque_features(torch.rand(2, 64, 48) * 255).shape
        torch.Size([2, 36])
    """
    textured = frames.flatten(1).amax(dim=1) > frames.flatten(1).amin(dim=1)  # zeros around it are no texture
    frames = frames.float()
    features: list[Tensor] = []
    for scale in (1, 2):
        found = moments(normalise(frames, "constant", known if scale == 1 else None))
        shape, square = generalised_gaussian(found)
        sides = asymmetric_gaussian(found)
        own = torch.stack([shape[0], square[0]], dim=-1)
        products = torch.stack([sides.shape, sides.mean, sides.left**2, sides.right**2], dim=-1)
        features += [own, *products[1:]]
        if scale == 1:
            frames = halve(frames)
    return torch.where(textured[:, None], torch.cat(features, dim=-1), torch.nan)


def brisque(frames: Tensor, known: Tensor | None = None) -> Tensor:
    """Return BRISQUE of frames of luma (B, H, W) in 0..255: (B,), about 0..100, lower is better.

    A frame without texture has the score NaN. `known` is that of `brisque_features`.

    Example:
        >>> brisque(torch.full((1, 64, 64), 16.0)).item()
        nan
    """
    features = brisque_features(frames, known)
    machine = published_machine(features.device)
    scaled = 2 * (features - machine.lowest) / (machine.highest - machine.lowest) - 1
    distance = torch.cdist(scaled, machine.support_vectors)
    return (-machine.gamma * distance.square()).exp() @ machine.coefficients - machine.rho


class BRISQUE(PictureTeacher):
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

    def measure(self, picture: Picture) -> Tensor:
        """Return minus BRISQUE of each frame, (N,); NaN for frames without texture."""
        return -brisque(picture.codes, picture.once(normalised))
