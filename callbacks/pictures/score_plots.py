"""Scores as pictures: against known severity, simulator by simulator, and against other annotators."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from callbacks.pictures.cards import BLUE, GREY, ORANGE, WIDTH

Floats = npt.NDArray[np.float64]

COLUMNS = 3
"""Of small pictures beside each other: their titles can still be read in a card."""

FEW = 12
"""Contents up to which each has a line of its own."""


def plot_severity(title: str, ladders: Mapping[str, Floats]) -> Figure:
    """Draws scores against severity, a small picture for each simulator.

    The mean over contents is drawn with its standard deviation as a band and, where they are few, each
    content as a thin line.

    Args:
        title: of the picture.
        ladders: simulator -> scores (contents, levels + 1), the source first; contents may be 0.
    """
    rows = -(-len(ladders) // COLUMNS)
    figure = Figure(figsize=(WIDTH, 0.45 + 1.05 * rows), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False)
    for axes, (name, scores) in zip(grid.flat, ladders.items(), strict=False):
        axes.set_title(name, fontsize=8)
        axes.set_xticks(range(scores.shape[1]))
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        if not len(scores):
            axes.text(
                0.5,
                0.5,
                "not scored",
                transform=axes.transAxes,
                ha="center",
                va="center",
                color=GREY,
                fontsize=8,
            )
            continue
        severity = np.arange(scores.shape[1])
        mean, spread = scores.mean(axis=0), scores.std(axis=0)
        if len(scores) <= FEW:
            axes.plot(severity, scores.T, color=GREY, alpha=0.5, linewidth=0.6)
        axes.fill_between(severity, mean - spread, mean + spread, color=BLUE, alpha=0.2, linewidth=0)
        axes.plot(severity, mean, color=BLUE, marker="o", markersize=2.5)
    for axes in grid.flat[len(ladders) :]:
        axes.set_visible(False)
    figure.suptitle(title)
    figure.supxlabel("severity (0: the source)", fontsize=9)
    figure.supylabel("score", fontsize=9)
    return figure


def plot_annotators(title: str, student: Floats, others: Mapping[str, tuple[Floats, float]]) -> Figure:
    """Draws the student's scores against those of other annotators, a small picture for each.

    Args:
        title: of the picture.
        student: (n,) on the published scale.
        others: annotator -> its scores (n,) of the same videos, in its own unit, and its SRCC with the
            student.
    """
    columns = min(2, len(others))
    rows = -(-len(others) // columns)
    figure = Figure(figsize=(WIDTH, 0.5 + WIDTH / columns * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    alpha = float(np.clip(40 / max(len(student), 1), 0.05, 0.8))
    for axes, (name, (scores, srcc)) in zip(grid.flat, others.items(), strict=False):
        axes.scatter(scores, student, s=10, color=BLUE, alpha=alpha, linewidths=0)
        axes.set_title(f"{name}\nSRCC {srcc:+.2f}", color=ORANGE if srcc < 0 else "black")
        axes.locator_params(axis="x", nbins=3)
        axes.grid(alpha=0.3)
    for axes in grid.flat[len(others) :]:
        axes.set_visible(False)
    figure.suptitle(title)
    figure.supxlabel("the other's score, in its own unit", fontsize=9)
    figure.supylabel("student's score", fontsize=9)
    return figure


def complete_ladders(
    scores: Mapping[tuple[str, str | None, int], float], videos: Sequence[str], simulator: str, levels: int
) -> Floats:
    """Scores (contents, levels + 1) of the videos of which the source and the whole ladder are scored.

    Args:
        scores: of `round_report.Scores`.
        videos: ids.
        simulator: its identity.
        levels: of its ladder.
    """
    keys = [
        [(video, None, 0), *((video, simulator, level + 1) for level in range(levels))] for video in videos
    ]
    found = [[scores[key] for key in ladder] for ladder in keys if all(key in scores for key in ladder)]
    return np.array(found, dtype=np.float64).reshape(-1, levels + 1)
