"""Spatial and temporal information of ITU-T P.910: how much a video shows and how much it moves.

Both are computed in double precision from luma code values as given: neither the range nor the transfer
function is changed. Published SI and TI figures rest on this definition.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from datamodules.checks import check_choice, check_least
from datamodules.devices import in_float64
from datamodules.teachers.teacher import Teacher
from datamodules.video import Sampling, luma


def spatial_information(luma: Tensor) -> Tensor:
    """Return SI of each frame: the deviation over space of the Sobel gradient's magnitude (ITU-T P.910).

    The gradient is taken where the whole 3 x 3 filter lies inside the frame.

    Args:
        luma: (..., H, W) in 0..255, of any dtype.

    Returns:
        float64 (...); NaN for frames of fewer than three lines or columns.

    Example:
        >>> spatial_information(torch.arange(5).expand(4, 5)).item()  # a ramp has one gradient everywhere
        0.0
    """
    y = in_float64(luma)
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

    Example:
        >>> still = torch.rand(4, 5).expand(3, 4, 5)
        >>> temporal_information(still).tolist()
        [0.0, 0.0]
    """
    return in_float64(luma).diff(dim=-3).std(dim=(-2, -1), correction=0)


class SITI(Teacher):
    """SI or TI of P.910 as a score: a complexity, which is no quality.

    Blur and coding lower SI, noise raises it, and a still scene has no TI however good it looks. The user
    therefore chooses the sign. Such a teacher is of use as a baseline, or where one content is watched at
    several severities. Unlike in P.910 the luma is full-range, from RGB, and the score is the mean over a
    clip's frames: a maximum over a sample would grow with the sample.

    Args:
        measure: "si" or "ti".
        higher_is_better: False turns the sign.
        segments: runs of frames taken over the duration.
        frames: consecutive frames of a run; TI needs two.
        window: frames larger than this are cut to a square of this side, in pixels.
        device: where clips are scored.

    Raises:
        InputError: the measure is neither, or TI is asked of single frames.
    """

    in_workers = True

    def __init__(
        self,
        measure: Literal["si", "ti"] = "si",
        higher_is_better: bool = True,
        segments: int = 4,
        frames: int = 2,
        window: int | None = 512,
        device: str | torch.device = "cpu",
    ) -> None:
        check_choice("The measure of SITI", measure, ("si", "ti"))
        if measure == "ti":
            check_least("The frames of TI, the change from frame to frame,", frames, 2)
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
