"""How clips are cut from a video: how many frames, where in time, and how large a window."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from datamodules.errors import InputError

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
        InputError: for a value out of range.
    """

    segments: int = 1
    frames: int = 4
    spacing: float | None = None
    window: int | None = 96

    def __post_init__(self) -> None:
        for name in ("segments", "frames", "window"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"The sampling's {name} is {value}; give an integer of at least 1.")
        if self.spacing is not None and not 0 < self.spacing < math.inf:
            raise InputError(f"The sampling's spacing is {self.spacing}; give seconds above 0, or null.")


class Cut(NamedTuple):
    """Which clip of a video.

    Attributes:
        draw: 0 for the centred clip, otherwise the number of a random one.
        span: seconds between which it lies; None: anywhere in the video.
    """

    draw: int = 0
    span: Span | None = None
