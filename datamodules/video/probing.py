"""What is known of a video before its frames are decoded, and the id under which all findings are kept."""

import hashlib
import stat
import struct
from contextlib import closing
from dataclasses import dataclass
from operator import attrgetter
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from datamodules.errors import UnreadableVideo
from datamodules.names import address_refused, is_url, name_of, was_url
from datamodules.video.one_file import of_one_file
from datamodules.video.packet_reader import PacketReader
from datamodules.video.readers import FileReader, Reader
from datamodules.video.time_axis import Floats

FINGERPRINT_CHUNK = 1 << 16  # bytes read at the head, the middle and the tail of a file to name its content

_WITHIN = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
"""Boxes of MP4 and MOV that hold boxes."""

_COUNTS = {b"stsz": 8, b"stz2": 8, b"trun": 4}
"""Boxes that list frames -> where the number of them stands in the box."""


@dataclass(frozen=True)
class Video:
    """One row of a corpus.

    Attributes:
        video_id: hash of the content, the same wherever the file lies.
        path: the file's name as text (`names.name_of`).
        width: pixels of a frame as displayed, after rotation; pixels are taken as square.
        height: lines of a frame as displayed, after rotation.
        fps: average frames per second.
        duration: seconds from the first frame to the end of the last, without holes.
        codec: FFmpeg's name of the decoder's format, such as "h264".
        interlaced: whether frames are two interleaved fields; they are decoded as they are, combing included.
        status: "ok" or "error".
        error: why no frame can be read; when ok empty, or what is wrong with the time stamps, such as "have a
            hole of 3600 s at 4 s": frames are then found by their packets.
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
        """Open the video for reading; raise UnreadableVideo where that fails."""
        return PacketReader(self.path) if self.error else FileReader(self.path, self.fps or None)

    @property
    def remark(self) -> str:
        """What was wrong with the time stamps and what was made of it, in a sentence; empty: nothing was."""
        if self.status != "ok" or not self.error:
            return ""
        return (
            f"The time stamps of {self.path} {self.error}: its frames are taken one after the other, "
            f"{self.fps:.4g} a second."
        )

    @of_one_file(attrgetter("path"))
    def frame_times(self) -> Floats:
        """Return the seconds (n,) at which frames begin, in order, by reading the packets again.

        Raises:
            UnreadableVideo: the file cannot be opened.
        """
        with closing(PacketReader(self.path)) as reader:
            return reader.axis.times if self.error else reader.axis.times + reader.first


def fingerprint(path: Path) -> str:
    """Hash the file's size and three of its chunks to 16 hex digits, at one cost for files of all sizes."""
    digest = hashlib.blake2b(digest_size=8)
    size = path.stat().st_size
    digest.update(size.to_bytes(8, "little"))
    with path.open("rb") as file:
        for offset in (0, (size - FINGERPRINT_CHUNK) // 2, size - FINGERPRINT_CHUNK):
            file.seek(max(offset, 0))
            digest.update(file.read(FINGERPRINT_CHUNK))
    return digest.hexdigest()


@of_one_file(name_of)
def probe(path: str | PathLike[str]) -> Video:
    """Read what a corpus row needs and decode the first frame, to know that the file gives frames.

    Time is what the packets say: a declared duration or rate may be absent or wrong, and the packets' own
    stamps may have holes or start anew (see `datamodules.video.time_axis`).

    Args:
        path: the file as Python names it.

    Raises:
        UnreadableVideo: there is no such file, or no frame of it can be decoded.

    Example:
        >>> probe("missing.mp4")
        Traceback (most recent call last):
        datamodules.errors.UnreadableVideo: missing.mp4 is missing.
    """
    name = name_of(path)
    if is_url(name):
        raise UnreadableVideo(address_refused(name))
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableVideo(f"{name} is not a file.")
        if not status.st_size:
            raise UnreadableVideo(f"{name} is empty: it has 0 bytes.")
        require_bounded(Path(path), status.st_size)
        video_id = fingerprint(Path(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        # A Path has joined an address's slashes.
        told = address_refused(name) if was_url(name) else f"{name} is missing."
        raise UnreadableVideo(told) from error
    with closing(FileReader(name)) as reader:
        first, axis, duration = reader.survey()
        if first is None:
            raise UnreadableVideo(f"{name} has a video stream without a frame that decodes{reader.reason}.")
        width, height = (first.width, first.height)[:: -1 if first.rotation % 180 else 1]
        return Video(
            video_id=video_id,
            path=name,
            width=width,
            height=height,
            fps=axis.fps,
            duration=duration,
            codec=reader.stream.codec_context.codec.canonical_name,
            interlaced=bool(first.interlaced_frame),
            content=video_id,
            error=axis.note,
        )


def require_bounded(path: Path, size: int) -> None:
    """Check that a file has a byte at least for each frame that it lists.

    FFmpeg believes what an MP4 of a few hundred bytes lists, and allocates 24 bytes for each frame.

    Args:
        path: any file; those that are neither MP4 nor MOV pass.
        size: of the file, in bytes.

    Raises:
        UnreadableVideo: it lists more frames.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if (most := _most_frames(file, size)) > size:
            raise UnreadableVideo(f"{name_of(path)} lists {most} frames in {size} bytes.")


def _most_frames(file: BinaryIO, size: int) -> int:
    """Return the length of the longest list of frames in a file."""
    most, spans = 0, [(0, size)]
    while spans:
        begin, end = spans.pop()
        if begin + 8 > end:
            continue
        file.seek(begin)
        length, kind = struct.unpack(">I4s", file.read(8))
        content = begin + 8
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
            content += 8
        behind = begin + length if length else end
        if behind >= content:  # else it is no box, and what follows is none
            spans.append((behind, end))
        if kind in _WITHIN:
            spans.append((content, min(behind, end)))
        elif kind in _COUNTS:
            file.seek(content + _COUNTS[kind])
            most = max(most, int.from_bytes(file.read(4), "big"))
    return most
