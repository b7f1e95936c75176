"""From a video file to a clip: probing, seeking by time stamps, and 8-bit RGB as a display would show it.

Every frame is found by its presentation time, never by its number, and the window is cut before the colour
conversion, so that a few frames of a long 4K file cost only the decoding since the keyframe before them.
"""

import hashlib
import math
import random
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt
import torch
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from datamodules.colour import WindowConverter
from datamodules.errors import InputError, UnreadableVideo

FINGERPRINT_CHUNK = 1 << 16  # bytes read at the head, the middle and the tail of a file to name its content
SEEK_BACK = (
    5.0  # seconds by which a seek that landed late is repeated earlier, before decoding from the start
)
BLIND_GAP = 2.0  # seconds of frames worth decoding rather than seeking over, where the container has no index
UNSKIPPED = (
    1.0  # seconds before a wanted frame in which every frame is decoded, in case fewer than wanted follow it
)


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
    with closing(_Reader(str(path))) as reader:
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


def read_clip(video: Video, sampling: Sampling, draw: int = 0) -> Clip:
    """Decode a clip of T = segments * frames frames.

    Draw 0 centres each segment in its equal part of the duration (with a spacing: all of them together in
    the whole) and the window in the frame. A draw above 0 places them at random, as a pure function of the
    video's id and of the draw; one clip has one window. A segment begins at the frame nearest to its time;
    where fewer frames follow, it is made of the last ones, and a video shorter than a segment repeats its
    last frame. A frame smaller than the window is padded with its border pixels.

    Colours become full-range RGB of an SDR display, as `datamodules.colour` says. Interlaced frames stay
    interlaced, and stored pixels are taken as square. Rotation by 90, 180 or 270 degrees is applied.

    Args:
        video: a readable row of a corpus.
        sampling: which frames and which window.
        draw: 0 for the centred clip, otherwise the number of a random one.

    Returns:
        frames uint8 (T, 3, H, W) in RGB and times float64 (T,), seconds from the video's start.

    Raises:
        UnreadableVideo: if the file gives no frames or changes its frame size while whole frames are read.
    """
    source = random.Random(f"{video.video_id}/{draw}")
    uniform = source.random if draw else lambda: 0.5
    place = (uniform(), uniform())
    frames: list[npt.NDArray[np.uint8]] = []
    times: list[float] = []
    with closing(_Reader(video.path)) as reader:
        converter = WindowConverter(video.path, sampling.window, place)
        for start in _segment_starts(video, sampling, [uniform() for _ in range(sampling.segments)]):
            segment = reader.run(start, sampling.frames)
            if not segment:
                raise UnreadableVideo(f"{video.path} gives no frame that can be decoded{reader.reason}.")
            images = [converter(frame) for _, frame in segment]
            missing = sampling.frames - len(segment)
            frames += images + [images[-1]] * missing
            times += [time for time, _ in segment] + [segment[-1][0]] * missing
    if len({image.shape for image in frames}) > 1:
        raise UnreadableVideo(f"{video.path} changes its frame size, so that its whole frames make no clip.")
    return Clip(
        torch.from_numpy(np.stack(frames).transpose(0, 3, 1, 2).copy()),
        torch.tensor(times, dtype=torch.float64),
    )


def _segment_starts(video: Video, sampling: Sampling, places: list[float]) -> list[float]:
    """Seconds at which segments begin; places in [0, 1) are their positions in the room they have."""
    length = sampling.frames / video.fps
    if sampling.spacing is None:
        part = video.duration / sampling.segments
        starts = [index * part + (part - length) * place for index, place in enumerate(places)]
    else:
        room = video.duration - length - (sampling.segments - 1) * sampling.spacing
        starts = [max(room, 0.0) * places[0] + index * sampling.spacing for index in range(sampling.segments)]
    return [max(0.0, min(start, video.duration - length)) for start in starts]


