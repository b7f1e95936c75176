"""Full-reference metrics: how far a distorted clip fell from its known source.

SSIM and GMSD are computed on the device in one pass over all planes of a batch, and label the versions of a
corpus through `FullReference`. XPSNR is FFmpeg's own. It labels nothing, so that it can judge the labels.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import torch
import torch.nn.functional as F
from av import VideoFormat, VideoFrame
from av.filter import Graph
from torch import Tensor

from datamodules.checks import check_choice
from datamodules.errors import InputError
from datamodules.labels import ClipItem
from datamodules.teachers.teacher import Teacher
from datamodules.video import Sampling

PERFECT = 1.0
"""Score of a source beside itself, by SSIM and by GMSD."""

Metric = Literal["ssim", "gmsd"]

SMALLEST_SIDE = 32
"""Pixels: leaves 7 x 7 blocks to SSIM, and 14 x 14 gradients to GMSD, which halves the frame first."""

SEGMENTS = Sampling(segments=2, frames=8, window=256)
"""What a metric compares where a model has no window of its own, or sees single frames."""

_XPSNR_SMALLEST_SIDE = 48  # FFmpeg 8 divides by zero, which ends the process, below 45 x 45 pixels


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Compare planes by structural similarity (Wang et al. 2004) in blocks of 8 x 8 every 4 pixels.

    The blocks are those of FFmpeg's and x264's SSIM. They order versions of real clips as torchmetrics'
    Gaussian window at every pixel does (SRCC above .99) and take a fortieth of its time on a processor.

    Args:
        first: (..., H, W) in [0, 1], sides of at least 32 pixels.
        second: the same shape.

    Returns:
        (...), at most 1 and exactly 1 for equal planes; symmetric.

    Raises:
        InputError: the shapes differ or a side is too small.
    """
    _check(first, second)
    moments = torch.stack([first, second, first * first + second * second, first * second])
    blocks = F.avg_pool2d(moments.flatten(0, -3), 8, 4)
    a, b, squares, product = blocks.view(*moments.shape[:-2], *blocks.shape[-2:])
    luminance = (2 * a * b + 0.01**2) / (a * a + b * b + 0.01**2)
    # a * a + b * b is subtracted as one sum: of equal planes numerator and denominator are then the same bits
    structure = (2 * (product - a * b) + 0.03**2) / (squares - (a * a + b * b) + 0.03**2)
    similarity: Tensor = luminance * structure
    return similarity.mean((-2, -1))


def gmsd(first: Tensor, second: Tensor) -> Tensor:
    """Compare planes by gradient magnitude similarity deviation (Xue et al., IEEE TIP 23(2), 2014).

    GMSD is the standard deviation over the plane of the similarity (2 m n + c) / (m^2 + n^2 + c), where m and
    n are the magnitudes of the Prewitt gradients after averaging 2 x 2 pixels, and c = 170 on the scale of 8
    bits. Gradients are taken where they fit: the authors' code pads with zeros, which draws an edge around
    the frame.

    Args:
        first: (..., H, W) in [0, 1], sides of at least 32 pixels.
        second: the same shape.

    Returns:
        (...), at least 0 and exactly 0 for equal planes, higher worse; symmetric, and blind to a constant
        added to either plane.

    Raises:
        InputError: the shapes differ or a side is too small.
    """
    _check(first, second)
    c = 170 / 255**2
    m, n = _gradient_magnitude(first), _gradient_magnitude(second)
    return ((2 * m * n + c) / (m * m + n * n + c)).std((-2, -1), correction=0)


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


class FullReference(Teacher):
    """An annotator that scores each distorted version against its own source, in segments.

    The score is SSIM, or 1 less GMSD, as the mean over frames and over R, G and B: luma alone does not see a
    loss of colour. The source itself has the perfect score, 1. A clip from a codec is compared with the clip
    before the round trip. Frames with a side of less than 32 pixels get no score.

    Args:
        metric: "ssim" or "gmsd"; also the name under which scores are stored.
        segments: of each clip.
        frames: consecutive frames in each segment, and in a codec's round trip.
        window: largest side of the native square window, in pixels; None: whole frames.
        draws: clips per video.
        device: where clips are distorted and compared.

    Raises:
        InputError: the metric is not known.
    """

    def __init__(
        self,
        metric: Metric,
        segments: int = 4,
        frames: int = 4,
        window: int | None = 256,
        draws: int = 1,
        device: str | torch.device = "cpu",
    ) -> None:
        check_choice("The metric of FullReference", metric, ("ssim", "gmsd"))
        super().__init__(metric, Sampling(segments=segments, frames=frames, window=window), draws, device)

    @classmethod
    def of_clips(cls, metric: Metric, sampling: Sampling) -> "FullReference":
        """Return the metric of the very clips that a model sees, or of `SEGMENTS` where it has no window.

        Args:
            metric: as above.
            sampling: how the model's clips are cut.
        """
        cut = sampling if sampling.window is not None and sampling.frames > 1 else SEGMENTS
        return cls(metric, cut.segments, cut.frames, cut.window)

    def compare(self, clips: Tensor, sources: Tensor) -> Tensor:
        """Score clips (B, T, C, H, W) in [0, 1] against sources of the same shape.

        Returns:
            (B,), at most 1 and exactly 1 for the source itself; NaN for frames that are too small.
        """
        if min(clips.shape[-2:]) < SMALLEST_SIDE:
            return clips.new_full(clips.shape[:1], torch.nan)
        similarity = ssim(clips, sources) if self.name == "ssim" else PERFECT - gmsd(clips, sources)
        return similarity.mean((1, 2))

    def score(self, clips: Tensor) -> Tensor:
        """Score clips that are their own sources: the perfect score."""
        return self.compare(clips, clips)

    def score_items(self, clips: Tensor, items: Sequence[ClipItem]) -> Tensor:
        """Score distorted clips against the items' sources, segment by segment."""
        sources = torch.stack([item.sources.to(self.device) for item in items]) / 255
        return self.compare(self.apart(clips), self.apart(sources))


def _gradient_magnitude(planes: Tensor) -> Tensor:
    halved = F.avg_pool2d(planes.reshape(-1, *planes.shape[-2:]), 2)
    across = F.avg_pool2d(halved, (3, 1), 1)
    down = F.avg_pool2d(halved, (1, 3), 1)
    gradient = torch.hypot(across[..., 2:] - across[..., :-2], down[..., 2:, :] - down[..., :-2, :])
    return gradient.view(*planes.shape[:-2], *gradient.shape[-2:])


def _check(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or min(first.shape[-2:]) < SMALLEST_SIDE:
        raise InputError(
            f"Planes must have equal shapes (..., H, W) with sides of at least {SMALLEST_SIDE} pixels; got "
            f"{tuple(first.shape)} and {tuple(second.shape)}."
        )
