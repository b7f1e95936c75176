"""From a difference of two clips' scores to the five levels: symmetric cuts, learnt per source of the label.

A level means a margin D / sD for labels from scores and a step for labels from severities, so each source has
cuts of its own. Every pointwise loss has cuts; where a loss is no function of the levels itself, the cuts
follow the scores without pulling at them.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.batches import PairBatch
from datamodules.pairs import SOURCES


class PointwiseLoss(nn.Module, ABC):
    """The cost of a difference of scores, with symmetric cuts learnt per source of the label.

    P(level <= k) = F(c_k - difference) with cuts -c2, -c1, c1, c2 and 0 < c1 < c2. F is the normal
    distribution unless a loss has another (McKelvey and Zavoina 1975). By the symmetry, swapping the clips
    mirrors the levels.

    Args:
        sources: number of label sources.

    Example:
        >>> class SquaredError(PointwiseLoss):
        ...     def forward(self, difference, batch):
        ...         return (difference - batch.margin).square() + self.fit_cuts(difference, batch)
        >>> [round(cut, 2) for cut in SquaredError().cuts()[0].tolist()]
        [0.3, 0.6]
    """

    def __init__(self, sources: int = len(SOURCES)) -> None:
        super().__init__()
        # softplus(-1.05) = 0.3: cuts at 0.3 and 0.6 give every level a fair chance while scores hardly
        # differ.
        self.steps = nn.Parameter(torch.full((sources, 2), -1.05))

    @abstractmethod
    def forward(self, difference: Tensor, batch: PairBatch) -> Tensor:
        """Return the loss of each pair (B,), float32.

        Args:
            difference: score of the second clip minus that of the first, (B,).
            batch: the pairs with their labels.
        """

    def cuts(self) -> Tensor:
        """Return the cuts c1 < c2 of every source, (sources, 2)."""
        return F.softplus(self.steps.float()).cumsum(dim=-1)

    def log_distribution(self, value: Tensor) -> Tensor:
        """Return the logarithm of F, elementwise; F must be symmetric about 0."""
        logarithm: Tensor = torch.special.log_ndtr(value)
        return logarithm

    def log_levels(self, difference: Tensor, source: Tensor) -> Tensor:
        """Return log-probabilities (B, 5) of the levels for differences (B,) and source indices (B,).

        Example:
            >>> levels = OrderedProbit().log_levels(torch.tensor([0.0]), torch.tensor([0])).exp()
            >>> [round(share, 3) for share in levels[0].tolist()]
            [0.274, 0.108, 0.236, 0.108, 0.274]
        """
        inner, outer = self.cuts()[source].unbind(dim=-1)
        edges = torch.stack([-outer, -inner, inner, outer], dim=-1) - difference.float()[:, None]
        # From the nearer tail and in logarithms: a confident mistake keeps its value and gradient.
        end = torch.full_like(edges[:, :1], torch.inf)
        upper, lower = torch.cat([edges, end], dim=-1), torch.cat([-end, edges], dim=-1)
        mirrored = lower > 0
        high = self.log_distribution(torch.where(mirrored, -lower, upper))
        low = self.log_distribution(torch.where(mirrored, -upper, lower))
        return high + torch.log1p(-torch.exp(low - high))

    def level_cross_entropy(self, difference: Tensor, batch: PairBatch) -> Tensor:
        """Return the cross-entropy (B,) of the levels against the labels."""
        return -(batch.levels * self.log_levels(difference, batch.source)).sum(-1)

    def fit_cuts(self, difference: Tensor, batch: PairBatch) -> Tensor:
        """Return zeros (B,) with the levels' cross-entropy's gradient in the cuts, none in the scores."""
        cost = self.level_cross_entropy(difference.detach(), batch)
        return cost - cost.detach()


class OrderedProbit(PointwiseLoss):
    """Cross-entropy of the levels under a normal distribution: the ordered probit.

    Example:
        >>> from types import SimpleNamespace
        >>> labels = SimpleNamespace(levels=torch.eye(5)[[4]], source=torch.tensor([0]))
        >>> round(OrderedProbit()(torch.tensor([2.0]), labels).item(), 4)  # superior, and scored so
        0.0842
    """

    def forward(self, difference: Tensor, batch: PairBatch) -> Tensor:
        """Return the loss of each pair (B,), float32."""
        return self.level_cross_entropy(difference, batch)
