"""The baseline beside which every figure is printed: the mean absolute Laplacian."""

import torch
from torch import Tensor

from datamodules.teachers.pictures import Picture, PictureTeacher
from datamodules.video import Sampling


class Laplacian(PictureTeacher):
    """The one-line baseline: mean absolute Laplacian of the luma.

    The baseline orders the levels of one content's blur or codec ladder nearly perfectly and knows nothing of
    quality across contents, which is why it stands in every table of results.

    Args:
        segments: single frames taken over the duration.
        window: frames larger than this are cut to a square of this side, in pixels.
        device: where frames are scored.
        name: under which scores are stored; a teacher needs another name than the baseline.
    """

    in_workers = True

    def __init__(
        self,
        segments: int = 4,
        window: int | None = 512,
        device: str | torch.device = "cpu",
        name: str = "laplacian",
    ) -> None:
        super().__init__(name, Sampling(segments=segments, frames=1, window=window), device=device)

    def measure(self, picture: Picture) -> Tensor:
        """Return the mean over all pixels of each frame, (N,)."""
        return detail(picture.luma)


def detail(y: Tensor) -> Tensor:
    """Return the mean absolute Laplacian of luma (B, H, W): (B,)."""
    inner = 4 * y[..., 1:-1, 1:-1]
    around = y[..., :-2, 1:-1] + y[..., 2:, 1:-1] + y[..., 1:-1, :-2] + y[..., 1:-1, 2:]
    return (inner - around).abs().mean(dim=(1, 2))
