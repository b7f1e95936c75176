"""Spatial and temporal information of ITU-T P.910: how much a video shows and how much it moves.

Both are computed in double precision from luma code values as they are given: neither the range nor the
transfer function is changed, which is the definition that published SI and TI figures rest on.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from datamodules.errors import InputError
from datamodules.teachers.teacher import Teacher
from datamodules.video import Sampling, luma


def spatial_information(luma: Tensor) -> Tensor:
    """Return SI of each frame: the deviation over space of the Sobel gradient's magnitude (ITU-T P.910).

    The gradient is taken where the whole 3 x 3 filter lies inside the frame.

    Args:
        luma: (..., H, W) in 0..255, of any dtype.

    Returns:
        float64 (...); NaN for frames of fewer than three lines or columns.
    """
    y = luma.double()
    rows = y[..., :-2, :] + 2 * y[..., 1:-1, :] + y[..., 2:, :]
    columns = y[..., :-2] + 2 * y[..., 1:-1] + y[..., 2:]
    across = rows[..., 2:] - rows[..., :-2]
    down = columns[..., 2:, :] - columns[..., :-2, :]
    return torch.hypot(across, down).std(dim=(-2, -1), correction=0)


def temporal_information(luma: Tensor) -> Tensor:
    """Return TI of each frame but the first: the deviation over space of its change (ITU-T P.910).

    Args:
        luma: (..., T, H, W) in 0..255, of any dtype, consecutive frames.

    Returns:
        float64 (..., T - 1).
    """
    return luma.double().diff(dim=-3).std(dim=(-2, -1), correction=0)


class SITI(Teacher):
    """SI or TI of P.910 as a score: a complexity, which is no quality.

    Blur and coding lower SI, noise raises it, and a still scene has no TI however good it looks; so the sign
    is the user's to choose, and the value of such a teacher is as a baseline, or where one content is watched
    at several severities. Unlike in P.910 the luma is full-range, from RGB, and the score is the mean over a
    clip's frames: a maximum over a sample would grow with the sample.

    Args:
        measure: "si" or "ti".
        higher_is_better: False turns the sign.
        segments: runs of frames taken over the duration.
        frames: consecutive frames of a run; TI needs two.
        window: frames larger than this are cut to a square of this side, in pixels.
        device: where clips are scored.

    Raises:
        InputError: if the measure is neither, or TI is asked of single frames.
    """

    def __init__(
        self,
        measure: Literal["si", "ti"] = "si",
        higher_is_better: bool = True,
        segments: int = 4,
        frames: int = 2,
        window: int | None = 512,
        device: str | torch.device = "cpu",
    ) -> None:
        if measure not in ("si", "ti"):
            raise InputError(f"The measure {measure!r} is neither 'si' nor 'ti'; give one of them.")
        if measure == "ti" and frames < 2:
            raise InputError(f"TI is the change from frame to frame and frames is {frames}; give 2 or more.")
        super().__init__(measure, Sampling(segments=segments, frames=frames, window=window), device=device)
        self.higher_is_better = higher_is_better

    @property
    def settings(self) -> Mapping[str, object]:
        """Also the sign."""
        return {**super().settings, "higher_is_better": self.higher_is_better}

    def score(self, clips: Tensor) -> Tensor:
        """Score clips (B, T, C, H, W) in [0, 1]: (B,), the signed mean over frames."""
        information = spatial_information if self.name == "si" else temporal_information
        value = information(luma(clips * 255).round()).mean(dim=1)
        return value if self.higher_is_better else -value
