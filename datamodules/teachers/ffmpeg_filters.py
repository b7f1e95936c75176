"""Teachers that ask FFmpeg's own filters, blurdetect and blockdetect, through PyAV.

Every frame gets a filter graph of its own: blockdetect never clears its sums, so that a frame's figure would
partly be that of the frames before it, and threads have nothing to share. Options are FFmpeg's defaults.
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Literal

import av
import numpy as np
import numpy.typing as npt
import torch
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from torch import Tensor

from datamodules.checks import check_choice
from datamodules.teachers.teacher import Teacher
from datamodules.video import Sampling, luma

KEYS = {"blurdetect": "lavfi.blur", "blockdetect": "lavfi.block"}
"""The filters, and where each leaves its figure in a frame's metadata."""


def measure(luma: npt.NDArray[np.uint8], detector: str) -> float:
    """Run one of `KEYS` over a frame and return its figure, which grows as quality falls.

    blurdetect: the mean width of edges in pixels (Marziliano, Dufaux, Winkler and Ebrahimi, ICIP 2002).
    blockdetect: how far the differences across the strongest grid of 3 to 24 pixels exceed those around it
    (after Muijs and Kirenko, EUSIPCO 2005).

    Args:
        luma: uint8 (H, W).
        detector: a key of `KEYS`.

    Returns:
        The figure; NaN where the frame is flat, has no edge, or is too small to hold blocks.
    """
    height, width = luma.shape
    graph = Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add_buffer(width=width, height=height, format=VideoFormat("gray"), time_base=Fraction(1)),
        graph.add(detector),
        graph.add("buffersink"),
    ).configure()
    graph.vpush(VideoFrame.from_ndarray(luma, format="gray"))
    value = float(graph.vpull().metadata[KEYS[detector]])
    return value if value > 0 else math.nan


class FFmpegDetector(Teacher):
    """blurdetect or blockdetect with the sign turned, so that higher is better.

    Figures are comparable within one resolution: widths of edges and of blocks are in pixels. Figures are
    measured on full-range luma, while FFmpeg's command line sees a file's luma as it is stored.

    Args:
        detector: "blurdetect" or "blockdetect".
        segments: single frames taken over the duration.
        window: frames larger than this are cut to a square of this side, in pixels.
        device: where clips are distorted; the filters run on the host.

    Raises:
        InputError: the detector is neither.
    """

    in_workers = True

    def __init__(
        self,
        detector: Literal["blurdetect", "blockdetect"],
        segments: int = 4,
        window: int | None = 512,
        device: str | torch.device = "cpu",
    ) -> None:
        check_choice("The detector of FFmpegDetector", detector, KEYS)
        super().__init__(detector, Sampling(segments=segments, frames=1, window=window), device=device)

    @property
    def settings(self) -> Mapping[str, object]:
        """Also the version of FFmpeg's filter library, which computes the figure."""
        return {**super().settings, "libavfilter": ".".join(map(str, av.library_versions["libavfilter"]))}

    def score(self, clips: Tensor) -> Tensor:
        """Score clips (B, T, C, H, W) in [0, 1]: (B,), minus the mean figure of the frames that have one."""
        planes = luma(clips * 255).round().to(torch.uint8).flatten(0, 1).cpu().numpy()
        values = torch.tensor([measure(plane, self.name) for plane in planes])
        return -values.view(clips.shape[:2]).nanmean(dim=1).to(clips.device)
