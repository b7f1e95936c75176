"""What the vision tower is shown of a frame: the whole picture resized, native pixels of it, or both.

Resizing keeps composition and loses the fine detail in which much of quality lies; native pixels keep it and
lose the rest. Every view takes the same places in all frames of a clip, so that nothing moves that did not
move before.
"""

from collections.abc import Callable
from itertools import pairwise
from math import ceil
from typing import Literal, cast

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from datamodules.checks import check_that

View = Literal["resize", "crop", "fragments", "resize_fragments"]

VIEWS: dict[View, int] = {"resize": 1, "crop": 1, "fragments": 1, "resize_fragments": 2}
"""The views, and how many pictures each makes of a frame."""

NATIVE: tuple[View, ...] = ("crop", "fragments", "resize_fragments")
"""Views that show native pixels, as many of them as the tower takes."""

FRAGMENT = 2
"""Side of a fragment in tower patches: 28 or 32 pixels in published towers (FAST-VQA: 32), 16 in the embedded
one, and whole language tokens where 2 x 2 patches are merged into one."""


def view(
    clips: Tensor,
    name: View,
    size: tuple[int, int],
    patch: int,
    resize: Callable[[Tensor, tuple[int, int]], Tensor],
) -> Tensor:
    """Show clips as the tower is to see them.

    Where native pixels are asked for, frames smaller than the tower's picture are first enlarged to cover it,
    as FAST-VQA does: an old upload is scored and not refused.

    Args:
        clips: (N, T, 3, H, W) in [0, 1].
        name: one of `VIEWS`. "resize_fragments" is the pair of views of DOVER (Wu et al., ICCV 2023) in one
            sequence: all frames resized, then the fragments of all frames, since a tower may merge frames
            that follow each other. At equal tokens the pair leaves half as many frames or a smaller picture.
        size: height h and width w of the tower's picture in pixels.
        patch: side of the tower's patches in pixels.
        resize: brings clips to a height and a width by the interpolation that the tower was trained with.

    Returns:
        Pictures (N, T * VIEWS[name], 3, h, w) in [0, 1], each view's in order of time.

    Example:
        >>> clips = torch.rand(2, 4, 3, 90, 160)
        >>> resize = lambda clips, size: transforms.resize(clips, list(size))
        >>> view(clips, "resize_fragments", (64, 64), patch=8, resize=resize).shape
        torch.Size([2, 8, 3, 64, 64])
    """
    if name == "resize":
        return resize(clips, size)
    if name == "crop":
        return crop(_enlarge(clips, size), size)
    pieces = fragments(_enlarge(clips, size), size, patch)
    return pieces if name == "fragments" else torch.cat([resize(clips, size), pieces], dim=1)


def crop(clips: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut the centre of every frame in native pixels.

    Args:
        clips: (N, T, 3, H, W), at least as large as `size`.
        size: height h and width w in pixels.

    Returns:
        (N, T, 3, h, w).

    Example:
        >>> crop(torch.rand(2, 4, 3, 90, 160), (64, 48)).shape
        torch.Size([2, 4, 3, 64, 48])
    """
    return cast(Tensor, transforms.center_crop(clips, list(size)))


def fragments(clips: Tensor, size: tuple[int, int], patch: int) -> Tensor:
    """Splice small native pieces from all over the frame into one picture.

    Grid mini-patch sampling of FAST-VQA (Wu et al., ECCV 2022): a piece from each cell of a uniform grid, the
    same places in every frame. Here a piece comes from the middle of its cell instead of a random place, so
    that a clip has one score, and its sides are `FRAGMENT` tower patches (one more where their number is
    odd), so that no tower patch lies across a seam. Frames of just this size stay as they are.

    Args:
        clips: (N, T, 3, H, W), at least as large as `size`.
        size: height h and width w in pixels; pixels that a tower leaves over beyond whole patches belong to
            the last pieces.
        patch: side of the tower's patches in pixels.

    Returns:
        (N, T, 3, h, w), every pixel a copy of one of the frame.

    Example:
        >>> fragments(torch.rand(2, 4, 3, 90, 160), (64, 64), patch=8).shape
        torch.Size([2, 4, 3, 64, 64])
    """
    rows, columns = (
        _places(native, length, patch, clips.device)
        for native, length in zip(clips.shape[-2:], size, strict=True)
    )
    return clips.index_select(-2, rows).index_select(-1, columns)


def _places(native: int, length: int, patch: int, device: torch.device) -> Tensor:
    """Return the row (or column) of the frame that each of `length` rows of the spliced picture shows."""
    patches = length // patch
    pieces = max(1, patches // FRAGMENT)
    seams = [patch * (patches * index // pieces) for index in range(pieces)] + [length]
    found = []
    for start, end in pairwise(seams):
        middle = (start + end) / 2 * native / length
        first = int(middle - (end - start) / 2)
        found.append(torch.arange(first, first + end - start, device=device))
    return torch.cat(found)


def _enlarge(clips: Tensor, size: tuple[int, int]) -> Tensor:
    factor = max(wanted / native for wanted, native in zip(size, clips.shape[-2:], strict=True))
    if factor <= 1:
        return clips
    # Rounded up, since a side one pixel short could not be cut; less what the division's last digit adds.
    covering = [ceil(factor * native - 1e-6) for native in clips.shape[-2:]]
    return cast(Tensor, transforms.resize(clips, covering, antialias=False))


def require_native(name: View, window: int | None, size: tuple[int, int]) -> None:
    """Refuse a window from which a view could only show enlarged pixels.

    Whole frames (no window) pass: there a small video is a fact of the corpus and not of the settings.

    Args:
        name: one of `VIEWS`.
        window: side of the clips' square window in native pixels.
        size: height and width of the tower's picture.

    Raises:
        InputError: the view shows native pixels and the window has too few of them.

    Example:
        >>> require_native("crop", 64, (64, 64))
        >>> require_native("resize", 48, (64, 64))
    """
    if name in NATIVE and window is not None:
        must_be = f"{max(size)} or more for model.lmm.view {name}, or the view must be resize"
        check_that(window >= max(size), "model.sampling.window", must_be, window)
