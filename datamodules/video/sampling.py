"""How clips are cut from a video: how many frames, where in time, and how large a window."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from datamodules.checks import check_least, check_that

Span = tuple[float, float]
"""Seconds from a video's start between which something lies."""


@dataclass(frozen=True)
class Sampling:
    """Which frames and which window of a video make its clip.

    Attributes:
        segments: number S of segments.
        frames: number K of consecutive frames in each segment.
        spacing: seconds between the starts of segments; None spreads them evenly over the duration.
        window: side of the square window in native pixels; None takes whole frames.

    Raises:
        InputError: a value is out of range.

    Example:
        >>> Sampling(segments=4, frames=8).window
        96
        >>> Sampling(frames=0)
        Traceback (most recent call last):
        datamodules.errors.InputError: The sampling's frames must be 1 or more; got 0.
    """

    segments: int = 1
    frames: int = 4
    spacing: float | None = None
    window: int | None = 96

    def __post_init__(self) -> None:
        for name in ("segments", "frames", "window"):
            if (value := getattr(self, name)) is not None:
                check_least(f"The sampling's {name}", value, 1)
        if self.spacing is not None:
            finite = 0 < self.spacing < math.inf
            check_that(finite, "The sampling's spacing", "seconds above 0, or null", self.spacing)


class Cut(NamedTuple):
    """Which clip of a video.

    Attributes:
        draw: 0 for the centred clip, otherwise the number of a random one.
        span: seconds between which it lies; None: anywhere in the video.
    """

    draw: int = 0
    span: Span | None = None
