"""Scores against opinions as a picture, with the logistic that maps scores to opinions.

Few videos are points with their standard errors. Thousands of points would hide each other: their density is
drawn instead.
"""

import numpy as np
from matplotlib.figure import Figure

from vqa_lightning.metrics.logistic import Floats, Logistic

MANY = 2000
"""Number of videos from which on the density is drawn."""


def plot_agreement(
    title: str, scores: Floats, stderr: Floats, mos: Floats, mos_stderr: Floats, curve: Logistic | None
) -> Figure:
    """Draw how a model agrees with people.

    Args:
        title: title of the picture.
        scores: (n,) on the published scale.
        stderr: (n,) standard errors of the scores.
        mos: (n,) opinions, any unit, higher is better.
        mos_stderr: (n,) standard errors of the opinions; NaN where not known.
        curve: map from scores to opinions; None where a map means nothing.

    Example:
        >>> scores, errors = np.array([40.0, 50.0, 60.0]), np.ones(3)
        >>> figure = plot_agreement("mine", scores, errors, scores / 20, errors, curve=None)
        >>> figure.axes[0].get_xlabel()
        'score'
    """
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    if len(scores) < MANY:
        axes.errorbar(
            scores,
            mos,
            xerr=stderr,
            yerr=np.nan_to_num(mos_stderr),
            fmt="o",
            markersize=3,
            color="tab:blue",
            ecolor="lightsteelblue",
            elinewidth=0.7,
            alpha=0.8 if len(scores) < MANY / 10 else 0.4,
            label="± standard error",
        )
    else:
        density = axes.hexbin(scores, mos, gridsize=40, mincnt=1, cmap="viridis_r")
        figure.colorbar(density, label="videos")
    if curve is not None:
        along = np.linspace(scores.min(), scores.max(), 400)
        axes.plot(along, curve(along), color="tab:red", linewidth=1.5, label="four-parameter logistic")
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    axes.set(title=title, xlabel="score", ylabel="MOS (higher is better)")
    axes.grid(alpha=0.3)
    return figure
