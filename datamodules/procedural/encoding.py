"""From display values to H.264 files and back: matrices, frames of 4:2:0, x264 whose bytes repeat."""

import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.bitstream import BitStreamFilterContext

from datamodules.video.colour import LUMA_WEIGHTS

COLOURS = {"bt709": ((0.2126, 0.0722), 1, 1, 1), "smpte170m": (LUMA_WEIGHTS[::2], 6, 6, 6)}
"""Weights of R and B in luma (the rest is G's); ITU-T H.273's numbers of matrix, primaries and transfer."""


@dataclass(frozen=True)
class Encoding:
    """Settings of x264.

    Attributes:
        crf: constant rate factor.
        preset: how much x264 tries.
        keyframes: at most so many frames from one to the next; seeking decodes from the one before.
        matrix: name in COLOURS.
    """

    crf: float
    preset: str
    keyframes: int
    matrix: str


def luma_of(picture: torch.Tensor, matrix: str) -> torch.Tensor:
    """Return the luma (H, W) of display values (3, H, W), by a matrix of COLOURS.

    Example:
        >>> luma_of(torch.ones(3, 1, 1), "bt709")
        tensor([[1.]])
    """
    red, blue = COLOURS[matrix][0]
    return red * picture[0] + (1 - red - blue) * picture[1] + blue * picture[2]


def video_frame(picture: torch.Tensor, matrix: str) -> av.VideoFrame:
    """Make a 4:2:0 frame of limited range from display values (3, H, W) in [0, 1], both sides even."""
    red, blue = COLOURS[matrix][0]
    luma = luma_of(picture, matrix)
    differences = F.avg_pool2d(torch.stack([picture[2] - luma, picture[0] - luma]), 2)
    scales = torch.tensor([112 / (1 - blue), 112 / (1 - red)])
    planes = (219 * luma + 16).flatten(), (differences * scales[:, None, None] + 128).flatten()
    height, width = luma.shape
    packed = torch.cat(planes).round_().to(torch.uint8).view(height * 3 // 2, width)
    return av.VideoFrame.from_ndarray(packed.numpy(), format="yuv420p")


def encode(frames: Iterator[av.VideoFrame], size: tuple[int, int], fps: int, encoding: Encoding) -> bytes:
    """Encode frames of a size (height, width) as an .mp4 file, the same bytes every time.

    With more threads x264's bitstream varies. On one thread it still varies from one encode to the next where
    its macroblock tree meets B-frames and AVX-512: the tree stays off.
    """
    _, matrix, primaries, transfer = COLOURS[encoding.matrix]
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        options = {"preset": encoding.preset, "crf": f"{encoding.crf:.3f}", "mbtree": "0"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        context = stream.codec_context
        (context.height, context.width), context.pix_fmt = size, "yuv420p"
        context.thread_count = 1
        context.gop_size = encoding.keyframes
        context.color_range, context.colorspace = 1, matrix
        context.color_primaries, context.color_trc = primaries, transfer
        # x264 writes its settings into the bitstream: a chain that can be read there is not hidden.
        strip = BitStreamFilterContext("filter_units=remove_types=6", stream)
        for frame in itertools.chain(frames, (None,)):  # None flushes
            for packet in stream.encode(frame):
                container.mux(strip.filter(packet))
    return file.getvalue()


def decoded_luma(file: bytes, numbers: Sequence[int]) -> torch.Tensor:
    """Return the luma in [0, 1], (N, H, W), of the frames of a file that have these numbers, in order."""
    with av.open(io.BytesIO(file), "r") as container:
        frames = [frame for number, frame in enumerate(container.decode(video=0)) if number in numbers]
    planes = np.stack([frame.to_ndarray(format="yuv420p")[: frame.height] for frame in frames])
    return ((torch.from_numpy(planes).float() - 16) / 219).clamp(0, 1)
