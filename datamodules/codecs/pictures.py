"""Between RGB clips and what an encoder takes and gives: pictures in 4:2:0, packets in one bitstream."""

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from torch import Tensor

_SCALER = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT
)


def to_yuv(clip: Tensor, padded: tuple[int, int], size: tuple[int, int]) -> list[VideoFrame]:
    """Pad a clip by its border pixels, then bring it to (height, width) in 4:2:0."""
    rows, columns = (
        torch.arange(side).clamp(max=last - 1) for side, last in zip(padded, clip.shape[-2:], strict=True)
    )
    images = clip.permute(0, 2, 3, 1)[:, rows][:, :, columns].contiguous().numpy()
    return _converted(
        (VideoFrame.from_ndarray(image, format="rgb24") for image in images),
        size,
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
    )


def to_rgb(frames: Iterable[VideoFrame], size: tuple[int, int]) -> Tensor:
    """Bring decoded frames in 4:2:0 to RGB, uint8 (T, 3, *size)."""
    pictures = _converted(
        frames,
        size,
        format="rgb24",
        src_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    )
    return torch.from_numpy(np.stack([picture.to_ndarray() for picture in pictures])).permute(0, 3, 1, 2)


def as_stored(clip: Tensor) -> Tensor:
    """Return a clip uint8 (T, 3, H, W) as a file would hold it: with half the lines and columns of colour.

    Example:
        >>> as_stored(torch.zeros(1, 3, 15, 20, dtype=torch.uint8)).shape
        torch.Size([1, 3, 15, 20])
    """
    height, width = clip.shape[-2:]
    even = height + height % 2, width + width % 2
    return to_rgb(to_yuv(clip, even, even), even)[..., :height, :width]


def _converted(frames: Iterable[VideoFrame], size: tuple[int, int], **formats: Any) -> list[VideoFrame]:
    reformatter, (height, width) = VideoReformatter(), size
    formats |= {"interpolation": _SCALER, "threads": 1}
    return [reformatter.reformat(frame, width=width, height=height, **formats) for frame in frames]


def without_signature(packet: bytes) -> bytes:
    r"""Take out supplemental information (NAL type 6): 700 bytes of x264's settings.

    Example:
        >>> without_signature(bytes.fromhex("00000106 05ff 00000165 88"))
        b'\x00\x00\x01e\x88'
    """
    return re.sub(rb"\x00\x00\x01\x06.*?(?=\x00\x00\x01)", b"", packet, flags=re.DOTALL)


def join_packets(packets: Sequence[bytes]) -> bytes:
    r"""Join packets, the length of each before it.

    Example:
        >>> join_packets([b"ab", b"c"])
        b'\x02\x00\x00\x00ab\x01\x00\x00\x00c'
    """
    return b"".join(struct.pack("<I", len(packet)) + packet for packet in packets)


def split_packets(bitstream: bytes) -> Iterator[bytes]:
    """Yield the packets that `join_packets` has joined.

    Example:
        >>> list(split_packets(join_packets([b"ab", b"c"])))
        [b'ab', b'c']
    """
    start = 0
    while start < len(bitstream):
        (length,) = struct.unpack_from("<I", bitstream, start)
        start += 4
        yield bitstream[start : start + length]
        start += length
