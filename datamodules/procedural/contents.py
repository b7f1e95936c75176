"""What is filmed for the embedded corpus: size, length and the shots of a content.

Sizes lie where small videos of people lie, and longer videos are the smaller ones: what a video costs is the
number of its pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from datamodules.procedural.shots import Shot, draw_shot, film

SHORTEST = 16
"""Frames."""

SCENE, CHAIN, NOISE = range(3)
"""Streams of random numbers of one content."""

_ASPECTS, _PORTRAITS = (1.0, 4 / 3, 1.5, 16 / 9), 0.25
_LONGEST = 48  # frames
_CUT_FROM = 32  # frames: a shorter video is one take


@dataclass(frozen=True)
class Footage:
    """How large and how long contents are.

    Attributes:
        most_lines: of the shorter side, which has at least 240 pixels; most contents lie near the least.
        pixels: of all frames of a video together, where that leaves from 16 to 48 frames.
    """

    most_lines: int
    pixels: float

    least_lines: int = 240


LEARNT = Footage(most_lines=720, pixels=3.0e6)
"""Of the splits that are learnt and selected from: one video a content, of many sizes."""

REPORTED = Footage(most_lines=400, pixels=1.7e6)
"""Of the report split, where the frames of a content are filmed once and uploaded several times."""


@dataclass(frozen=True)
class Content:
    """What is filmed: size in pixels, frames per second, and the takes."""

    height: int
    width: int
    fps: int
    shots: list[Shot]

    @property
    def count(self) -> int:
        """Number of frames."""
        return sum(shot.frames for shot in self.shots)

    def frames(self) -> Iterator[torch.Tensor]:
        """Yield the frames (3, H, W) in linear light, as a perfect camera would take them."""
        return film(self.shots, self.height, self.width, self.fps)


def draw_content(seed: int, index: int, footage: Footage = LEARNT) -> Content:
    """Draw the clean content `index` of the corpus `seed`; nothing else but the kind of footage enters.

    Example:
        >>> content = draw_content(seed=0, index=0)
        >>> min(content.height, content.width) >= 240, content.count >= 16
        (True, True)
    """
    rng = np.random.default_rng([seed, index, SCENE])
    lines = footage.least_lines + (footage.most_lines - footage.least_lines) * rng.random() ** 4
    sides = [2 * round(side / 2) for side in (lines, lines * rng.choice(_ASPECTS))]
    height, width = reversed(sides) if rng.random() < _PORTRAITS else sides
    fps = int(rng.choice([24, 25, 30], p=[0.4, 0.4, 0.2]))
    frames = round(min(max(footage.pixels / (height * width), SHORTEST), _LONGEST))
    takes = int(rng.choice([1, 2], p=[0.75, 0.25])) if frames >= _CUT_FROM else 1
    lengths = [len(part) for part in np.array_split(np.arange(frames), takes)]
    return Content(height, width, fps, [draw_shot(rng, height, width, length, fps) for length in lengths])
