"""The encoders that a codec can name, opened so that the same frames always give the same bitstream."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import Literal, NamedTuple

import av
from av.codec.codec import UnknownCodecError
from av.video.codeccontext import VideoCodecContext


class Encoder(NamedTuple):
    """What FFmpeg's wrapper of an encoder does not tell: its limits, and what makes its bitstream repeat."""

    decoder: str
    crf: range
    clamp: int
    """The CRF above which nothing changes."""
    minimum: int
    """Pixels of a side; smaller frames are padded to it."""
    options: Mapping[str, str]
    parameters: str = ""
    """The option that passes the encoder's own parameters, to which a user's are added."""


ENCODERS: Mapping[str, Encoder] = {
    # With mbtree, B-frames and AVX-512 one clip was seen to give two bitstreams, on one thread too.
    "libx264": Encoder("h264", range(64), 51, 2, {"x264-params": "mbtree=0"}, "x264-params"),
    # x265 4.2 refuses sides under 16, writes past its buffers where frames are up to 48 pixels wide, and of
    # frames that fit into one coding unit of 64 one clip in twenty gave another bitstream when repeated.
    "libx265": Encoder(
        "hevc",
        range(52),
        51,
        72,
        {"x265-params": "pools=none:frame-threads=1:info=0:log-level=none"},
        "x265-params",
    ),
    "libvpx-vp9": Encoder("vp9", range(64), 63, 2, {"b": "0"}),
    # Below 64 pixels some releases refuse a frame and others switch tools off; CRF 0 is read as the default.
    "libsvtav1": Encoder("libdav1d", range(1, 64), 63, 64, {"svtav1-params": "lp=1"}, "svtav1-params"),
}
"""Encoders that a codec can name."""


@contextmanager
def scheduling_kept() -> Iterator[None]:
    """Undo what SVT-AV1 does where it runs as root, as in most containers.

    SVT-AV1 gives real-time priority to its own threads and to the thread that opens it, and so to every
    process that is forked later: all other processes on the machine starve.
    """
    if sys.platform != "linux":
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    before = set(os.listdir("/proc/self/task"))
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)
        for thread in set(os.listdir("/proc/self/task")) - before:
            with suppress(ProcessLookupError):  # it has ended
                os.sched_setscheduler(int(thread), policy, parameters)


@cache
def in_build(encoder: str) -> bool:
    """Return whether this build of PyAV has one of `ENCODERS` and its decoder."""
    try:
        av.Codec(encoder, "w")
        av.Codec(ENCODERS[encoder].decoder, "r")
    except UnknownCodecError:
        return False
    return True


def open_context(name: str, mode: Literal["r", "w"]) -> VideoCodecContext:
    """Make an encoder or decoder that runs on one thread.

    Example:
        >>> open_context("h264", "r").thread_count
        1
    """
    context = av.CodecContext.create(name, mode)
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    return context
