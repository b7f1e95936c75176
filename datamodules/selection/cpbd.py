"""CPBD, the sharpness of a frame as the share of its edges on which no blur would be detected.

Everything is computed on whole arrays: the width of an edge is the length of the monotone run of luma through
it, and all runs of a frame follow from two cumulative extrema.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

BLOCK = 64
"""Side of the blocks in which contrast is taken, pixels; about the fovea at the paper's viewing distance."""

EDGE_SHARE = 0.002
"""A block with a smaller share of edge pixels is smooth and does not count."""

LOW_CONTRAST, WIDE, NARROW = 50, 5, 3
"""Widths of just noticeable blur in pixels: 5 up to a contrast of 50 code values, 3 above."""

Luma = npt.NDArray[np.float32]


def cpbd(luma: Luma) -> float:
    """Return the cumulative probability of blur detection: 1 where all edges look sharp, 0 where none does.

    After Narvekar and Karam (IEEE TIP 20(9), 2011). An edge of width w in a block whose just noticeable
    blur has the width v is seen as blurred with probability 1 - exp(-(w / v)^3.6). CPBD is the share of edges
    with at most the 63 % of w = v, so that the exponent cancels. Edges come from a thinned Sobel filter with
    the usual threshold of four times the mean energy. The count of edges in blocks uses them too, where the
    paper uses Canny's. Widths are measured along rows, on edges that run within 22.5 degrees of the vertical.

    Args:
        luma: (H, W) in 0..255; only whole blocks count, and a smaller frame is one block.

    Returns:
        In [0, 1]; 0 where there is no edge at all.
    """
    across = ndimage.sobel(luma, axis=1)
    down = ndimage.sobel(luma, axis=0)
    edges = _thinned_edges(across, down)
    vertical = edges & (np.abs(down) <= math.tan(math.pi / 8) * np.abs(across))

    sides = [min(BLOCK, side) for side in luma.shape]
    counts = _blocks(edges, sides).sum(axis=(1, 3))
    values = _blocks(luma, sides)
    contrast = values.max(axis=(1, 3)) - values.min(axis=(1, 3))
    just_noticeable = np.where(contrast > LOW_CONTRAST, NARROW, WIDE)
    counted = counts > EDGE_SHARE * sides[0] * sides[1]

    rows, columns = np.nonzero(vertical[: counts.shape[0] * sides[0], : counts.shape[1] * sides[1]])
    block = rows // sides[0], columns // sides[1]
    step = np.diff(luma, axis=1)
    widths = np.where(
        across[rows, columns] > 0,
        _run_lengths(step > 0)[rows, columns],
        _run_lengths(step < 0)[rows, columns],
    )
    sharp = (widths <= just_noticeable[block])[counted[block]]
    return float(sharp.mean()) if sharp.size else 0.0


def _thinned_edges(across: Luma, down: Luma) -> npt.NDArray[np.bool_]:
    """Mark pixels of strong gradient that are the largest along the gradient's main direction."""
    energy = across**2 + down**2
    strong = energy > 4 * energy.mean()
    padded = np.pad(energy, 1)
    beside = (padded[1:-1, :-2] <= energy) & (energy > padded[1:-1, 2:])
    above = (padded[:-2, 1:-1] <= energy) & (energy > padded[2:, 1:-1])
    thinned: npt.NDArray[np.bool_] = strong & np.where(np.abs(across) >= np.abs(down), beside, above)
    return thinned


def _run_lengths(goes_on: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Count true steps (H, W - 1) both ways from each pixel (H, W), until the first false step."""
    last = goes_on.shape[1]
    columns = np.arange(last + 1, dtype=np.int32)
    right = np.pad(np.where(goes_on, np.int32(last), columns[:-1]), ((0, 0), (0, 1)), constant_values=last)
    left = np.pad(np.where(goes_on, np.int32(0), columns[1:]), ((0, 0), (1, 0)))
    ends = np.minimum.accumulate(right[:, ::-1], axis=1)[:, ::-1]
    lengths: npt.NDArray[np.int32] = ends - np.maximum.accumulate(left, axis=1)
    return lengths


def _blocks(values: npt.NDArray[np.generic], sides: list[int]) -> npt.NDArray[np.generic]:
    """View whole blocks of (H, W) as (rows of blocks, lines, columns of blocks, pixels)."""
    down, across = values.shape[0] // sides[0], values.shape[1] // sides[1]
    return values[: down * sides[0], : across * sides[1]].reshape(down, sides[0], across, sides[1])
