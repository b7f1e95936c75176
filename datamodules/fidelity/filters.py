"""Separable filters as products with band matrices, which hold borders and strides as well as the taps.

A product with blocks of a band matrix takes a tenth of the time of a convolution of one channel on a
processor, and needs no padded copy of the frame.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.devices import for_device

_BLOCK = 64  # outputs of one product: few enough that most of a block is taps, enough to fill the processor


class Block(NamedTuple):
    """Filtered positions that are a matrix (outputs, stop - start) times the positions start to stop."""

    start: int
    stop: int
    matrix: Tensor


class Filter(NamedTuple):
    """A filter along one axis.

    Args:
        taps: the weights.
        lead: number of taps before the output's own position.
        stride: step from output to output.
        repeats: whether the last position is repeated beyond the end (abc|cb), and a size that the stride
            does not divide is rounded up; else neither (abc|ba). The first position is never repeated.
    """

    taps: tuple[float, ...]
    lead: int
    stride: int = 1
    repeats: bool = False


@lru_cache(maxsize=256)
def blocks(filtering: Filter, size: int, device: torch.device) -> tuple[Block, ...]:
    """Return the band matrix of a filter over `size` positions, in blocks of outputs.

    Example:
        >>> [block] = blocks(Filter((0.25, 0.5, 0.25), lead=1), 3, torch.device("cpu"))
        >>> block.matrix.tolist()
        [[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]]
    """
    count = (size + filtering.repeats * (filtering.stride - 1)) // filtering.stride
    with torch.inference_mode(False):
        matrix = torch.zeros(count, size)
        outputs = torch.arange(count)
        last = 2 * size - 1 if filtering.repeats else 2 * size - 2
        for number, tap in enumerate(filtering.taps):
            places = (outputs * filtering.stride + number - filtering.lead).abs()
            places = torch.where(places < size, places, last - places)
            matrix[outputs, places] += tap
        found = []
        for rows in torch.split(matrix, _BLOCK):
            used = rows.any(0).nonzero().flatten().tolist()
            start, stop = used[0], used[-1] + 1
            found.append(Block(start, stop, for_device(rows[:, start:stop].contiguous(), device)))
    return tuple(found)


def across(planes: Tensor, *filters: Filter) -> Tensor:
    """Filter planes (..., H, W) along their rows; what several filters give lies side by side.

    Example:
        >>> halves = Filter((0.5, 0.5), lead=0, stride=2), Filter((1.0, -1.0), lead=0, stride=2)
        >>> across(torch.tensor([[1.0, 3.0], [5.0, 9.0]]), *halves).tolist()
        [[2.0, -2.0], [7.0, -4.0]]
    """
    parts = [block for one in filters for block in blocks(one, planes.shape[-1], planes.device)]
    return torch.cat([planes[..., start:stop] @ matrix.T for start, stop, matrix in parts], -1)


def down(planes: Tensor, *filters: Filter) -> Tensor:
    """Filter planes (..., H, W) along their columns; what several filters give lies one below the other."""
    parts = [block for one in filters for block in blocks(one, planes.shape[-2], planes.device)]
    return torch.cat([matrix @ planes[..., start:stop, :] for start, stop, matrix in parts], -2)


def filtered(planes: Tensor, filtering: Filter) -> Tensor:
    """Filter planes (..., H, W) along both axes.

    Example:
        >>> filtered(torch.tensor([[1.0, 3.0], [5.0, 9.0]]), Filter((0.5, 0.5), lead=0, stride=2)).item()
        4.5
    """
    return down(across(planes, filtering), filtering)


def gaussian(size: int, sigma: float) -> tuple[float, ...]:
    """Return the taps of a Gaussian window that add up to 1.

    Example:
        >>> [round(tap, 4) for tap in gaussian(3, 0.6)]
        [0.1664, 0.6672, 0.1664]
    """
    window = torch.exp(-0.5 * ((torch.arange(size, dtype=torch.float64) - size // 2) / sigma) ** 2)
    taps: list[float] = (window / window.sum()).tolist()
    return tuple(taps)
