"""Quality over time as a picture: one step an interval, with its standard error as a band."""

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

Scores = npt.NDArray[np.float64]


def plot_over_time(name: str, edges: Scores, scores: Scores, errors: Scores) -> Figure:
    """Draws how good a video looks over time.

    Args:
        name: of the video, for the title.
        edges: (n + 1,) seconds at which intervals begin, and the end of the last.
        scores: (n,) on the published scale; NaN where an interval could not be read.
        errors: (n,) their standard errors.
    """
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    axes.stairs(
        scores + errors,
        edges,
        baseline=scores - errors,
        fill=True,
        color="tab:blue",
        alpha=0.25,
        label="± standard error",
    )
    axes.stairs(scores, edges, baseline=None, color="tab:blue", linewidth=1.5, label="score")
    axes.set(title=name, xlabel="seconds", ylabel="score", xlim=(edges[0], edges[-1]))
    if np.isfinite(scores).any():
        axes.set_ylim(np.nanmin(scores - errors) - 1, np.nanmax(scores + errors) + 1)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", ncols=3)
    return figure
