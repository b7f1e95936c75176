"""Frames in memory as a video, cut into clips by the same code as a file that holds them.

The video's id is a hash of all frames, so that two versions of a video are never taken for one video.
"""

import hashlib
from dataclasses import dataclass, field
from fractions import Fraction
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from av.video.frame import VideoFrame
from torch import Tensor

from datamodules.checks import check_that
from datamodules.errors import InputError
from datamodules.video.probing import Video
from datamodules.video.readers import Reader, Run
from datamodules.video.time_axis import Floats

MOST_FPS = 1e6
"""Frames per second; with more, or fewer than one in as many seconds, times leave the range of floats."""


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
        fps: frames per second, from 1e-6 to 1e6.

    Raises:
        InputError: the frames have another shape, type or range, or the rate is no such number.

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
    is_number = isinstance(fps, Real) and not isinstance(fps, bool)
    rates = f"a number from {1 / MOST_FPS:g} to {MOST_FPS:g}"
    check_that(is_number and 1 / MOST_FPS <= fps <= MOST_FPS, "The frames per second", rates, repr(fps))
    fps = fps if isinstance(fps, int) else float(fps)
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


def as_frames(array: npt.NDArray[Any]) -> Tensor:
    """Return an array of frames, (T, H, W, 3) or (T, 3, H, W), as a tensor (T, 3, H, W) of the same numbers.

    Raises:
        InputError: it has another shape, or its cells are no numbers.

    Example:
        >>> as_frames(np.zeros((60, 270, 480, 3), np.uint8)).shape
        torch.Size([60, 3, 270, 480])
    """
    shape = array.shape
    last = len(shape) == 4 and shape[3] == 3
    if not last and not (len(shape) == 4 and shape[1] == 3):
        remedy = ": join the frames of a video by np.stack(frames)" if len(shape) == 3 else ""
        raise InputError(
            f"A numpy array must hold frames (T, H, W, 3) in RGB; got the shape {shape}{remedy}."
        )
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise InputError(f"A numpy array must hold uint8, or floats from 0 to 1; got {array.dtype}.")
    if array.dtype.kind == "f":
        array = array.astype(np.float64 if array.dtype.itemsize > 4 else np.float32)  # not the long ones
    whole = torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
    return whole.permute(0, 3, 1, 2) if last else whole


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
