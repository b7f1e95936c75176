"""Frames in memory as a video, cut into clips by the same code as a file that holds them.

Its id is a hash of all that it shows, so that two versions of a video are never taken for one.
"""

import hashlib
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from torch import Tensor

from datamodules.errors import InputError
from datamodules.video.probing import Video
from datamodules.video.readers import Reader, Run


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


def memory_video(frames: Tensor, fps: float = 30.0) -> MemoryVideo:
    """Take frames as a video.

    Args:
        frames: (T, 3, H, W), RGB, uint8 or float in [0, 1], on any device.
        fps: frames per second.

    Raises:
        InputError: frames of another shape, type or range, or a rate that is no positive number.
    """
    shape = tuple(frames.shape)
    if len(shape) != 4 or shape[1] != 3 or 0 in shape:
        raise InputError(f"A video in memory has the shape {shape}; give frames of the shape (T, 3, H, W).")
    if frames.is_floating_point():
        low, high = frames.aminmax()
        if not (low >= 0 and high <= 1):
            raise InputError(
                f"A video in memory has values from {low:g} to {high:g}; give floats from 0 to 1, or uint8."
            )
    elif str(frames.dtype) != "torch.uint8":
        raise InputError(f"A video in memory is of {frames.dtype}; give uint8, or floats from 0 to 1.")
    if not 0 < fps < float("inf"):
        raise InputError(f"A video in memory has {fps} frames per second; give a number above 0.")
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
    """A frame (3, H, W) as a file would store it: uint8 (H, W, 3)."""
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
        return [
            (float(self.times[place]), self._frame(place)) for place in range(first, len(self.frames))[:count]
        ]

    def _frame(self, place: int) -> VideoFrame:
        frame = VideoFrame.from_ndarray(_rgb(self.frames[place]), format="rgb24")
        frame.time_base = Fraction(1, 1000)  # FFmpeg's graph asks for one
        return frame

    def close(self) -> None:
        pass
