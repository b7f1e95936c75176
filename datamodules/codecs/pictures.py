"""Between RGB clips and what an encoder takes and gives: pictures in 4:2:0, packets in one bitstream."""

import re
import struct
from collections.abc import Iterator, Sequence

import torch
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from torch import Tensor

SCALER = (
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
    reformatter = VideoReformatter()
    return [
        reformatter.reformat(
            VideoFrame.from_ndarray(image, format="rgb24"),
            width=size[1],
            height=size[0],
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=SCALER,
            threads=1,
        )
        for image in images
    ]


def without_signature(packet: bytes) -> bytes:
    """Take out supplemental information (NAL type 6): 700 bytes of x264's settings."""
    return re.sub(rb"\x00\x00\x01\x06.*?(?=\x00\x00\x01)", b"", packet, flags=re.DOTALL)


def join_packets(packets: Sequence[bytes]) -> bytes:
    """Join packets, the length of each before it."""
    return b"".join(struct.pack("<I", len(packet)) + packet for packet in packets)


def split_packets(bitstream: bytes) -> Iterator[bytes]:
    """Yield the packets that `join_packets` has joined."""
    start = 0
    while start < len(bitstream):
        (length,) = struct.unpack_from("<I", bitstream, start)
        start += 4
        yield bitstream[start : start + length]
        start += length
