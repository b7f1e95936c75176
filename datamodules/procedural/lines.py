"""Linear filters of lines of pixels as band matrices: products with their blocks are fast on a processor."""

from typing import NamedTuple

import torch
import torch.nn.functional as F

_BLOCK = 64  # outputs of one product: few enough that most of a block is taps


class Block(NamedTuple):
    """Outputs that are a matrix (outputs, stop - start) times the pixels start to stop of a line."""

    start: int
    stop: int
    matrix: torch.Tensor


def _blocks(matrix: torch.Tensor) -> list[Block]:
    found = []
    for rows in torch.split(matrix, _BLOCK):
        used = (rows.abs() > 1e-6).any(0).nonzero().flatten().tolist()
        start, stop = used[0], used[-1] + 1
        found.append(Block(start, stop, rows[:, start:stop].contiguous()))
    return found


def gaussian(size: int, sigma: float) -> list[Block]:
    """Return the blur of a line of `size` pixels, its ends replicated; identity at sigma 0.

    Args:
        size: of the line.
        sigma: pixels, at most 8.
    """
    reach = 24  # over three times the largest sigma that is drawn
    places = torch.arange(-reach, size + reach)
    weights = torch.exp(-0.5 * ((torch.arange(size)[:, None] - places) / max(sigma, 1e-3)) ** 2)
    matrix = weights[:, reach:-reach].clone()
    matrix[:, 0] += weights[:, :reach].sum(1)
    matrix[:, -1] += weights[:, -reach:].sum(1)
    return _blocks(matrix / weights.sum(1, keepdim=True))


def reduced(size: int, factor: float) -> list[Block]:
    """Return what reduces a line by a factor, without aliasing, and enlarges it again, bicubic."""
    line = torch.eye(size)[None, None]
    small = F.interpolate(line, (round(size / factor), size), mode="bilinear", antialias=True)
    return _blocks(F.interpolate(small, (size, size), mode="bicubic")[0, 0])


def along_both(planes: torch.Tensor, down: list[Block], across: list[Block]) -> torch.Tensor:
    """Filter the columns of planes (..., H, W) by one filter and their rows by another.

    Example:
        >>> along_both(torch.tensor([[1.0, 3.0]]), gaussian(1, 0), gaussian(2, 100)).round()
        tensor([[2., 2.]])
    """
    # Rows as columns, too: a product with few columns takes five times as long on a processor.
    turned = _along_columns(planes.transpose(-1, -2).contiguous(), across)
    return _along_columns(turned.transpose(-1, -2).contiguous(), down)


def _along_columns(planes: torch.Tensor, filtering: list[Block]) -> torch.Tensor:
    return torch.cat([matrix @ planes[..., start:stop, :] for start, stop, matrix in filtering], -2)
