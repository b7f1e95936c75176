"""A teacher that measures what goes wrong with pictures: blocks, blur, noise and exposure.

Each of the four is a published no-reference measure, brought to [0, 1] by a constant that follows from its
definition. The score is their geometric mean, so that one bad fault cannot hide behind three virtues. Nothing
was fitted to any human or hidden score.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.teachers.pictures import Picture, PictureTeacher
from datamodules.video import Sampling

BLOCK = 8
"""Transform block of JPEG, MPEG and (in multiples) their successors, pixels."""

STEP = 1 / 255
"""One step of 8-bit code values: differences below it are no structure."""

NOISE_AT_HALF = 255 / 10 ** (30 / 20) * STEP
"""Noise deviation that halves the score: a PSNR of 30 dB, below which noise is commonly called visible (8 of
255)."""

NOISE_BLOCK = 16

NOISE_QUANTILE = 0.1
"""The noise of a frame is the noise of its flattest tenth of blocks, which texture cannot explain."""

MID_TONE, TONE_WIDTH = 0.5, 0.2
"""Centre and width of well-exposed tones, from Mertens, Kautz and Van Reeth (2007)."""


def blockiness(y: Tensor) -> Tensor:
    """Return how well the block grid hides, in (0, 1]; 1: no grid of eight pixels stands out.

    After Wang, Sheikh and Bovik (ICIP 2002): the mean absolute difference inside blocks over the mean
    absolute difference across their boundaries. The boundary is the phase with the largest difference, since
    a window may begin anywhere in a block.

    Args:
        y: luma (B, H, W) in [0, 1].
    """
    hidden = []
    for values in (y, y.mT):
        profile = values.diff(dim=-1).abs().mean(dim=-2)
        whole = profile.shape[-1] // BLOCK * BLOCK
        if not whole:  # narrower than a block
            continue
        phases = profile[:, :whole].reshape(len(y), -1, BLOCK).mean(dim=1)
        boundary = phases.amax(dim=1)
        interior = (phases.sum(dim=1) - boundary) / (BLOCK - 1)
        hidden.append((interior + STEP) / (boundary + STEP))
    return torch.stack(hidden).mean(dim=0) if hidden else torch.ones_like(y[:, 0, 0])


def sharpness(y: Tensor) -> Tensor:
    """Return 1 - the blur of Crete, Dolmiere, Ladret and Nicolas (SPIE 6492, 2007), in [0, 1].

    Sharpness is the share of the differences between neighbours that a nine-tap mean filter takes away: much
    in a sharp frame, little in a frame that was blurred before. It is a ratio, so the content's contrast
    cancels.

    Args:
        y: luma (B, H, W) in [0, 1].
    """
    lost = []
    for dim in (1, 2):
        first, last = y.narrow(dim, 0, 1), y.narrow(dim, -1, 1)
        padded = torch.cat([first] * 4 + [y] + [last] * 4, dim=dim)
        # Neighbouring means share eight of their nine values.
        length = y.shape[dim] - 1
        after = padded.narrow(dim, 9, length).sub(padded.narrow(dim, 0, length)).abs_()
        before = y.diff(dim=dim).abs_()
        taken = before.sub(after, alpha=1 / 9).clamp_(min=0).sum(dim=(1, 2))
        lost.append(taken / before.sum(dim=(1, 2)).clamp(min=1e-9))
    return torch.stack(lost).amin(dim=0)  # a frame that is blurred along one direction is blurred


def noise(y: Tensor) -> Tensor:
    """Estimate the deviation of white noise, (B,), in units of y.

    The operator is Immerkaer's, the second difference down and across (CVIU 64, 1996), which cancels planes
    and edges. Its mean is taken in blocks and the lowest decile of the blocks counts, since texture only adds
    to it.

    Args:
        y: luma (B, H, W) in [0, 1].
    """
    response = y.diff(n=2, dim=1).diff(n=2, dim=2).abs_()
    block = min(NOISE_BLOCK, *response.shape[-2:])
    blocks = F.avg_pool2d(response, block).flatten(1)
    # A unit normal has mean absolute value sqrt(2 / pi); the norm of the operator's kernel is 6.
    return blocks.quantile(NOISE_QUANTILE, dim=1) * math.sqrt(math.pi / 2) / 6


def exposure(y: Tensor) -> Tensor:
    """Return the share of pixels that are not clipped, times how well exposed the mean tone is, in [0, 1].

    Args:
        y: luma (B, H, W) in [0, 1].
    """
    clipped = ((y <= STEP) | (y >= 1 - STEP)).to(y.dtype).mean(dim=(1, 2))
    return (1 - clipped) * torch.exp(-((y.mean(dim=(1, 2)) - MID_TONE) ** 2) / (2 * TONE_WIDTH**2))


def virtue(y: Tensor) -> Tensor:
    """Return the geometric mean of the four measures, noise n as 1 / (1 + (n / NOISE_AT_HALF)^2).

    Args:
        y: luma (B, H, W) in [0, 1].

    Returns:
        (B,) in [0, 1], higher better.
    """
    clean = 1 / (1 + (noise(y) / NOISE_AT_HALF) ** 2)
    faults = torch.stack([blockiness(y), sharpness(y), clean, exposure(y)])
    return faults.clamp(min=1e-6).log().mean(dim=0).exp()


class Artefacts(PictureTeacher):
    """The geometric mean of four measures, `virtue`, of single frames.

    Args:
        segments: single frames taken over the duration.
        window: frames larger than this are cut to a square of this side, in pixels.
        device: where frames are scored.
    """

    in_workers = True

    def __init__(
        self, segments: int = 4, window: int | None = 512, device: str | torch.device = "cpu"
    ) -> None:
        super().__init__("artefacts", Sampling(segments=segments, frames=1, window=window), device=device)

    def measure(self, picture: Picture) -> Tensor:
        """Return the virtue of each frame, (N,)."""
        return virtue(picture.luma)
