"""What a file may declare, whatever its size: pictures and frames that would fill the memory are refused.

FFmpeg believes what an MP4 of a few hundred bytes lists, and allocates 24 bytes for each frame.
"""

import struct
from pathlib import Path
from typing import BinaryIO

from datamodules.errors import UnreadableVideo
from datamodules.names import name_of

MOST_PIXELS = 1 << 27
"""Of a frame: 16K has fewer."""

_WITHIN = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
"""Boxes of MP4 and MOV that hold boxes."""

_COUNTS = {b"stsz": 8, b"stz2": 8, b"trun": 4}
"""Boxes that list frames -> where the number of them stands in the box."""


def require_bounded(path: Path, size: int) -> None:
    """Check that a file has a byte at least for each frame that it lists.

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
