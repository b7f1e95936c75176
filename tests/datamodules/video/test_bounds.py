"""Files of less than a megabyte that declare huge pictures or millions of frames: little memory and time."""

import json
import struct
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from datamodules.errors import UnreadableVideo
from datamodules.video import probe

MEGABYTES, SECONDS = 2048, 30

READ = """
import json, sys, time
from datamodules.errors import UnreadableVideo
from datamodules.video import Sampling, probe, read_clip

found = {}
for file in sys.argv[1:]:
    began = time.monotonic()
    try:
        read_clip(probe(file), Sampling(frames=2, window=32))
        told = ""
    except UnreadableVideo as error:
        told = str(error)
    found[file] = told, time.monotonic() - began
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps([found, int(status["VmHWM"].split()[0]) / 1024]))  # of this program, not of who started it
"""


def png(side: int, depth: int, colour: int = 0) -> bytes:
    """A black picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data))

    row, packed = bytes(1 + side * depth * (3 if colour else 1) // 8), zlib.compressobj()
    data = b"".join(packed.compress(row) for _ in range(side)) + packed.flush()
    header = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def film(path: Path, picture: bytes) -> Path:
    """A film of one picture as it is."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "gray"
        packet = av.Packet(picture)
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 25)
        packet.is_keyframe = True
        container.mux(packet)
    return path


def listing(path: Path, frames: int) -> Path:
    """An MP4 of three frames whose tables list as many as asked for."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        container.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    for box, told in {b"stts": (1, frames, 512), b"stsz": (1, frames), b"stsc": (1, 1, frames, 1)}.items():
        content = data.index(box) + 8
        data[content : content + 4 * len(told)] = struct.pack(f">{len(told)}I", *told)
    path.write_bytes(data)
    return path


def test_memory_and_time_are_bounded(tmp_path: Path) -> None:
    wide = b"YUV4MPEG2 W32768 H32768 F25:1 Ip A1:1 C420\nFRAME\n" + bytes(1000)
    (tmp_path / "wide.y4m").write_bytes(wide)
    screen = b"GIF89a" + struct.pack("<HHBBB", 32768, 32768, 128, 0, 0) + bytes(6)
    (tmp_path / "wide.gif").write_bytes(screen + b",\0\0\0\0\x10\0\x10\0\0\x02\x02D\x01\0;")
    film(tmp_path / "bits.mov", png(32768, 1))
    film(tmp_path / "grey.mov", png(16384, 8))
    listing(tmp_path / "million.mp4", 10**6)
    listing(tmp_path / "most.mp4", 5 * 10**7)
    (tmp_path / "nested.mp4").write_bytes(struct.pack(">I4s", 0, b"moov") * 100_000)
    files = sorted(map(str, tmp_path.iterdir()))
    assert all(Path(file).stat().st_size < 2**20 for file in files)
    done = subprocess.run([sys.executable, "-c", READ, *files], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    found, megabytes = json.loads(done.stdout)
    assert megabytes < MEGABYTES
    assert all(told and seconds < SECONDS for told, seconds in found.values()), found


def test_the_largest_pictures_that_people_have_are_read(tmp_path: Path) -> None:
    video = probe(film(tmp_path / "8k.mov", png(8192, 1)))
    assert (video.width, video.height) == (8192, 8192)


@pytest.mark.parametrize("frames", [5000, 2**32 - 1])
def test_more_frames_than_bytes_are_one_sentence(tmp_path: Path, frames: int) -> None:
    with pytest.raises(UnreadableVideo, match=f"lists {frames} frames in"):
        probe(listing(tmp_path / "a.mp4", frames))
