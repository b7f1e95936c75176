"""Quality over time as a picture: one step an interval, with the standard error as a band."""

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

Scores = npt.NDArray[np.float64]


def plot_over_time(name: str, edges: Scores, scores: Scores, errors: Scores) -> Figure:
    """Draw how good a video looks over time.

    Args:
        name: name of the video, for the title.
        edges: (n + 1,) seconds at which intervals begin, and the end of the last interval.
        scores: (n,) on the published scale; NaN where an interval could not be read.
        errors: (n,) standard errors of the scores.

    Example:
        >>> figure = plot_over_time("a.mp4", np.array([0.0, 1.0, 1.5]), np.array([48.0, 52.0]), np.ones(2))
        >>> figure.axes[0].get_ylim() == (46, 54)
        True
    """
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    low, high = scores - errors, scores + errors
    axes.stairs(high, edges, baseline=low, fill=True, color="tab:blue", alpha=0.25, label="± standard error")
    axes.stairs(scores, edges, baseline=None, color="tab:blue", linewidth=1.5, label="score")
    axes.set(title=name, xlabel="seconds", ylabel="score", xlim=(edges[0], edges[-1]))
    if np.isfinite(scores).any():
        axes.set_ylim(np.nanmin(low) - 1, np.nanmax(high) + 1)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", ncols=3)
    return figure