class _Reader:
    """One opened file: hands out runs of frames by time and seeks only where that saves decoding."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.reason = ""
        self._open()
        codec_rate = self.stream.codec_context.framerate
        self.fps = float(self.stream.average_rate or self.stream.guessed_rate or codec_rate or 25)

    def _open(self) -> None:
        try:
            # "file:" keeps a colon in a name from being read as a protocol.
            self.container: InputContainer = av.open(f"file:{self.path}", metadata_errors="ignore")
        except (av.FFmpegError, OSError) as error:
            raise UnreadableVideo(f"{self.path} cannot be opened as a video: {error.strerror}.") from error
        # Cover pictures of sound files are video streams too; "tty" is how FFmpeg plays plain text.
        streams = [s for s in self.container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams or self.container.format.name == "tty":
            self.container.close()
            raise UnreadableVideo(f"{self.path} has no video stream.")
        self.stream: VideoStream = streams[0]
        self.stream.codec_context.thread_count = 1  # workers are the parallelism
        self.tick = float(self.stream.time_base or 1)
        self.start = (self.stream.start_time or 0) * self.tick
        self._frames: Iterator[tuple[float, VideoFrame]] = self.frames()
        self._position = -math.inf  # seconds of the frame decoded last
        self._skip_until = -math.inf  # seconds before which frames that no other refers to are skipped

    def close(self) -> None:
        self.container.close()

    def frames(self) -> Iterator[tuple[float, VideoFrame]]:
        """Yield (seconds from the start, frame) until the end or the first damage."""
        time = -1 / self.fps
        codec = self.stream.codec_context
        skipping = None
        try:
            for packet in self.container.demux(self.stream):
                # H.264 marks what no other frame refers to; other codecs' decoders may drop more than that.
                skips = (
                    codec.name == "h264"
                    and packet.pts is not None
                    and packet.pts * self.tick - self.start < self._skip_until
                )
                if skips != skipping:
                    codec.skip_frame = "NONREF" if skips else "DEFAULT"
                    skipping = skips
                for frame in packet.decode():
                    time = time + 1 / self.fps if frame.time is None else frame.time - self.start
                    yield time, frame
        except av.FFmpegError as error:
            self.reason = f": {error.strerror}"

    def run(self, time: float, count: int) -> list[tuple[float, VideoFrame]]:
        """Return `count` consecutive frames, from the one nearest to `time` or the last ones of all."""
        wanted_from = time - 0.5 / self.fps
        held: deque[tuple[float, VideoFrame]] = deque(maxlen=count)
        for attempt, origin in enumerate(self._origins(time)):
            if origin is not None and not self._seek(origin):
                continue
            self._skip_until = -math.inf if attempt else time - UNSKIPPED
            held.clear()
            wanted = 0
            for position, frame in self._frames:
                self._position = position
                late = frame.time is None or position > time + 0.5 / self.fps
                if origin is not None and not held and late:
                    break  # the seek landed behind the wanted frame, or one cannot tell
                held.append((position, frame))
                wanted += position >= wanted_from
                if wanted == count:
                    return list(held)
            else:
                if len(held) == count and held[0][0] >= self._skip_until:
                    return list(held)
        return list(held)

    def _origins(self, time: float) -> Iterator[float | None]:
        """Places from which to decode, the cheapest first; None: go on from where the decoder is."""
        if self._position < time - 0.5 / self.fps and self._goes_on_to(time):
            yield None
        yield from (origin for origin in (time, time - SEEK_BACK) if origin > 0)
        self.container.close()
        self._open()
        yield None

    def _goes_on_to(self, time: float) -> bool:
        """Whether no keyframe lies between the decoder and `time`, so that seeking would save nothing."""
        if self._position == -math.inf:
            return time <= 0  # some containers load their index at the first seek
        index = self.stream.index_entries.search_timestamp(self._stamp(time))
        if index < 0:
            return time - self._position < BLIND_GAP
        return self.stream.index_entries[index].timestamp * self.tick - self.start <= self._position

    def _seek(self, time: float) -> bool:
        try:
            self.container.seek(self._stamp(time), stream=self.stream)
        except av.FFmpegError:
            return False  # not every container can: the caller then decodes from the start
        self._frames = self.frames()
        return True

    def _stamp(self, time: float) -> int:
        return round((time + self.start) / self.tick)

    def measure_duration(self) -> float:
        """Seconds from the first frame to the end of the last, by the packets near the end of the file."""
        declared = (self.stream.duration or 0) * self.tick
        if not declared and self.container.duration:
            declared = self.container.duration / av.time_base
        end = self._last_end() if self._seek(declared) else 0.0
        if not end:
            self.container.close()
            self._open()
            end = self._last_end()
        return max(end, 1 / self.fps)

    def _last_end(self) -> float:
        """Seconds at which the last frame from here on ends; by their number where packets carry no times."""
        end = 0.0
        untimed = 0
        try:
            for packet in self.container.demux(self.stream):
                stamp = packet.dts if packet.pts is None else packet.pts
                if stamp is not None:
                    lasting = packet.duration * self.tick if packet.duration else 1 / self.fps
                    end = max(end, stamp * self.tick - self.start + lasting)
                elif packet.size:
                    untimed += 1
        except av.FFmpegError as error:
            self.reason = f": {error.strerror}"
        return end or untimed / self.fps
