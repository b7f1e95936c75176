"""XPSNR of a segment, by FFmpeg's own filter. It labels nothing, so that it can judge the labels."""

from fractions import Fraction

import torch
from av import VideoFormat, VideoFrame
from av.filter import Graph
from torch import Tensor

from datamodules.errors import InputError

_XPSNR_SMALLEST_SIDE = 48  # FFmpeg 8 divides by zero, which ends the process, below 45 x 45 pixels


def xpsnr(clip: Tensor, source: Tensor) -> float:
    """Compare a segment with its source by XPSNR (Helmrich et al., ICASSP 2020), as FFmpeg's filter does.

    XPSNR is a PSNR with errors weighted by how much spatial and temporal activity masks them. The filter sees
    R, G and B as BT.601 Y, Cb and Cr without subsampling. Frames are averaged by the root of their weighted
    errors and the worst of the three planes counts, which is the filter's own summary.

    Args:
        clip: uint8 (T, 3, H, W), consecutive frames, at least 48 x 48 pixels.
        source: the same shape.

    Returns:
        Decibels, higher better; infinite for equal clips. Not symmetric: the source's activity masks.

    Raises:
        InputError: the shapes differ or the frames are too small.
    """
    height, width = source.shape[-2:]
    if clip.shape != source.shape or min(height, width) < _XPSNR_SMALLEST_SIDE:
        raise InputError(
            "Clip and source of XPSNR must have equal shapes (T, 3, H, W) of at least 48 x 48 pixels; got "
            f"{tuple(clip.shape)} and {tuple(source.shape)}."
        )
    graph = Graph()
    inputs = [
        graph.add_buffer(width=width, height=height, format=VideoFormat("yuv444p"), time_base=Fraction(1, 25))
        for _ in range(2)
    ]
    compare, sink = graph.add("xpsnr"), graph.add("buffersink")
    for position, buffer in enumerate(inputs):
        buffer.link_to(compare, 0, position)
    compare.link_to(sink)
    graph.configure()
    for buffer, frames in zip(inputs, (source, clip), strict=True):
        for number, pixels in enumerate(frames.permute(0, 2, 3, 1).contiguous().cpu().numpy()):
            frame = VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv444p")
            frame.pts = number
            buffer.push(frame)
        buffer.push(None)
    decibels = torch.zeros(len(clip), 3, dtype=torch.float64)
    for row in decibels:
        metadata = sink.pull().metadata
        row[:] = torch.tensor([float(metadata[f"lavfi.xpsnr.xpsnr.{plane}"]) for plane in "yuv"])
    return float(-20 * (10 ** (-decibels / 20)).mean(0).log10().max())
