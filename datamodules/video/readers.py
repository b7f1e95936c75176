"""One opened video file: probing its stream, seeking by time stamps, runs of consecutive frames.

Every frame is found by its presentation time, never by its number. A run that begins inside the run before
takes over its frames, so that a file may be read densely in one pass.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from math import nan
from typing import Protocol

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from datamodules.errors import UnreadableVideo
from datamodules.names import file_of
from datamodules.video.time_axis import HOLE, Stamps, TimeAxis, measure

SEEK_BACK = 5.0
"""Seconds by which a seek that landed late is repeated earlier, before the file is decoded from its start."""

BLIND_GAP = 2.0
"""Seconds of frames worth decoding rather than seeking over, where the container has no index."""

UNSKIPPED = 1.0
"""Seconds before a wanted frame in which every frame is decoded, in case fewer than wanted follow it."""

_BOUNDS = {"max_pixels": str(1 << 27)}
"""Of a frame, which a small file can make as large as it likes; 16K has fewer pixels."""

Run = list[tuple[float, VideoFrame]]
"""Consecutive frames with their seconds from the video's start."""


class Reader(Protocol):
    """Hands out frames of one video by time."""

    reason: str
    """Why no more frames come, to be put behind a sentence; empty where no reason is known."""

    def run(self, time: float, count: int) -> Run:
        """Return `count` consecutive frames from the frame nearest to `time` on, or the last of all."""

    def close(self) -> None:
        """Let go of the video."""


