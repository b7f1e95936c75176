"""Teachers of single frames, and what several of them ask of a frame: it is computed once for all.

NIQE, BRISQUE, Artefacts and the Laplacian see luma; NIQE and BRISQUE normalise it, too. A `Picture` holds
frames with whatever was computed of them, for as long as a clip is scored.
"""

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from datamodules.teachers.batch import Batch
from datamodules.teachers.teacher import Teacher
from datamodules.video import luma

T = TypeVar("T")

TOGETHER = 2**19
"""Pixels of frames that a CPU looks at together: what is computed in between then stays in a core's cache."""


class Picture:
    """Frames (N, 3, H, W) in [0, 1], and what was computed of them.

    Example:
        >>> picture = Picture(torch.ones(1, 3, 4, 6))
        >>> picture.codes.shape, picture.codes.max().item()
        (torch.Size([1, 4, 6]), 255.0)
        >>> mean = lambda picture: picture.luma.mean()
        >>> picture.once(mean) is picture.once(mean)
        True
    """

    def __init__(self, frames: Tensor) -> None:
        self.frames = frames
        self._known: dict[Callable[[Any], Any], Any] = {}

    @cached_property
    def luma(self) -> Tensor:
        """Luma (N, H, W) in [0, 1]."""
        return luma(self.frames)

    @cached_property
    def codes(self) -> Tensor:
        """Luma (N, H, W) as code values, whole numbers from 0 to 255."""
        return luma(self.frames * 255).round()

    def once(self, compute: Callable[["Picture"], T]) -> T:
        """Return what a function makes of this picture; the function is called once, whoever asks."""
        if compute not in self._known:
            self._known[compute] = compute(self)
        found: T = self._known[compute]
        return found


def pictures(frames: Tensor) -> list[Picture]:
    """Return frames (N, 3, H, W) as pictures of one size: on a CPU of few frames each.

    NIQE and BRISQUE of 32 frames of 512 x 360 take less than half of the time that they take together.
    """
    few = max(1, TOGETHER // frames[0, 0].numel()) if frames.device.type == "cpu" else len(frames)
    return [Picture(some) for some in torch.split(frames, few)]


class PictureTeacher(Teacher):
    """A teacher whose score is the mean over single frames; a subclass measures them in `measure`."""

    @abstractmethod
    def measure(self, picture: Picture) -> Tensor:
        """Score the frames of a picture: (N,), higher better; NaN where a frame gives nothing to judge."""

    def score(self, clips: Tensor) -> Tensor:
        """Score clips (B, T, C, H, W) in [0, 1]: (B,), the mean over the frames that have a score."""
        return self._mean(pictures(clips.flatten(0, 1)), clips.shape[1])

    def score_batch(self, batch: Batch) -> Tensor:
        """Score a batch by the pictures that other teachers look at, too."""
        if type(self).score is not PictureTeacher.score:  # a subclass's own
            return super().score_batch(batch)
        parts = self.apart(batch.clips)
        shared = batch.once(("pictures", self.every), lambda: pictures(parts.flatten(0, 1)))
        return self._mean(shared, parts.shape[1])

    def _mean(self, shown: list[Picture], frames: int) -> Tensor:
        return torch.cat([self.measure(picture) for picture in shown]).view(-1, frames).nanmean(dim=1)
