"""A reader for files whose time stamps cannot be trusted: frames are found by their packets.

The packets are read once when the file is opened, and each is stamped with the place of its frame on the time
axis before it is decoded: what the file says of time is not asked again.
"""

from collections import deque
from collections.abc import Iterator
from itertools import chain

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from datamodules.errors import UnreadableVideo
from datamodules.video.readers import FileReader, Run, is_frame
from datamodules.video.time_axis import measure

NEAR = 500
"""Packets that are read over rather than sought over: a seek may land anywhere before."""

Placed = tuple[int, VideoFrame]
"""A frame behind its place on the time axis."""

Mark = tuple[int | None, int | None, int | None]
"""What tells a keyframe's packet from all others: both stamps and its position in the file."""


class PacketReader(FileReader):
    """One opened file: hands out runs of frames by their places on the time axis.

    Args:
        path: the file.

    Attributes:
        axis: where the frames lie.
        first: seconds of the first frame's stamp from the stream's start.

    Raises:
        UnreadableVideo: the file cannot be opened or holds no frame.
    """

    _number: int  # of the next packet
    _skip_to: int  # number of the next packet that is decoded
    _place: int  # of the frame decoded last
    _held: list[Placed]  # decoded, and to be handed out once more
    _placed: Iterator[Placed]  # not yet decoded

    def __init__(self, path: str) -> None:
        super().__init__(path)
        told, marks = [], []
        for packet in self.packets():
            told.append(self.told(packet))
            marks.append(_mark(packet))
        if not told:
            raise UnreadableVideo(f"{path} gives no frame that can be decoded{self.reason}.")
        self.axis = measure(told, self.fps)
        self.fps = self.axis.fps
        # Where frames are counted no packet knows its place: they are decoded from the first on.
        counted = self.axis.places is None
        self._keys = np.array([n for n, stamps in enumerate(told) if stamps.key and not counted], np.int64)
        self._marks = {number: marks[number] for number in self._keys.tolist()}
        self._numbers = {mark: number for number, mark in self._marks.items()}
        shown, clock = (np.array(column) for column in list(zip(*told, strict=True))[:2])
        self.first = float(np.nanmin(shown, initial=np.inf))
        self._seekable = bool((np.diff(clock) >= 0).all())  # never absent, and never going back
        self._restart()

    def run(self, time: float, count: int) -> Run:
        """Return `count` consecutive frames from the frame nearest to `time` on, or the last of all."""
        times = self.axis.times
        first = int(np.searchsorted(times, time - 0.5 / self.fps))
        first = max(0, min(first, len(times) - count))
        last = min(first + count, len(times)) - 1
        held: deque[Placed] = deque(maxlen=count)
        for go in (self._go_to, lambda _: self._restart()):
            go(first)
            held.clear()
            for place, frame in chain(self._held, self._placed):
                self._place = max(place, self._place)
                held.append((place, frame))
                if place >= last:
                    break
            else:
                self._place = len(times)  # nothing is ahead: the frames have come to an end or to a damage
            self._held = list(held)
            if held and held[-1][0] >= last:
                break
        return [(float(times[min(place, len(times) - 1)]), frame) for place, frame in held]

    def _go_to(self, first: int) -> None:
        """Make a place's frame one of the next: held, ahead, or behind a keyframe that is decoded next."""
        if self._held and self._held[0][0] <= first <= self._held[-1][0]:
            self._held = [one for one in self._held if one[0] >= first]
            return
        self._held = []
        key = 0
        if self.axis.places is not None and len(before := self._keys[self.axis.places[self._keys] <= first]):
            key = int(before[-1])
        ahead = self._place < first
        if ahead and key < self._number + NEAR:
            self._skip_to = key
        elif not (key and self._seekable and self._sought(key)):
            if not ahead:
                self._restart()
            self._skip_to = key

    def _restart(self) -> None:
        self.close()
        self._open()
        self._begin(self.container.demux(self.stream), 0, 0)

    def _begin(self, packets: "Iterator[Packet[VideoStream]]", number: int, key: int) -> None:
        self._number, self._skip_to, self._place, self._held = number, key, -1, []
        self._placed = self._decoded(packets)

    def _sought(self, key: int) -> bool:
        """Seek to a keyframe's packet or before it, and find out where that is; if that fails, start anew."""
        stamp = self._marks[key][1]
        assert stamp is not None  # of a file that can be sought
        try:
            self.container.seek(stamp, stream=self.stream)
            packets = self.container.demux(self.stream)
            for packet in packets:
                number = self._numbers.get(_mark(packet))
                if number is not None and number <= key:
                    self._begin(chain([packet], packets), number, key)
                    return True
        except av.FFmpegError:  # not every container can be sought: decode from the start
            pass
        self._restart()
        return False

    def _decoded(self, packets: "Iterator[Packet[VideoStream]]") -> Iterator[Placed]:
        """Yield frames with their places until the end or the first damage."""
        places, counted = self.axis.places, 0
        try:
            for packet in packets:
                number = self._number
                self._number += is_frame(packet)
                if packet.size and number < self._skip_to:
                    continue
                if places is not None and is_frame(packet) and number < len(places):
                    packet.pts, packet.dts = int(places[number]), None
                for frame in packet.decode():
                    yield (counted if places is None or frame.pts is None else frame.pts), frame
                    counted += 1
        except av.FFmpegError as error:
            self.reason = f": {error.strerror}"


def _mark(packet: "Packet[VideoStream]") -> Mark:
    return packet.pts, packet.dts, packet.pos
