"""How the scores of a round's annotators become labels: the settings `data.labelling`, and the rule itself.

A label is METHOD's rule on the margin D / sD, blurred and perhaps smoothed. A pair's confidence is the
probability of its likeliest level before any smoothing.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from datamodules.checks import check_between, check_choice, check_least
from datamodules.errors import InputError
from datamodules.labels.consensus import Consensus
from datamodules.labels.human_labels import MOSList
from datamodules.labels.levels import LEVELS, soft_levels

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Labelling:
    """How scores become labels.

    Args:
        teacher_weights: agreement: a teacher counts by how well it follows the known order of severities on
            the select split; equal: all teachers count alike, as in the paper.
        blur: standard deviation of a label's own noise, in standard deviations of the score difference; 0
            gives hard labels.
        smoothing: weight of the uniform distribution in the label of a pair on which the annotators disagree
            without bound, from 0 to below 1. A pair's own weight is this times its doubt.
        min_confidence: least probability of a pair's likeliest level, from 0 to 1. Less certain pairs of the
            round's annotator are not drawn, and are not kept when a later round labels them anew.
        mos: lists of mean opinion scores for human pairs: paths, or a path with more settings; null: the
            simulated observers of the embedded corpus. Pairs are drawn within a list and from the train
            split; videos without a MOS still serve the other kinds of pairs.

    Raises:
        InputError: a value is out of its range.
    """

    teacher_weights: Literal["agreement", "equal"] = "agreement"
    blur: float = 0.5
    smoothing: float = 0.0
    min_confidence: float = 0.0
    mos: list[MOSList | str] | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("data.labelling.teacher_weights", self.teacher_weights, ("agreement", "equal"))
        check_least("data.labelling.blur", self.blur, 0)
        check_between("data.labelling.min_confidence", self.min_confidence, 0, 1)
        if not 0 <= self.smoothing < 1:
            raise InputError(f"data.labelling.smoothing must be from 0 to below 1; got {self.smoothing}.")

    @property
    def mos_lists(self) -> list[MOSList]:
        """The lists of mean opinion scores, each with its settings."""
        return [MOSList(entry) if isinstance(entry, str) else entry for entry in self.mos or ()]


def labels_from_scores(
    consensus: Consensus, first: Positions, second: Positions, labelling: Labelling
) -> tuple[torch.Tensor, torch.Tensor]:
    """Label pairs by the difference of their scores.

    Args:
        consensus: the scores.
        first: (m,) positions in the consensus of the pairs' first sides.
        second: (m,) positions of their second sides.
        labelling: gives blur and smoothing.

    Returns:
        Margins (m,) and labels (m, 5), float32. Smoothing leaves the margin as it is.
    """
    margin = torch.from_numpy(consensus.margin(first, second)).float()
    labels = soft_levels(margin, consensus.cuts, labelling.blur)
    if labelling.smoothing:
        weight = labelling.smoothing * torch.from_numpy(consensus.doubt(first, second)).float()
        labels = torch.lerp(labels, torch.full_like(labels, 1 / len(LEVELS)), weight[:, None])
    return margin, labels


def confident(
    consensus: Consensus, first: Positions, second: Positions, labelling: Labelling
) -> npt.NDArray[np.bool_]:
    """Return which pairs (m,) are at least as certain as `labelling.min_confidence`, before any smoothing."""
    if labelling.min_confidence <= 0:
        return np.ones(len(first), dtype=bool)
    labels = soft_levels(
        torch.from_numpy(consensus.margin(first, second)).float(), consensus.cuts, labelling.blur
    )
    return np.asarray(labels.amax(dim=-1).numpy() >= labelling.min_confidence)
