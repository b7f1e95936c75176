"""What compression leaves in a picture: the blocks of JPEG and the false contours of too few tones.

JPEG is ours because kornia's `jpeg_codec_differentiable` is an approximation: its soft rounding lets through
a part of what a real encoder discards, and it takes several times as long on a CPU. Banding is ours because
kornia's `posterize` leaves whole bits of R, G and B. Only the colour conversions are kornia's.
"""

import math

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_grayscale, rgb_to_ycbcr, ycbcr_to_rgb
from torch import Tensor

from datamodules.devices import for_device
from datamodules.distortions.arguments import per_sample

# ITU-T T.81, tables K.1 (luma) and K.2 (chroma): the quantiser's steps at quality 50
_LUMA_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA_STEPS = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *[(99, 99, 99, 99, 99, 99, 99, 99)] * 4,
)

BANDS = 6
"""Steps from black to white that `banding` cuts the luma into: 42 grey levels of 8 bits each."""


def jpeg(clips: Tensor, strength: Tensor, *_: object) -> Tensor:
    """Encode and decode every frame as baseline JPEG with 4:2:0 chroma (`jpeg_round_trip`).

    Args:
        clips: (B, T, 3, H, W) in [0, 1], any size.
        strength: (B,), libjpeg's quality, 1 to 100. At our levels 40, 20, 12, 6, 3 each step is seen beside
            the step before.

    Returns:
        Tensor (B, T, 3, H, W) in [0, 1].

    Example:
        >>> jpeg(torch.rand(2, 4, 3, 64, 48), torch.tensor([40.0, 3.0])).shape
        torch.Size([2, 4, 3, 64, 48])
    """
    quality = strength.repeat_interleave(clips.shape[1])
    return jpeg_round_trip(clips.flatten(0, 1), quality).view(clips.shape)


def banding(clips: Tensor, strength: Tensor, *_: object) -> Tensor:
    """Draw false contours: move the luma by the share a of its way to the nearest of `BANDS` + 1 values.

    A step of a / `BANDS` stands where a slope crosses the middle between two values, and the slope between
    two steps is flattened, as by a stream's coarse quantiser in skies and in the dark; the chroma is kept.
    Severity is the height of the steps and not their number: a coarser grid has its steps elsewhere, and a
    wall that a fine grid cuts in two may by chance lie within one band of a coarser grid.

    Args:
        clips: (B, T, 3, H, W) in [0, 1].
        strength: (B,), a in (0, 1]; 1 leaves seven values of the BT.601 luma. Our levels are 0.2, 0.4,
            0.7, 1.

    Returns:
        Tensor (B, T, 3, H, W) in [0, 1].

    Example:
        >>> banding(torch.rand(2, 4, 3, 64, 48), torch.tensor([0.2, 1.0])).shape
        torch.Size([2, 4, 3, 64, 48])
    """
    grey: Tensor = rgb_to_grayscale(clips)
    nearest = (grey * BANDS).round_() / BANDS
    return (clips + (nearest - grey) * per_sample(strength)).clamp_(0, 1)


def jpeg_round_trip(images: Tensor, quality: Tensor) -> Tensor:
    """Encode and decode images as baseline JPEG with 4:2:0 chroma.

    ITU-T T.81 with the example tables of its Annex K, scaled by quality as libjpeg does, and with values in
    whole steps of 8 bits where libjpeg keeps them so: within half a grey level of it on average.

    Args:
        images: (N, 3, H, W), RGB in [0, 1], float32 or wider; any size (the edge is repeated up to a multiple
            of 16).
        quality: (N,), from 1 to 100.

    Returns:
        Tensor (N, 3, H, W) in [0, 1].

    Example:
        >>> jpeg_round_trip(torch.rand(2, 3, 63, 49), torch.tensor([40.0, 3.0])).shape
        torch.Size([2, 3, 63, 49])
    """
    height, width = images.shape[-2:]
    padded = F.pad(images, (0, -width % 16, 0, -height % 16), mode="replicate")
    planes = rgb_to_ycbcr(padded) * 255
    # signed, as T.81 has them, and in whole steps of 8 bits; kornia's zero of Cb and Cr is 127.5
    luma = (planes[:, :1] - 128).round_()
    chroma = F.avg_pool2d((planes[:, 1:] - 127.5).round_(), 2).round_()
    percent = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality).floor()
    luma = _code_blocks(luma, _scaled(_LUMA_STEPS, percent))
    chroma = _code_blocks(chroma, _scaled(_CHROMA_STEPS, percent))
    chroma = F.interpolate(chroma, scale_factor=2.0, mode="bilinear").round_()
    decoded: Tensor = ycbcr_to_rgb(torch.cat([luma + 128, chroma + 127.5], dim=1) / 255)
    return decoded[..., :height, :width].clamp(0, 1)


def _scaled(steps: tuple[tuple[int, ...], ...], percent: Tensor) -> Tensor:
    """Return the quantiser's steps (N, 1, 64) at `percent` (N,) of a table, in 8 bits."""
    table = for_device(torch.tensor(steps, dtype=percent.dtype), percent.device).flatten()
    return ((table * percent[:, None] + 50) / 100).floor().clamp(1, 255)[:, None]


def _code_blocks(planes: Tensor, steps: Tensor) -> Tensor:
    """Quantise the DCT of all 8 x 8 blocks of signed planes (N, C, H, W) by steps (N, 1, 64)."""
    number, channels, height, width = planes.shape
    blocks = planes.view(number, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    # the orthonormal DCT-II of both directions as one matrix on the 64 values of a block
    index = torch.arange(8, dtype=planes.dtype, device=planes.device)
    cosines = torch.cos((2 * index + 1) * index[:, None] * (math.pi / 16)) / 2
    cosines[0] /= math.sqrt(2)
    transform = torch.kron(cosines, cosines)
    coefficients = blocks.reshape(number, -1, 64) @ transform.T
    coefficients.div_(steps).round_().mul_(steps)
    decoded = (coefficients @ transform).view(number, channels, height // 8, width // 8, 8, 8)
    return decoded.round_().clamp_(-128, 127).transpose(3, 4).reshape(planes.shape)
