"""From a video to a clip: probing, which frames and which window, and 8-bit RGB as a display would show it.

The window is cut before the colour conversion, so that a few frames of a long 4K file cost only the decoding
since the keyframe before them. Several clips of one video are read in one pass.
"""

import hashlib
import math
import random
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from datamodules.colour import WindowConverter
from datamodules.errors import InputError, UnreadableVideo
from datamodules.readers import FileReader, Reader

FINGERPRINT_CHUNK = 1 << 16  # bytes read at the head, the middle and the tail of a file to name its content

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


@dataclass(frozen=True)
class Video:
    """One row of a corpus.

    Attributes:
        video_id: hash of the content, the same wherever the file lies.
        path: the file.
        width: pixels of a frame as displayed, after rotation; pixels are taken as square.
        height: lines of a frame as displayed, after rotation.
        fps: average frames per second.
        duration: seconds from the first frame to the end of the last.
        codec: FFmpeg's name of the decoder's format, such as "h264".
        interlaced: whether frames are two interleaved fields; they are decoded as they are, combing included.
        status: "ok" or "error".
        error: why no frame can be read; empty when ok.
        content: name of the scene, shared by versions of one source; by default the video_id.
        split: "train", "select", "report", or empty.
    """

    video_id: str
    path: str
    width: int = 0
    height: int = 0
    fps: float = 0.0
    duration: float = 0.0
    codec: str = ""
    interlaced: bool = False
    status: str = "ok"
    error: str = ""
    content: str = ""
    split: str = ""

    def open(self) -> Reader:
        """Open it for reading; raise UnreadableVideo if that cannot be done."""
        return FileReader(self.path)


class Clip(NamedTuple):
    """Frames uint8 (T, C, H, W), RGB, and their times float64 (T,) in seconds from the video's start."""

    frames: torch.Tensor
    times: torch.Tensor


