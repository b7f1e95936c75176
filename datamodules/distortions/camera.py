"""What a hand-held camera in little light adds: noise and shake.

Neither is kornia's: `RandomGaussianNoise` draws at one deviation for all clips from torch's global generator,
and `warp_affine` mirrors about the centre of the last pixel.
"""

import math

import torch.nn.functional as F
from torch import Tensor

from datamodules.distortions.arguments import Generators, draw, per_sample


def gaussian_noise(
    clips: Tensor, strength: Tensor, times: Tensor | None = None, generator: Generators | None = None
) -> Tensor:
    """Add white Gaussian noise, independent for every frame, channel and pixel, then clip.

    Args:
        clips: (B, T, C, H, W) in [0, 1].
        strength: (B,), variance on the scale [0, 1]; W2S-VQA has 0.001, 0.002, 0.003, 0.005, 0.01.
        times: not used.
        generator: where the noise comes from.

    Returns:
        Tensor (B, T, C, H, W) in [0, 1].

    Raises:
        InputError: there is no generator, or it is on another device.

    Example:
        >>> import torch
        >>> seeded = torch.Generator().manual_seed(0)
        >>> grey = torch.full((2, 4, 3, 64, 48), 0.5)
        >>> noisy = gaussian_noise(grey, torch.tensor([0.001, 0.01]), generator=seeded)
        >>> noisy.shape, [round(float(variance), 3) for variance in noisy.var(dim=(1, 2, 3, 4))]
        (torch.Size([2, 4, 3, 64, 48]), [0.001, 0.01])
    """
    noise = draw("gaussian_noise", generator, clips)
    return noise.mul_(per_sample(strength.sqrt())).add_(clips).clamp_(0, 1)


def jitter(
    clips: Tensor, strength: Tensor, times: Tensor | None = None, generator: Generators | None = None
) -> Tensor:
    """Shake the camera: every frame is shifted at random, and a small random crop of it is resized back.

    The shift is 0.75 s to s long and turns by 90 to 270 degrees from frame to frame, so that the picture
    jumps by s to 2 s each time and no draw of a level shakes less than a draw of the level below. The crop
    leaves out up to s pixels at each end of the shorter side; missing pixels are mirrored. s is in pixels,
    not in parts of the frame, since clips are windows at native resolution: a hand's shake or a
    stabiliser's slip is a few pixels, however much of the frame the window shows. All is one bilinear warp
    by `grid_sample`.

    Args:
        clips: (B, T, C, H, W) in [0, 1], H and W well above 2 s; at least two frames, or nothing shakes.
        strength: (B,), s in pixels. W2S-VQA does not give it; our levels 1.5, 4, 10 rise by 2.5 or more.
        times: not used.
        generator: where the draws come from.

    Returns:
        Tensor (B, T, C, H, W) in [0, 1].

    Raises:
        InputError: there is no generator, or it is on another device.

    Example:
        >>> import torch
        >>> seeded = torch.Generator().manual_seed(0)
        >>> jitter(torch.rand(2, 4, 3, 64, 48), torch.tensor([1.5, 10.0]), generator=seeded).shape
        torch.Size([2, 4, 3, 64, 48])
    """
    height, width = clips.shape[-2:]
    count, frames = clips.shape[:2]
    shift, way, crop = draw("jitter", generator, clips).unbind(dim=1)
    length = strength[:, None] * (0.75 + 0.25 * shift)
    turn = math.pi * (0.5 + way)
    turn[:, 0] = 2 * math.pi * way[:, 0]
    angle = turn.cumsum(dim=1)
    margin = strength[:, None] * crop
    # affine_grid measures positions in halves of the frame
    affine = clips.new_zeros(count, frames, 2, 3)
    affine[..., 0, 0] = affine[..., 1, 1] = 1 - 2 * margin / min(height, width)
    affine[..., 0, 2] = 2 / width * length * angle.cos()
    affine[..., 1, 2] = 2 / height * length * angle.sin()
    pictures = clips.flatten(0, 1)
    grid = F.affine_grid(affine.flatten(0, 1), list(pictures.shape), align_corners=False)
    warped = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return warped.view(clips.shape)
