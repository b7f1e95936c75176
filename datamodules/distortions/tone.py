"""Tone and colour: brightness, contrast and saturation, as a wrong exposure or grade changes them.

Contrast and saturation are only taken away: many viewers like more of either, up to a point that depends on
the picture, so that more would have no known order. Their grey is kornia's `rgb_to_grayscale`; kornia's
`adjust_contrast_with_mean_subtraction` and `adjust_saturation_with_gray_subtraction` give the same pixels in
more passes, and its `adjust_gamma` is another curve than the paper's.
"""

from kornia.color import rgb_to_grayscale
from torch import Tensor

from datamodules.distortions.arguments import per_sample


def darken(clips: Tensor, strength: Tensor, *_: object) -> Tensor:
    """Darken by the `tone_curve` through (0.5, 0.5 - 0.5 p), on each of R, G and B.

    Args:
        clips: (B, T, C, H, W) in [0, 1].
        strength: (B,), p in (0, 1]; W2S-VQA has 0.05, 0.1, 0.2, 0.4, 0.8.

    Returns:
        Tensor (B, T, C, H, W) in [0, 1].

    Example:
        >>> import torch
        >>> darken(torch.rand(2, 4, 3, 64, 48), torch.tensor([0.1, 0.8])).shape
        torch.Size([2, 4, 3, 64, 48])
    """
    return tone_curve(clips, 0.5 - 0.5 * strength)


def brighten(clips: Tensor, strength: Tensor, *_: object) -> Tensor:
    """Brighten by the `tone_curve` through (0.5, 0.5 + 0.5 p), on each of R, G and B.

    Args:
        clips: (B, T, C, H, W) in [0, 1].
        strength: (B,), p above 0; W2S-VQA has 0.1, 0.2, 0.4, 0.7, 1.1. From 1 on the upper half of the range
            is white.

    Returns:
        Tensor (B, T, C, H, W) in [0, 1].

    Example:
        >>> import torch
        >>> brighten(torch.rand(2, 4, 3, 64, 48), torch.tensor([0.1, 1.1])).shape
        torch.Size([2, 4, 3, 64, 48])
    """
    return tone_curve(clips, 0.5 + 0.5 * strength)


def contrast(clips: Tensor, strength: Tensor, *_: object) -> Tensor:
    """Take contrast away: move every value by the share c of its distance to the clip's mean grey.

    The mean is that of the BT.601 luma over all frames: a mean of each frame would pump with what passes
    through the picture.

    Args:
        clips: (B, T, 3, H, W) in [0, 1].
        strength: (B,), c in (0, 1]; 1 leaves one grey. Our levels are 0.2, 0.4, 0.6, 0.75, 0.88.

    Returns:
        Tensor (B, T, 3, H, W) in [0, 1].

    Example:
        >>> import torch
        >>> contrast(torch.rand(2, 4, 3, 64, 48), torch.tensor([0.2, 0.88])).shape
        torch.Size([2, 4, 3, 64, 48])
    """
    grey: Tensor = rgb_to_grayscale(clips.mean(dim=(1, 3, 4))[..., None, None])
    return clips.lerp(grey[:, None], per_sample(strength))


def saturation(clips: Tensor, strength: Tensor, *_: object) -> Tensor:
    """Take colour away: move every value by the share s of its distance to the pixel's BT.601 luma.

    Args:
        clips: (B, T, 3, H, W) in [0, 1].
        strength: (B,), s in (0, 1]; 1 leaves a grey picture. Our levels are 0.3, 0.55, 0.8, 1.

    Returns:
        Tensor (B, T, 3, H, W) in [0, 1].

    Example:
        >>> import torch
        >>> saturation(torch.rand(2, 4, 3, 64, 48), torch.tensor([0.3, 1.0])).shape
        torch.Size([2, 4, 3, 64, 48])
    """
    return clips.lerp(rgb_to_grayscale(clips), per_sample(strength))


def tone_curve(clips: Tensor, middle: Tensor) -> Tensor:
    """Map values by the monotone cubic through (0, 0), (0.5, `middle`) and (1, 1), clipped to [0, 1].

    Fritsch and Carlson's interpolant (SIAM J. Numer. Anal. 17, 1980) with the slopes of scipy's
    `PchipInterpolator`: smooth, and unlike a spline or a parabola it neither overshoots nor turns back
    between the points. With `middle` above 1 it turns only above 1, where values are clipped, so that the map
    is monotone for every `middle`.

    Args:
        clips: (B, T, C, H, W) in [0, 1].
        middle: (B,), the value given to 0.5; 0 or more.

    Returns:
        Tensor (B, T, C, H, W) in [0, 1].

    Example:
        >>> import torch
        >>> greys = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 1, 3)
        >>> tone_curve(greys, torch.tensor([0.3])).flatten()
        tensor([0.0000, 0.3000, 1.0000])
    """
    lower, upper = 2 * middle, 2 - 2 * middle  # the slopes of the two chords
    # harmonic mean of the chords (their sum is 2), flat at a turn; at the ends three points give the slope
    inner = (lower * upper).clamp(min=0)
    first = ((3 * lower - upper) / 2).clamp(min=0).minimum(3 * lower)
    last = ((3 * upper - lower) / 2).clamp(min=0).minimum(3 * upper)
    # Hermite's cubic of the lower half in powers of x, and what turns it into the upper half's beyond 0.5
    square = 2 * (3 * lower - 2 * first - inner)
    cube = 4 * (first + inner - 2 * lower)
    added_square = 2 * (3 * upper - 2 * inner - last) - square - 1.5 * cube
    added_cube = 4 * (inner + last - 2 * upper) - cube
    mapped = (
        (per_sample(cube) * clips).add_(per_sample(square)).mul_(clips).add_(per_sample(first)).mul_(clips)
    )
    beyond = (clips - 0.5).clamp_(min=0)
    added = (per_sample(added_cube) * beyond).add_(per_sample(added_square)).mul_(beyond).mul_(beyond)
    return mapped.add_(added).clamp_(0, 1)
