"""The annotator that scores versions of a corpus against their sources by a full-reference metric.

SSIM, GMSD and VMAF are computed in one pass over a batch, on the device that distorts.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from datamodules.checks import check_choice
from datamodules.fidelity import Metric
from datamodules.fidelity.gmsd import gmsd
from datamodules.fidelity.planes import SMALLEST_SIDE
from datamodules.fidelity.ssim import ssim
from datamodules.fidelity.vmaf import VMAF_SMALLEST_SIDE, fastest_route, vmaf
from datamodules.teachers.batch import Batch
from datamodules.teachers.teacher import Teacher
from datamodules.video import Sampling

PERFECT = 1.0
"""Score of a source beside itself, by SSIM and by GMSD."""

SEGMENTS = Sampling(segments=2, frames=8, window=256)
"""What a metric compares where a model has no window of its own, or sees single frames."""

MODELS = {"vmaf": "vmaf_v0.6.1", "vmaf_neg": "vmaf_v0.6.1neg"}
"""Models of VMAF by the metric's name; scores of two models differ by up to 12 on one clip."""


class FullReference(Teacher):
    """An annotator that scores each distorted version against its own source, in segments.

    SSIM, and 1 less GMSD, are means over frames and over R, G and B: luma alone does not see a loss of
    colour. The source itself has the perfect score, 1. VMAF and VMAF NEG are means over frames, on luma, from
    0 to 100; the source itself has some 97 to 100. A clip from a codec is compared with the clip before the
    round trip. Frames with a side of less than 32 pixels get no score, from VMAF less than 48.

    Args:
        metric: "ssim", "gmsd", "vmaf" or "vmaf_neg"; also the name under which scores are stored.
        segments: of each clip.
        frames: consecutive frames in each segment, and in a codec's round trip.
        window: largest side of the native square window, in pixels; None: whole frames.
        draws: clips per video.
        device: where clips are distorted and compared.

    Raises:
        InputError: the metric is not known.
    """

    in_workers = True

    def __init__(
        self,
        metric: Metric,
        segments: int = 4,
        frames: int = 4,
        window: int | None = 256,
        draws: int = 1,
        device: str | torch.device = "cpu",
    ) -> None:
        check_choice("The metric of FullReference", metric, ("ssim", "gmsd", *MODELS))
        super().__init__(metric, Sampling(segments=segments, frames=frames, window=window), draws, device)

    @classmethod
    def of_clips(cls, metric: Metric, sampling: Sampling) -> "FullReference":
        """Return the metric of the very clips that a model sees, or of `SEGMENTS` where it has no window.

        It compares every second frame: the others say the same of a segment, and take as long.

        Args:
            metric: as above.
            sampling: how the model's clips are cut.
        """
        cut = sampling if sampling.window is not None and sampling.frames > 1 else SEGMENTS
        found = cls(metric, cut.segments, cut.frames, cut.window)
        found.every = 2 if cut.frames > 2 else 1
        return found

    @property
    def settings(self) -> Mapping[str, object]:
        """Also the model of VMAF; by which route a score came makes no difference to it."""
        model = {"model": MODELS[self.name]} if self.name in MODELS else {}
        return {**super().settings, **model}

    def compare(self, clips: Tensor, sources: Tensor) -> Tensor:
        """Score clips (B, T, C, H, W) in [0, 1] against sources of the same shape.

        Returns:
            (B,), at most 1 and exactly 1 for the source itself, of VMAF 0 to 100; NaN for frames that are too
            small.
        """
        if min(clips.shape[-2:]) < (VMAF_SMALLEST_SIDE if self.name in MODELS else SMALLEST_SIDE):
            return clips.new_full(clips.shape[:1], torch.nan)
        if self.name in MODELS:
            neg = self.name == "vmaf_neg"
            return vmaf(clips, sources, neg=neg, route=fastest_route(clips))
        similarity = ssim(clips, sources) if self.name == "ssim" else PERFECT - gmsd(clips, sources)
        return similarity.mean((1, 2))

    def score(self, clips: Tensor) -> Tensor:
        """Score clips that are their own sources: the score of nothing lost."""
        return self.compare(clips, clips)

    def score_batch(self, batch: Batch) -> Tensor:
        """Score distorted clips against the items' sources, segment by segment."""
        sources = torch.stack([item.sources.to(self.device) for item in batch.items]) / 255
        return self.compare(self.apart(batch.clips), self.apart(sources))
