"""The five levels as pictures: which are taken for which, and how labels move from one to another."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from callbacks.pictures.cards import CENTRED, LEVEL_COLOURS, WIDTH
from datamodules.labels import LEVELS

Counts = npt.NDArray[np.int64]

BAR = 0.12
"""Width of the bars between which labels flow, in columns."""

SMALL = 0.05
"""Share of all pairs; a bar of less bears no number."""


def confusion(given: npt.ArrayLike, predicted: npt.ArrayLike) -> Counts:
    """Count pairs by the level given (rows) and the level predicted (columns), both (n,) from 0 to 4."""
    counts = np.zeros((len(LEVELS), len(LEVELS)), dtype=np.int64)
    np.add.at(counts, (np.asarray(given), np.asarray(predicted)), 1)
    return counts


def plot_confusion(title: str, counts: Counts) -> Figure:
    """Draw a confusion matrix, each row as shares of its pairs, with their number.

    Args:
        title: of the picture.
        counts: (5, 5) of `confusion`.
    """
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    figure = Figure(figsize=(WIDTH, WIDTH), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(len(LEVELS)):
        if not totals[row]:
            axes.text(2, row, "no such pair", color="0.4", style="italic", **CENTRED)
            continue
        for column in range(len(LEVELS)):
            share, count = shares[row, column], counts[row, column]
            text = f"{share:.0%}\n{count}" if count else "0"
            colour = "white" if share > 0.5 else "black" if count else "0.6"
            axes.text(column, row, text, color=colour, fontsize=8, **CENTRED)
    axes.set_xticks(range(len(LEVELS)), LEVELS, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(LEVELS)), LEVELS)
    axes.set(title=title, xlabel="predicted", ylabel="given")
    return figure


def plot_flips(title: str, columns: Sequence[str], flows: Sequence[Counts]) -> Figure:
    """Draw how the levels of pairs change from one labelling to the next, as a flow.

    Pairs that keep their level are pale; pairs that change have the colour of the level that they leave.

    Args:
        title: of the picture.
        columns: names of the labellings, one more than flows.
        flows: (5, 5) numbers of pairs, the level before by the level after; none is empty.
    """
    shares = [flow / flow.sum() for flow in flows]
    stacks = [*(share.sum(axis=1) for share in shares), shares[-1].sum(axis=0)]
    figure = Figure(figsize=(WIDTH, 0.9 * WIDTH), layout="constrained")
    axes = figure.subplots()
    for place, stack in enumerate(stacks):
        _bars(axes, place, stack)
    for place, share in enumerate(shares):
        _flow(axes, place, share)
        axes.text(place + 0.5, 1.02, f"{1 - share.trace():.0%} flipped", ha="center", fontsize=8)
    axes.set_yticks(stacks[0].cumsum() - stacks[0] / 2, LEVELS)
    axes.set_xticks(range(len(columns)), columns)
    axes.tick_params(length=0)
    axes.set_title(title, pad=16)
    axes.set(xlabel="round whose labels they are", ylim=(0, 1))
    axes.spines[:].set_visible(False)
    return figure


def _bars(axes: Axes, place: int, shares: npt.NDArray[np.float64]) -> None:
    bottom = 0.0
    for share, colour in zip(shares, LEVEL_COLOURS, strict=True):
        axes.bar(place, share, BAR, bottom=bottom, color=colour, edgecolor="white", linewidth=0.5, zorder=3)
        if share > SMALL:
            box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
            middle = bottom + share / 2
            axes.text(place, middle, f"{share:.0%}", fontsize=7, bbox=box, zorder=4, **CENTRED)
        bottom += share


def _flow(axes: Axes, place: int, shares: npt.NDArray[np.float64]) -> None:
    along = np.linspace(0, 1, 40)
    ease = along**2 * (3 - 2 * along)
    across = place + BAR / 2 + (1 - BAR) * along
    # Ribbons leave a level in the order of where they go, and arrive in the order of where they come from.
    ends = np.concatenate([[0], shares.sum(axis=0).cumsum()[:-1]])
    start = 0.0
    for before in range(len(LEVELS)):
        for after in range(len(LEVELS)):
            share = shares[before, after]
            if share:
                low = start + (ends[after] - start) * ease
                colour, alpha = LEVEL_COLOURS[before], 0.2 if before == after else 0.65
                axes.fill_between(across, low, low + share, color=colour, alpha=alpha, linewidth=0)
            start += share
            ends[after] += share