def fingerprint(path: Path) -> str:
    """Hash the file's size and three chunks of it: 16 hex digits, however large the file at the same cost."""
    digest = hashlib.blake2b(digest_size=8)
    size = path.stat().st_size
    digest.update(size.to_bytes(8, "little"))
    with path.open("rb") as file:
        for offset in (0, (size - FINGERPRINT_CHUNK) // 2, size - FINGERPRINT_CHUNK):
            file.seek(max(offset, 0))
            digest.update(file.read(FINGERPRINT_CHUNK))
    return digest.hexdigest()


def probe(path: str | Path) -> Video:
    """Read what a corpus row needs and decode the first frame, to know that frames come out.

    The duration is taken from the last packets' time stamps, for declared ones may be absent or wrong.

    Raises:
        UnreadableVideo: if there is no such file, or no frame of it can be decoded.
    """
    path = Path(path)
    if not path.is_file():
        raise UnreadableVideo(f"{path} is {'not a file' if path.exists() else 'missing'}.")
    try:
        video_id = fingerprint(path)
    except OSError as error:
        raise UnreadableVideo(f"{path} cannot be read: {error.strerror}.") from error
    with closing(FileReader(str(path))) as reader:
        _, first = next(reader.frames(), (0.0, None))
        if first is None:
            raise UnreadableVideo(
                f"{path} holds a video stream of which no frame can be decoded{reader.reason}."
            )
        turned = first.rotation % 180 != 0
        return Video(
            video_id=video_id,
            path=str(path),
            width=first.height if turned else first.width,
            height=first.width if turned else first.height,
            fps=reader.fps,
            duration=reader.measure_duration(),
            codec=reader.stream.codec_context.codec.canonical_name,
            interlaced=bool(first.interlaced_frame),
            content=video_id,
        )


class Cut(NamedTuple):
    """Which clip of a video.

    Attributes:
        draw: 0 for the centred clip, otherwise the number of a random one.
        span: seconds between which it lies; None: anywhere in the video.
    """

    draw: int = 0
    span: Span | None = None


def read_clip(video: Video, sampling: Sampling, draw: int = 0, span: Span | None = None) -> Clip:
    """Decode a clip of T = segments * frames frames.

    Draw 0 centres each segment in its equal part of the duration (with a spacing: all of them together in
    the whole) and the window in the frame. A draw above 0 places them at random, as a pure function of the
    draw: at the same parts of every video, so that two encodes of one scene are judged by the same places.
    One clip has one window. A segment begins at the frame nearest to its time; where fewer frames follow, it
    is made of the last ones, and a video shorter than a segment repeats its last frame. A frame smaller than
    the window is padded with its border pixels.

    A span takes the place of the whole duration. Segments whose spacing does not fit into it are spread
    evenly; one that is shorter than a segment is reached beyond. The window of a draw is the same in every
    span: what is compared over time is then seen through one window.

    Colours become full-range RGB of an SDR display, as `datamodules.colour` says. Interlaced frames stay
    interlaced, and stored pixels are taken as square. Rotation by 90, 180 or 270 degrees is applied.

    Args:
        video: a readable row of a corpus.
        sampling: which frames and which window.
        draw: 0 for the centred clip, otherwise the number of a random one.
        span: seconds from the video's start between which the clip lies; None: the whole duration.

    Returns:
        frames uint8 (T, 3, H, W) in RGB and times float64 (T,), seconds from the video's start.

    Raises:
        UnreadableVideo: if the file gives no frames or changes its frame size while whole frames are read.
    """
    return read_clips(video, sampling, [Cut(draw, span)])[0]


def read_clips(video: Video, sampling: Sampling, cuts: Sequence[Cut]) -> list[Clip]:
    """Decode several clips, each as `read_clip` does, in one pass through the video.

    Raises:
        UnreadableVideo: if one of them cannot be read.
    """
    wanted: list[tuple[float, int, int]] = []
    converters: dict[int, WindowConverter] = {}
    runs: dict[tuple[int, int], tuple[list[npt.NDArray[np.uint8]], list[float]]] = {}
    with closing(video.open()) as reader:
        for index, cut in enumerate(cuts):
            source = random.Random(cut.draw)
            uniform = source.random if cut.draw else lambda: 0.5
            place = (uniform(), uniform())
            if cut.draw not in converters:
                converters[cut.draw] = WindowConverter(video.path, sampling.window, place)
            places = [uniform() for _ in range(sampling.segments)]
            starts = _segment_starts(video, sampling, places, cut.span)
            wanted += [(start, index, segment) for segment, start in enumerate(starts)]
        for start, index, segment in sorted(wanted):
            run = reader.run(start, sampling.frames)
            if not run:
                raise UnreadableVideo(f"{video.path} gives no frame that can be decoded{reader.reason}.")
            images = [converters[cuts[index].draw](frame) for _, frame in run]
            missing = sampling.frames - len(run)
            times = [time for time, _ in run]
            runs[index, segment] = (images + images[-1:] * missing, times + times[-1:] * missing)
    clips = []
    for index in range(len(cuts)):
        parts = [runs.pop((index, segment)) for segment in range(sampling.segments)]
        frames = [image for images, _ in parts for image in images]
        if len({image.shape for image in frames}) > 1:
            raise UnreadableVideo(
                f"{video.path} changes its frame size, so that its whole frames make no clip."
            )
        seconds = torch.tensor([time for _, some in parts for time in some], dtype=torch.float64)
        clips.append(Clip(torch.from_numpy(np.stack(frames).transpose(0, 3, 1, 2).copy()), seconds))
    return clips


def _segment_starts(video: Video, sampling: Sampling, places: list[float], span: Span | None) -> list[float]:
    """Seconds at which segments begin; places in [0, 1) are their positions in the room they have."""
    length = sampling.frames / video.fps
    begin, end = (0.0, video.duration) if span is None else span
    spacing = sampling.spacing
    if spacing is not None:
        room = end - begin - length - (sampling.segments - 1) * spacing
    if spacing is None or (span is not None and room < 0):
        part = (end - begin) / sampling.segments
        starts = [index * part + (part - length) * place for index, place in enumerate(places)]
    else:
        starts = [max(room, 0.0) * places[0] + index * spacing for index in range(sampling.segments)]
    last = min(end - begin, video.duration - begin) - length
    return [max(0.0, min(begin + max(0.0, min(start, last)), video.duration - length)) for start in starts]
