"""Pairs as one moving picture: both clips side by side, and beside them the levels given and predicted.

It is an animated PNG, for GIF's 256 colours would add banding to the clips; TensorBoard and browsers play
it as they show any PNG.
"""

import io
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from callbacks.pictures.cards import BLUE, GREY, ORANGE
from datamodules.labels import LEVELS

WIDE, SIDE, EDGE = 700, 224, 8  # pixels: of the picture, of a clip's square, around it

HEADING, LINE, LARGE, SMALL = 30, 24, 20, 18  # pixels: of lines and of letters

BARS = 3 * EDGE + 2 * SIDE

LABELS = 86  # pixels of the levels' names, before their bars

HEIGHT = HEADING + SIDE + 2 * LINE + 2 * EDGE

PALE = "#CCCCCC"

MILLISECONDS = 300
"""How long a frame is shown: longer than in the video, so that differences between frames can be seen."""

FRAMES = 8
"""Frames shown, the first of a longer clip: 32 whole frames of four pairs take tens of megabytes a round."""


class ShownPair(NamedTuple):
    """One pair of the picture.

    Attributes:
        clips: both sides, (T, 3, H, W) in [0, 1].
        captions: of both sides, two lines each.
        heading: what is said of the pair.
        mark: what is wrong with the prediction; empty where nothing is.
        given: (5,) the label.
        predicted: (5,) the distribution over the levels.
    """

    clips: tuple[Tensor, Tensor]
    captions: tuple[tuple[str, str], tuple[str, str]]
    heading: str
    mark: str
    given: Tensor
    predicted: Tensor


def draw_pairs(title: str, pairs: Sequence[ShownPair]) -> list[Image.Image]:
    """Draw pairs below each other under a title; one picture for each of their first FRAMES frames."""
    still = Image.new("RGB", (WIDE, HEADING + HEIGHT * len(pairs)), "white")
    draw = ImageDraw.Draw(still)
    draw.text((WIDE - EDGE, HEADING // 2), title, fill="black", font=_font(SMALL), anchor="rm")
    legend = ((EDGE, GREY, "given"), (EDGE + 92, BLUE, "predicted: the second beside the first"))
    for left, colour, text in legend:
        draw.rectangle((left, 8, left + 14, 22), fill=colour)
        draw.text((left + 22, HEADING // 2), text, fill="black", font=_font(SMALL), anchor="lm")
    for place, pair in enumerate(pairs):
        _draw_still(draw, HEADING + HEIGHT * place, pair)
    frames = []
    for time in range(min(FRAMES, len(pairs[0].clips[0]))):
        frame = still.copy()
        for place, pair in enumerate(pairs):
            for side, clip in enumerate(pair.clips):
                shown = _fitted(clip[time])
                left = EDGE + side * (SIDE + EDGE) + (SIDE - shown.width) // 2
                frame.paste(shown, (left, HEADING + HEIGHT * place + HEADING + (SIDE - shown.height) // 2))
        frames.append(frame)
    return frames


def animated_png(frames: Sequence[Image.Image]) -> bytes:
    """Encode pictures of one size as one moving picture that plays for ever."""
    stream = io.BytesIO()
    first, *others = frames
    # Noise and texture hardly shrink: the default level of 6 takes 2.5 times as long for a tenth of the size.
    shown = {"duration": MILLISECONDS, "loop": 0, "compress_level": 1}
    first.save(stream, "PNG", save_all=True, append_images=others, **shown)
    return stream.getvalue()


def _draw_still(draw: ImageDraw.ImageDraw, top: int, pair: ShownPair) -> None:
    draw.line((0, top, WIDE, top), fill=PALE, width=2)
    draw.text((EDGE, top + 5), pair.heading, fill="black", font=_font(LARGE, bold=True))
    draw.text((WIDE - EDGE, top + 5), pair.mark, fill=ORANGE, font=_font(LARGE, bold=True), anchor="ra")
    for side, lines in enumerate(pair.captions):
        left = EDGE + side * (SIDE + EDGE)
        # Clips may be as white as the paper.
        square = (left - 2, top + HEADING - 2, left + SIDE + 1, top + HEADING + SIDE + 1)
        draw.rectangle(square, outline=PALE, width=2)
        for line, text in enumerate(lines):
            place = left, top + HEADING + SIDE + 3 + line * LINE
            draw.text(place, _shortened(text, SIDE), fill="black", font=_font(SMALL))
    step = SIDE // len(LEVELS)
    longest = WIDE - EDGE - BARS - LABELS
    for level, name in enumerate(reversed(LEVELS)):
        y = top + HEADING + level * step
        draw.text((BARS, y + step // 2), name, fill="black", font=_font(SMALL), anchor="lm")
        both = ((pair.given, GREY), (pair.predicted, BLUE))
        for bar, (levels, colour) in enumerate(both):
            length = round(float(levels[len(LEVELS) - 1 - level]) * longest)
            low = y + 5 + bar * (step // 2 - 4)
            draw.rectangle((BARS + LABELS, low, BARS + LABELS + length, low + step // 2 - 7), fill=colour)


def _fitted(frame: Tensor) -> Image.Image:
    """Return a frame (3, H, W) as large as its square allows; small ones keep their pixels visible."""
    picture = Image.fromarray(
        np.ascontiguousarray((frame * 255).round().byte().permute(1, 2, 0).cpu().numpy())
    )
    scale = SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def _shortened(text: str, width: int) -> str:
    """Return the text, or as much of both its ends as fits into so many pixels."""
    font, kept = _font(SMALL), len(text)
    shown = text
    while font.getlength(shown) > width:
        kept -= 1
        shown = f"{text[: kept // 2]}…{text[len(text) - (kept - kept // 2) :]}"
    return shown


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(findfont("DejaVu Sans:bold" if bold else "DejaVu Sans"), size)
