"""Scores as pictures: against known severity, simulator by simulator, and against other annotators."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from callbacks.pictures.cards import BLUE, CENTRED, GREY, ORANGE, WIDTH
from callbacks.rounds.scores import Scores
from datamodules.labels import Key

Floats = npt.NDArray[np.float64]

COLUMNS = 3
"""Small pictures beside each other: their titles can still be read in a card."""

FEW = 12
"""Contents up to which each has a line of its own."""


def plot_severity(title: str, ladders: Mapping[str, Floats]) -> Figure:
    """Draw scores against severity, a small picture for each simulator.

    The mean over contents is drawn with its standard deviation as a band; up to FEW contents are drawn as
    thin lines too.

    Args:
        title: of the picture.
        ladders: simulator -> scores (contents, levels + 1), the source first; contents may be 0.
    """
    rows = -(-len(ladders) // COLUMNS)
    figure, grid = _small_pictures(title, len(ladders), COLUMNS, 0.45 + 1.05 * rows)
    for axes, (name, scores) in zip(grid, ladders.items(), strict=True):
        axes.set_title(name, fontsize=8)
        axes.set_xticks(range(scores.shape[1]))
        axes.tick_params(labelsize=7)
        if not len(scores):
            axes.text(0.5, 0.5, "not scored", transform=axes.transAxes, color=GREY, fontsize=8, **CENTRED)
            continue
        severity = np.arange(scores.shape[1])
        mean, spread = scores.mean(axis=0), scores.std(axis=0)
        if len(scores) <= FEW:
            axes.plot(severity, scores.T, color=GREY, alpha=0.5, linewidth=0.6)
        axes.fill_between(severity, mean - spread, mean + spread, color=BLUE, alpha=0.2, linewidth=0)
        axes.plot(severity, mean, color=BLUE, marker="o", markersize=2.5)
    figure.supxlabel("severity (0: the source)", fontsize=9)
    figure.supylabel("score", fontsize=9)
    return figure


def plot_annotators(title: str, student: Floats, others: Mapping[str, tuple[Floats, float]]) -> Figure:
    """Draw the student's scores against those of other annotators, a small picture for each.

    Args:
        title: of the picture.
        student: (n,) on the published scale.
        others: annotator -> its scores (n,) of the same videos, in its own unit, and its SRCC with the
            student.
    """
    columns = min(2, len(others))
    rows = -(-len(others) // columns)
    figure, grid = _small_pictures(title, len(others), columns, 0.5 + WIDTH / columns * rows)
    alpha = float(np.clip(40 / max(len(student), 1), 0.05, 0.8))
    for axes, (name, (scores, srcc)) in zip(grid, others.items(), strict=True):
        axes.scatter(scores, student, s=10, color=BLUE, alpha=alpha, linewidths=0)
        axes.set_title(f"{name}\nSRCC {srcc:+.2f}", color=ORANGE if srcc < 0 else "black")
        axes.locator_params(axis="x", nbins=3)
    figure.supxlabel("the other's score, in its own unit", fontsize=9)
    figure.supylabel("student's score", fontsize=9)
    return figure


def _small_pictures(title: str, count: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """Lay out pictures in rows under a title; the height is in inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(-(-count // columns), columns, sharey=True, squeeze=False)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    shown = list(grid.flat[:count])
    for axes in shown:
        axes.grid(alpha=0.3)
    return figure, shown


def complete_ladders(scores: Scores, videos: Sequence[str], simulator: str, levels: int) -> Floats:
    """Return scores (contents, levels + 1) of the videos whose source and whole ladder are scored.

    Args:
        scores: of one annotator.
        videos: ids.
        simulator: its identity.
        levels: of its ladder.
    """
    versions = [(None, 0), *((simulator, level + 1) for level in range(levels))]
    keys: list[list[Key]] = [[(video, *version) for version in versions] for video in videos]
    found = [[scores[key] for key in ladder] for ladder in keys if all(key in scores for key in ladder)]
    return np.array(found, dtype=np.float64).reshape(-1, levels + 1)
