"""Pictures that lie within a page: frames as JPEG, plots as SVG that takes the page's colours."""

import base64
import re
from collections.abc import Sequence
from io import StringIO

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor
from torchvision.io import encode_jpeg
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


def frames_at(video: Video, spans: Sequence[Span | None]) -> list[Tensor]:
    """Return the frame in the middle of each span, uint8 (3, H, W), `WIDTH` wide; None is the whole video.

    Raises:
        UnreadableVideo: the file gives no frames.
    """
    clips = read_clips(video, FRAME, [Cut(0, span) for span in spans])
    found = []
    for clip in clips:
        height, width = clip.frames.shape[-2:]
        size = [max(1, round(height * WIDTH / width)), WIDTH]
        found.append(resize(clip.frames[0], size, antialias=True))
    return found


def jpeg(frame: Tensor) -> str:
    """Return a frame uint8 (3, H, W) as the address of a JPEG that lies in it.

    Example:
        >>> import torch
        >>> jpeg(torch.zeros(3, 8, 8, dtype=torch.uint8))[:23]
        'data:image/jpeg;base64,'
    """
    data = encode_jpeg(frame.cpu(), quality=QUALITY).numpy().tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


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
    text = re.sub(
        r'<svg[^>]*viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', text, count=1
    )
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace("#000000", "currentColor").replace("#b0b0b0", "currentColor")
    # Texts have no colour of their own, and SVG's is black.
    text = text.replace("<text ", '<text fill="currentColor" ')
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
    if np.isfinite(scores).any():
        bottom, top = float(np.nanmin(low)), float(np.nanmax(high))
        room = max(0.0, LEAST_RANGE - (top - bottom)) / 2 + 1
        axes.set_ylim(bottom - room, top + room)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return svg(figure, salt)


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
