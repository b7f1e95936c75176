"""Pictures that lie within a page: frames as JPEG, plots as SVG that takes the page's colours."""

import base64
import re
from collections.abc import Sequence
from io import BytesIO, StringIO
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, ScalarFormatter
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from datamodules.video import Sampling, Span, Video
from datamodules.video.decoding import read_clips
from datamodules.video.sampling import Cut

Floats = npt.NDArray[np.float64]

WIDTH = 240
"""Of a picture in a page, in pixels: two to a line on a telephone."""

QUALITY = 80
"""Of JPEG."""

FRAME = Sampling(segments=1, frames=1, window=None)

LEAST_RANGE = 20.0
"""Of the scores that a curve shows: two deviations of the corpus, lest a tremor look like a fall."""

ACCENT, BAND = "#010203", "#040506"
"""Stand for the page's colours until the plot is written."""


def frames_at(
    video: Video, spans: Sequence[Span | None], size: tuple[int, int] | None = None
) -> list[Tensor]:
    """Return the frame in the middle of each span, uint8 (3, H, W).

    Args:
        video: a readable file.
        spans: seconds; None is the whole video.
        size: height and width of the pictures; None: `WIDTH` wide, as high as the frame has it.

    Raises:
        UnreadableVideo: the file gives no frames.
    """
    clips = read_clips(video, FRAME, [Cut(0, span) for span in spans])
    found = []
    for clip in clips:
        height, width = clip.frames.shape[-2:]
        own = size or (max(1, round(height * WIDTH / width)), WIDTH)
        found.append(resize(clip.frames[0], list(own), antialias=True))
    return found


def jpeg(frame: Tensor, quality: int = QUALITY) -> str:
    """Return a frame uint8 (3, H, W) as the address of a JPEG that lies in it, of a quality up to 100.

    Example:
        >>> import torch
        >>> jpeg(torch.zeros(3, 8, 8, dtype=torch.uint8))[:23]
        'data:image/jpeg;base64,'
    """
    stream = BytesIO()
    Image.fromarray(frame.cpu().movedim(0, -1).contiguous().numpy()).save(stream, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def svg(figure: Figure, salt: str) -> str:
    """Return a figure as SVG for a page: text and lines in the page's colour, on nothing.

    Args:
        figure: drawn in black, `ACCENT` and `BAND`.
        salt: another one for each figure of a page, whose parts have names.
    """
    stream = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    # What has no fill of its own, such as a text or a black marker, would be SVG's black.
    head = r'<svg viewBox="\1" fill="currentColor" aria-hidden="true">'
    text = re.sub(r'<svg[^>]*viewBox="([^"]*)"[^>]*>', head, text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace("#000000", "currentColor").replace("#b0b0b0", "currentColor")
    text = re.sub(r"font: [^;\"]*?(\d[\d.]*px)[^;\"]*", r"font-size: \1", text)
    return text.replace(ACCENT, "var(--accent)").replace(BAND, "var(--band)")


def over_time(edges: Floats, scores: Floats, errors: Floats, salt: str) -> str:
    """Return quality over time with a band of one standard error, as SVG.

    Args:
        edges: (n + 1,) seconds at which intervals begin, and the end of the last interval.
        scores: (n,); NaN where an interval could not be read.
        errors: (n,) standard errors.
        salt: as in `svg`.
    """
    figure = Figure(figsize=(7, 2), layout="constrained")
    axes = figure.subplots()
    scores = np.where(np.isfinite(scores), scores, np.nan)
    errors = np.where(np.isfinite(errors), errors, 0)
    low, high = scores - errors, scores + errors
    axes.stairs(high, edges, baseline=low, fill=True, color=BAND)
    axes.stairs(scores, edges, baseline=None, color=ACCENT, linewidth=1.6)
    axes.set(xlabel="seconds", ylabel="score", xlim=(edges[0], edges[-1]))
    _with_room(axes, low, high)
    return svg(figure, salt)


def two_over_time(
    names: tuple[str, str], edges: Floats, scores: Floats, change: tuple[Floats, Floats], salt: str
) -> str:
    """Return the quality of two encodes over time, and below it their difference with its error, as SVG.

    Args:
        names: of the two.
        edges: (n + 1,) as in `over_time`.
        scores: (2, n); NaN where an interval could not be read.
        change: (n,) by how much the second scores higher, and (n,) standard errors of that.
        salt: as in `svg`.
    """
    values, errors = change
    low, high = values - errors, values + errors
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    for own, name, colour in zip(scores, names, ("black", ACCENT), strict=True):
        above.stairs(own, edges, baseline=None, color=colour, linewidth=1.6, label=name)
    above.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 0.95), borderpad=0)
    above.set(ylabel="score")
    _with_room(above, scores, scores)
    below.stairs(high, edges, baseline=low, fill=True, color=BAND)
    below.stairs(values, edges, baseline=None, color=ACCENT, linewidth=1.6)
    below.axhline(0, color="black", linewidth=0.8)
    below.set(xlabel="seconds", ylabel=f"{names[1]} less {names[0]}", xlim=(edges[0], edges[-1]))
    _with_room(below, np.append(low, 0), np.append(high, 0), LEAST_RANGE / 4)
    figure.align_ylabels()
    return svg(figure, salt)