class FileReader:
    """One opened file: hands out runs of frames by time and seeks only where that saves decoding.

    Args:
        path: the file.
        fps: frames a second; None: as the file declares them.
    """

    def __init__(self, path: str, fps: float | None = None) -> None:
        self.path = path
        self.reason = ""
        self._open()
        codec_rate = self.stream.codec_context.framerate
        declared = self.stream.average_rate or self.stream.guessed_rate or codec_rate or 25
        self.fps = float(declared) if fps is None else fps

    def _open(self) -> None:
        try:
            # "file:" keeps a colon in a name from being read as a protocol.
            self.container: InputContainer = av.open(
                f"file:{file_of(self.path)}", options=_BOUNDS, metadata_errors="ignore"
            )
        except (av.FFmpegError, OSError) as error:
            raise UnreadableVideo(f"{self.path} cannot be opened as a video: {error.strerror}.") from error
        # Cover pictures of sound files are video streams too; "tty" is how FFmpeg plays plain text.
        streams = [s for s in self.container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams or self.container.format.name == "tty":
            self.container.close()
            raise UnreadableVideo(f"{self.path} has no video stream.")
        # A sequence of pictures may have its cover as a first stream of one frame.
        self.stream: VideoStream = next((one for one in streams if one.frames != 1), streams[0])
        self.stream.codec_context.thread_count = 1  # workers are the parallelism
        self.stream.codec_context.options = _BOUNDS
        self.tick = float(self.stream.time_base or 1)
        self.start = (self.stream.start_time or 0) * self.tick
        self._frames: Iterator[tuple[float, VideoFrame]] = self.frames()
        self._position = -math.inf  # seconds of the frame decoded last
        self._skip_until = -math.inf  # seconds before which frames that no other refers to are skipped
        self._last: Run = []  # the run handed out last
        self._again: deque[tuple[float, VideoFrame]] = deque()  # decoded, and to be handed out once more

    def close(self) -> None:
        """Close the file, and let go of frames at once: who yields them holds this reader, too."""
        self._frames, self._last = iter(()), []
        self._again.clear()
        self.container.close()

    def frames(self) -> Iterator[tuple[float, VideoFrame]]:
        """Yield (seconds from the start, frame) until the end or the first damage."""
        time = -1 / self.fps
        codec = self.stream.codec_context
        skipping = None
        try:
            for packet in self.container.demux(self.stream):
                # H.264 marks frames that no other refers to; other codecs' decoders may drop more than these.
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

    def run(self, time: float, count: int) -> Run:
        """Return `count` consecutive frames from the frame nearest to `time` on, or the last of all."""
        self._last = self._find(time, count)
        return self._last

    def _find(self, time: float, count: int) -> Run:
        wanted_from = time - 0.5 / self.fps
        held: deque[tuple[float, VideoFrame]] = deque(maxlen=count)
        for attempt, origin in enumerate(self._origins(time)):
            if origin is not None and not self._seek(origin):
                continue
            self._skip_until = -math.inf if attempt else time - UNSKIPPED
            held.clear()
            wanted = 0
            for position, frame in self._upcoming():
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

    def _upcoming(self) -> Iterator[tuple[float, VideoFrame]]:
        while self._again:
            yield self._again.popleft()
        # `yield from` would end the frames for good when a run has enough of them.
        for timed in self._frames:  # noqa: UP028
            yield timed

    def _origins(self, time: float) -> Iterator[float | None]:
        """Yield places from which to decode, the cheapest first; None: go on from where the decoder is."""
        if self._last and self._last[0][0] < time - 0.5 / self.fps <= self._last[-1][0]:
            self._again.extendleft(reversed(self._last))
            yield None
        elif self._position < time - 0.5 / self.fps and self._goes_on_to(time):
            yield None
        yield from (origin for origin in (time, time - SEEK_BACK) if origin > 0)
        self.container.close()
        self._open()
        yield None

    def _goes_on_to(self, time: float) -> bool:
        """Return whether no keyframe lies between the decoder and `time`, so that seeking saves nothing."""
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
        self._again.clear()
        self._frames = self.frames()
        return True

    def _stamp(self, time: float) -> int:
        return round((time + self.start) / self.tick)

    def survey(self) -> tuple[VideoFrame | None, TimeAxis, float]:
        """Return the first frame, None where none decodes, the time axis, and the duration in seconds.

        Behind the first frame packets are read and not decoded. Where the container lists them and their
        times are in order, those near the file's end are enough.
        """
        listed = self._listed()
        axis = measure(listed, self.fps) if listed else None
        if axis is not None and not axis.note:
            _, first = next(self._frames, (0.0, None))
            duration = self._end_by_seeking(axis.duration)
            if first is None or abs(duration - axis.duration) <= HOLE * axis.longest:
                return first, axis, duration
            self.close()
            self._open()
        first, told = None, []
        try:
            for packet in self.container.demux(self.stream):
                if is_frame(packet):
                    told.append(self.told(packet))
                if first is None:
                    first = next(iter(packet.decode()), None)
        except av.FFmpegError as error:
            self.reason = f": {error.strerror}"
        axis = measure(told or [Stamps(nan, nan, 0.0, True)], self.fps)
        as_declared = not axis.note and axis.fps == self.fps
        return first, axis, self._end(told) if as_declared else axis.duration

    def told(self, packet: "Packet[VideoStream]") -> Stamps:
        """Return what a packet says of time."""
        shown, decoded = (
            nan if stamp is None else stamp * self.tick - self.start for stamp in (packet.pts, packet.dts)
        )
        return Stamps(shown, decoded, (packet.duration or 0) * self.tick, packet.is_keyframe)

    def _listed(self) -> list[Stamps]:
        """Return the packets by the container's own list, which then has times of decoding; else none."""
        entries = self.stream.index_entries
        if not self.container.format.name.startswith("mov") or len(entries) != self.stream.frames:
            return []
        listed = list(entries)
        if any(entry.is_discard for entry in listed):
            return []
        stamps = (entry.timestamp * self.tick - self.start for entry in listed)
        return [Stamps(nan, at, 0.0, entry.is_keyframe) for at, entry in zip(stamps, listed, strict=True)]

    def _end_by_seeking(self, near: float) -> float:
        told = list(map(self.told, self.packets())) if self._seek(near) else []
        if not told:
            self.close()
            self._open()
            told = list(map(self.told, self.packets()))
        return self._end(told)

    def packets(self) -> "Iterator[Packet[VideoStream]]":
        """Yield the packets of frames from here to the end or the first damage."""
        try:
            yield from filter(is_frame, self.container.demux(self.stream))
        except av.FFmpegError as error:
            self.reason = f": {error.strerror}"

    def _end(self, told: Sequence[Stamps]) -> float:
        """Return the seconds from the first frame to the end of the last of those told of."""
        ends = [1 / self.fps]
        for stamps in told:
            stamp = stamps.decoded if math.isnan(stamps.shown) else stamps.shown
            ends += [] if math.isnan(stamp) else [stamp + (stamps.lasting or 1 / self.fps)]
        return max(ends)


def is_frame(packet: "Packet[VideoStream]") -> bool:
    """Return whether a packet holds a frame that is to be shown: an edit list may hide it."""
    return packet.size > 0 and not packet.is_discard
