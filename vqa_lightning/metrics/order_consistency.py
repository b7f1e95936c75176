"""Whether a pairwise answer depends on which clip is shown first."""

import torch
from torch import Tensor
from torchmetrics import Metric

from datamodules.labels import preference


class OrderConsistency(Metric):
    """Share of pairs of which both orders of asking prefer the same clip.

    An answer that prefers neither clip counts as a toss of a coin: its pair counts half. Answers that have
    nothing to do with the clips give 0.5. Less means a bias of position: a model that always prefers the clip
    shown second has 0.

    Example:
        >>> metric, second_is_better = OrderConsistency(), torch.tensor([[0.0, 0.0, 0.0, 0.2, 0.8]])
        >>> metric.update(second_is_better, second_is_better.flip(-1))
        >>> metric.compute()
        tensor(1.)
    """

    full_state_update = False
    same: Tensor
    pairs: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("same", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("pairs", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, forward: Tensor, backward: Tensor) -> None:
        """Count a batch.

        Args:
            forward: (B, 5) distributions over the levels, inferior first, of second clips beside first clips.
            backward: (B, 5) distributions over the levels of first clips beside second clips.
        """
        # Against its mirror image a symmetric answer leans by exactly 0, whatever the rounding.
        second = preference(forward - forward.flip(-1)).sign()
        first = preference(backward - backward.flip(-1)).sign()
        self.same += ((1 - second * first) / 2).sum()
        self.pairs += len(forward)

    def compute(self) -> Tensor:
        """Return the share; nan where no pair was seen."""
        return self.same / self.pairs