class Curve(NamedTuple):
    """A ladder in a plot of quality against rate: its name, and the rates, scores, errors and marks (n,)."""

    name: str
    rates: Floats
    scores: Floats
    errors: Floats
    marks: Sequence[str]


def rate_quality(curves: Sequence[Curve], salt: str) -> str:
    """Return quality against rate with one standard error to either side, as SVG.

    Args:
        curves: rates in bits per second, rising; the second is drawn in the page's accent.
        salt: as in `svg`.
    """
    with rc_context({"text.parse_math": False}):  # a name with two dollars is no formula
        figure = Figure(figsize=(7, 3.2), layout="constrained")
        axes = figure.subplots()
        for number, curve in enumerate(curves):
            colour, style = ("black", ACCENT)[number % 2], ("-", "-", "--", "--", ":", ":")[number % 6]
            axes.errorbar(
                curve.rates / 1000, curve.scores, curve.errors, color=colour, linestyle=style, marker="o",
                markersize=4, linewidth=1.6, elinewidth=0.8, label=curve.name,
            )  # fmt: skip
            for rate, score, mark in zip(curve.rates / 1000, curve.scores, curve.marks, strict=True):
                axes.annotate(
                    mark, (rate, score), xytext=(5, -11), textcoords="offset points", color=colour, fontsize=9
                )
        axes.set(xlabel="kbit/s", ylabel="score", xscale="log")
        plain = ScalarFormatter()
        plain.set_scientific(False)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(plain)
        axes.xaxis.set_minor_locator(NullLocator())
        _with_room(
            axes,
            np.concatenate([curve.scores - curve.errors for curve in curves]),
            np.concatenate([curve.scores + curve.errors for curve in curves]),
        )
        if len(curves) > 1:
            axes.legend(frameon=False, loc="lower right")
    return svg(figure, salt)


def _with_room(axes: Axes, low: Floats, high: Floats, least: float = LEAST_RANGE) -> None:
    """Show the values, at least so wide a range of them, and a grid."""
    if np.isfinite(low).any():
        bottom, top = float(np.nanmin(low)), float(np.nanmax(high))
        room = max(0.0, least - (top - bottom)) / 2 + 1
        axes.set_ylim(bottom - room, top + room)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def histogram(
    values: Floats, edges: Floats, label: str, marks: Floats | None = None, others: Floats | None = None
) -> str:
    """Return how values are distributed, as SVG.

    Args:
        values: (n,) finite.
        edges: of the bins.
        label: of the axis.
        marks: values at which a line is drawn, if any.
        others: (m,) values of videos that are drawn paler, on top.
    """
    figure = Figure(figsize=(4.6, 2.2), layout="constrained")
    axes = figure.subplots()
    stacked = [values] if others is None else [values, others]
    colours = [ACCENT, BAND][: len(stacked)]
    axes.hist(stacked, bins=edges.tolist(), color=colours, rwidth=0.92, stacked=True)
    for mark in [] if marks is None else marks.tolist():
        axes.axvline(mark, color="black", linewidth=0.8, linestyle=":")
    axes.set(xlabel=label, ylabel="videos")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    return svg(figure, label)
