"""Frames in memory as a video, cut into clips by the same code as a file that holds them.

The video's id is a hash of all frames, so that two versions of a video are never taken for one video.
"""

import hashlib
import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch
from av.video.frame import VideoFrame
from torch import Tensor

from datamodules.checks import check_that
from datamodules.video.probing import Video
from datamodules.video.readers import Reader, Run
from datamodules.video.time_axis import Floats


@dataclass(frozen=True)
class MemoryVideo(Video):
    """A video whose frames are in memory.

    Attributes:
        frames: (T, 3, H, W), uint8 or float in [0, 1], on any device.
    """

    frames: Tensor = field(kw_only=True, compare=False, repr=False)

    def open(self) -> Reader:
        """Read from memory."""
        return _FrameReader(self.frames, self.fps)

    def frame_times(self) -> Floats:
        """Return the seconds at which frames begin."""
        return np.arange(len(self.frames)) / self.fps


def memory_video(frames: Tensor, fps: float = 30.0) -> MemoryVideo:
    """Take frames as a video.

    Args:
        frames: (T, 3, H, W), RGB, uint8 or float in [0, 1], on any device.
        fps: frames per second.

    Raises:
        InputError: the frames have another shape, type or range, or the rate is not a finite number above 0.

    Example:
        >>> video = memory_video(torch.randint(256, (8, 3, 48, 64), dtype=torch.uint8), fps=25)
        >>> video.width, video.height, video.duration
        (64, 48, 0.32)
    """
    shape = tuple(frames.shape)
    whole = len(shape) == 4 and shape[1] == 3 and 0 not in shape
    check_that(whole, "The frames of a video in memory", "of shape (T, 3, H, W)", shape)
    values, allowed = "The values of a video in memory", "uint8, or floats from 0 to 1"
    if frames.is_floating_point():
        low, high = (extreme.item() for extreme in frames.aminmax())
        check_that(low >= 0 and high <= 1, values, allowed, f"floats from {low:g} to {high:g}")
    else:
        check_that(frames.dtype == torch.uint8, values, allowed, frames.dtype)
    check_that(0 < fps < math.inf, "The frames per second", "a finite number above 0", fps)
    digest = hashlib.blake2b(f"{shape} {fps}".encode(), digest_size=8)
    for frame in frames:  # all of them: two versions may differ anywhere
        digest.update(_rgb(frame).tobytes())
    video_id = digest.hexdigest()
    return MemoryVideo(
        video_id,
        path="a video in memory",
        width=shape[3],
        height=shape[2],
        fps=fps,
        duration=len(frames) / fps,
        codec="rawvideo",
        content=video_id,
        frames=frames,
    )


def _rgb(frame: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return a frame (3, H, W) as a file would store it: uint8 (H, W, 3)."""
    stored = (frame * 255).round().byte() if frame.is_floating_point() else frame
    return np.ascontiguousarray(stored.permute(1, 2, 0).cpu().numpy())


class _FrameReader:
    """Hands out frames by time, as `FileReader` does those of a file."""

    reason = ""

    def __init__(self, frames: Tensor, fps: float) -> None:
        self.frames = frames
        self.fps = fps
        self.times = np.arange(len(frames)) / fps

    def run(self, time: float, count: int) -> Run:
        nearest = int(np.searchsorted(self.times, time - 0.5 / self.fps))
        first = max(0, min(nearest, len(self.frames) - count))
        places = range(first, len(self.frames))[:count]
        return [(float(self.times[place]), self._frame(place)) for place in places]

    def _frame(self, place: int) -> VideoFrame:
        frame = VideoFrame.from_ndarray(_rgb(self.frames[place]), format="rgb24")
        frame.time_base = Fraction(1, 1000)  # FFmpeg's graph asks for one
        return frame

    def close(self) -> None:
        pass
