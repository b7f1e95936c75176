"""Losses of the pointwise judgement: what the difference of two clips' scores costs.

A level means a margin D / sD for labels from scores and a step for labels from severities, so the cuts that
turn a difference into levels are learnt per source of the label. Every loss has them; where it is no function
of the levels itself, the cuts follow the scores without pulling at them.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.batches import PairBatch
from datamodules.labels import LEVELS
from datamodules.pairs import SOURCES


def margin_cross_entropy(difference: Tensor, margin: Tensor) -> Tensor:
    """Cross-entropy (B,) of Phi(difference) against Phi(margin).

    Thurstone's case V (1927) with soft outcomes.

    Args:
        difference: score of the second clip minus that of the first, (B,).
        margin: D / sD of the label, (B,).
    """
    wins = torch.special.ndtr(margin)
    loss: Tensor = -(
        wins * torch.special.log_ndtr(difference) + (1 - wins) * torch.special.log_ndtr(-difference)
    )
    return loss


def fidelity(difference: Tensor, wins: Tensor) -> Tensor:
    """Fidelity loss (B,) of Phi(difference) against probabilities: 0 where they are equal, 1 at most.

    1 - sqrt(p q) - sqrt((1 - p)(1 - q)), written as half the squared distance of (sqrt(p), sqrt(1 - p)) from
    (sqrt(q), sqrt(1 - q)), which rounding cannot make negative. Source: Tsai et al., "FRank" (SIGIR 2007);
    with Phi as in UNIQUE (Zhang et al. 2021).

    Args:
        difference: score of the second clip minus that of the first, (B,).
        wins: probability that the second is preferred, (B,).
    """
    # From logarithms: the gradient of a square root at 0 is infinite, that of exp(log / 2) is not.
    second = (torch.special.log_ndtr(difference) / 2).exp()
    first = (torch.special.log_ndtr(-difference) / 2).exp()
    loss: Tensor = ((second - wins.sqrt()).square() + (first - (1 - wins).sqrt()).square()) / 2
    return loss


def outcomes(batch: PairBatch) -> Tensor:
    """Probability (B,) that the second clip of each pair is preferred, as its label has it.

    Phi(margin) where the label comes from scores, else the mean of the levels weighted 0, .25, .5, .75, 1.
    """
    # Not a matrix product, which autocast rounds to half precision; and its sum may be 1 and a rounding.
    weight = torch.linspace(0, 1, len(LEVELS), device=batch.levels.device)
    by_level = (batch.levels * weight).sum(-1).clamp(0, 1)
    by_margin = torch.special.ndtr(batch.margin.float().nan_to_num())
    return torch.where(batch.margin.isnan(), by_level, by_margin)


class PointwiseLoss(nn.Module, ABC):
    """What a difference of scores costs, with symmetric cuts learnt per source of the label.

    P(level <= k) = F(c_k - difference) with cuts -c2, -c1, c1, c2 and 0 < c1 < c2, F being the normal
    distribution unless a loss has another (McKelvey and Zavoina 1975; the symmetry says that swapping the
    clips mirrors the levels).

    Args:
        sources: number of label sources.
    """

    def __init__(self, sources: int = len(SOURCES)) -> None:
        super().__init__()
        # softplus(-1.05) = 0.3: cuts at 0.3 and 0.6 give every level a fair chance while scores hardly
        # differ.
        self.steps = nn.Parameter(torch.full((sources, 2), -1.05))

    @abstractmethod
    def forward(self, difference: Tensor, batch: PairBatch) -> Tensor:
        """The loss of each pair (B,), float32.

        Args:
            difference: score of the second clip minus that of the first, (B,).
            batch: the pairs with their labels.
        """

    def cuts(self) -> Tensor:
        """The cuts c1 < c2 of every source, (sources, 2)."""
        return F.softplus(self.steps.float()).cumsum(dim=-1)

    def log_distribution(self, value: Tensor) -> Tensor:
        """Logarithm of F, elementwise; F must be symmetric about 0."""
        logarithm: Tensor = torch.special.log_ndtr(value)
        return logarithm

    def log_levels(self, difference: Tensor, source: Tensor) -> Tensor:
        """Log-probabilities (B, 5) of the levels for differences (B,) and source indices (B,)."""
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
        """Cross-entropy (B,) of the levels against the labels."""
        return -(batch.levels * self.log_levels(difference, batch.source)).sum(-1)

    def fit_cuts(self, difference: Tensor, batch: PairBatch) -> Tensor:
        """Zeros (B,) with the gradient of the levels' cross-entropy in the cuts and none in the scores."""
        cost = self.level_cross_entropy(difference.detach(), batch)
        return cost - cost.detach()


class OrderedProbit(PointwiseLoss):
    """Cross-entropy of the levels under a normal distribution: the ordered probit."""

    def forward(self, difference: Tensor, batch: PairBatch) -> Tensor:
        """The loss of each pair (B,), float32."""
        return self.level_cross_entropy(difference, batch)


class OrdinalThurstone(PointwiseLoss):
    """Thurstone's case V for pairs that an annotator labelled, the ordered probit for all others.

    An annotator's pair has a margin, which says more than its level; the cuts of that source stay as they
    began. METHOD section 2.
    """

    def forward(self, difference: Tensor, batch: PairBatch) -> Tensor:
        """The loss of each pair (B,), float32."""
        by_level = self.level_cross_entropy(difference, batch)
        by_margin = margin_cross_entropy(difference.float(), batch.margin.nan_to_num())
        return torch.where(batch.source == SOURCES.index("teacher"), by_margin, by_level)


class BradleyTerry(PointwiseLoss):
    """Cross-entropy of the logistic of the difference against the labels' `outcomes`.

    Bradley and Terry (1952), with soft outcomes as in RankNet (Burges et al. 2005). The levels, which it does
    not need, are an ordered logit (McCullagh 1980) whose cuts are fitted beside it.
    """

    def log_distribution(self, value: Tensor) -> Tensor:
        """Logarithm of the logistic distribution."""
        return F.logsigmoid(value)

    def forward(self, difference: Tensor, batch: PairBatch) -> Tensor:
        """The loss of each pair (B,), float32."""
        difference = difference.float()
        loss = F.binary_cross_entropy_with_logits(difference, outcomes(batch), reduction="none")
        return loss + self.fit_cuts(difference, batch)


class Fidelity(PointwiseLoss):
    """Fidelity loss of the difference against the labels' `outcomes`; bounded, so mistaken labels pull less.

    The levels, which it does not need, are an ordered probit whose cuts are fitted beside it.
    """

    def forward(self, difference: Tensor, batch: PairBatch) -> Tensor:
        """The loss of each pair (B,), float32."""
        difference = difference.float()
        return fidelity(difference, outcomes(batch)) + self.fit_cuts(difference, batch)
