"""How a video is scored: how many clips, beside which anchors, in which orders."""

from dataclasses import dataclass
from typing import Literal

from datamodules.checks import check_least

Judgement = Literal["pairwise", "pointwise"]


@dataclass(frozen=True)
class Scoring:
    """How a video is scored.

    Args:
        draws: clips of a video, 2 or more; the video's score is their mean, and their spread gives the
            standard error.
        whole: what is published sees whole frames, where training and its rounds see windows; for models that
            take any size.
        both_orders: whether a pairwise score asks with the clip first too, not only with the anchor first.
        anchors: videos that others are compared with when `model.score_by` is pairwise: a number of videos of
            the train split, 2 or more, or a list of files.

    Raises:
        InputError: a number is below 2.

    Example:
        >>> Scoring(anchors=["sharp.mp4", "blurred.mp4"]).count
        2
        >>> Scoring(draws=1)
        Traceback (most recent call last):
        datamodules.errors.InputError: model.scoring.draws must be 2 or more; got 1.
    """

    draws: int = 4
    whole: bool = False
    both_orders: bool = True
    anchors: int | list[str] = 5

    def __post_init__(self) -> None:
        """Check both numbers: a standard error and a scale need two values."""
        check_least("model.scoring.draws", self.draws, 2)
        check_least("model.scoring.anchors", self.count, 2)

    @property
    def count(self) -> int:
        """The number of anchors."""
        return self.anchors if isinstance(self.anchors, int) else len(self.anchors)

    @property
    def files(self) -> list[str] | None:
        """The files of the anchors; None where the train split gives them."""
        return None if isinstance(self.anchors, int) else self.anchors
