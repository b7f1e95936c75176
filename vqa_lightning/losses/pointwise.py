"""Losses of the pointwise judgement that read more of a label than its level: a margin or an outcome."""

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.batches import PairBatch
from datamodules.labels import LEVELS
from datamodules.pairs import SOURCES
from vqa_lightning.losses.ordinal import PointwiseLoss


def margin_cross_entropy(difference: Tensor, margin: Tensor) -> Tensor:
    """Return the cross-entropy (B,) of Phi(difference) against Phi(margin).

    Thurstone's case V (1927) with soft outcomes.

    Args:
        difference: score of the second clip minus that of the first, (B,).
        margin: D / sD of the label, (B,).

    Example:
        >>> margin_cross_entropy(torch.tensor([0.0]), torch.tensor([0.0]))
        tensor([0.6931])
    """
    wins = torch.special.ndtr(margin)
    loss: Tensor = -(
        wins * torch.special.log_ndtr(difference) + (1 - wins) * torch.special.log_ndtr(-difference)
    )
    return loss


def fidelity(difference: Tensor, wins: Tensor) -> Tensor:
    """Return the fidelity loss (B,) of Phi(difference) against probabilities: 0 where equal, 1 at most.

    1 - sqrt(p q) - sqrt((1 - p)(1 - q)), written as half the squared distance of (sqrt(p), sqrt(1 - p)) from
    (sqrt(q), sqrt(1 - q)), which rounding cannot make negative. Source: Tsai et al., "FRank" (SIGIR 2007);
    with Phi as in UNIQUE (Zhang et al. 2021).

    Args:
        difference: score of the second clip minus that of the first, (B,).
        wins: probability that the second is preferred, (B,).

    Example:
        >>> fidelity(torch.tensor([0.0]), torch.tensor([1.0]))
        tensor([0.2929])
    """
    # From logarithms: the gradient of a square root at 0 is infinite, that of exp(log / 2) is not.
    second = (torch.special.log_ndtr(difference) / 2).exp()
    first = (torch.special.log_ndtr(-difference) / 2).exp()
    loss: Tensor = ((second - wins.sqrt()).square() + (first - (1 - wins).sqrt()).square()) / 2
    return loss


def outcomes(batch: PairBatch) -> Tensor:
    """Return the probability (B,) by its label that the second clip of each pair is preferred.

    Phi(margin) where the label comes from scores, else the mean of the levels weighted 0, .25, .5, .75, 1.

    Example:
        >>> from types import SimpleNamespace
        >>> labels = SimpleNamespace(levels=torch.eye(5)[[3, 3]], margin=torch.tensor([torch.nan, 0.0]))
        >>> outcomes(labels)
        tensor([0.7500, 0.5000])
    """
    # Not a matrix product, which autocast rounds to half precision; and its sum may be 1 and a rounding.
    weight = torch.linspace(0, 1, len(LEVELS), device=batch.levels.device)
    by_level = (batch.levels * weight).sum(-1).clamp(0, 1)
    by_margin = torch.special.ndtr(batch.margin.float().nan_to_num())
    return torch.where(batch.margin.isnan(), by_level, by_margin)


class OrdinalThurstone(PointwiseLoss):
    """Thurstone's case V for pairs that an annotator or a metric labelled, the ordered probit for all others.

    Such a pair has a margin, which says more than its level; the cuts of these sources stay as they began.
    METHOD section 2.

    Example:
        >>> from types import SimpleNamespace
        >>> source = torch.tensor([SOURCES.index("teacher")])
        >>> labels = SimpleNamespace(levels=torch.eye(5)[[2]], margin=torch.zeros(1), source=source)
        >>> round(OrdinalThurstone()(torch.tensor([0.0]), labels).item(), 4)
        0.6931
    """

    def forward(self, difference: Tensor, batch: PairBatch) -> Tensor:
        """Return the loss of each pair (B,), float32."""
        by_level = self.level_cross_entropy(difference, batch)
        by_margin = margin_cross_entropy(difference.float(), batch.margin.nan_to_num())
        scored = (batch.source == SOURCES.index("teacher")) | (batch.source == SOURCES.index("reference"))
        return torch.where(scored, by_margin, by_level)


class BradleyTerry(PointwiseLoss):
    """Cross-entropy of the logistic of the difference against the labels' `outcomes`.

    Bradley and Terry (1952), with soft outcomes as in RankNet (Burges et al. 2005). The levels, which
    the loss does not need, are an ordered logit (McCullagh 1980) whose cuts are fitted beside the loss.

    Example:
        >>> from types import SimpleNamespace
        >>> none, source = torch.tensor([torch.nan]), torch.tensor([0])
        >>> labels = SimpleNamespace(levels=torch.eye(5)[[4]], margin=none, source=source)
        >>> round(BradleyTerry()(torch.tensor([0.0]), labels).item(), 4)
        0.6931
    """

    def log_distribution(self, value: Tensor) -> Tensor:
        """Return the logarithm of the logistic distribution."""
        return F.logsigmoid(value)

    def forward(self, difference: Tensor, batch: PairBatch) -> Tensor:
        """Return the loss of each pair (B,), float32."""
        difference = difference.float()
        loss = F.binary_cross_entropy_with_logits(difference, outcomes(batch), reduction="none")
        return loss + self.fit_cuts(difference, batch)


class Fidelity(PointwiseLoss):
    """Fidelity loss of the difference against the labels' `outcomes`; bounded, so mistaken labels pull less.

    The levels, which the loss does not need, are an ordered probit whose cuts are fitted beside the loss.

    Example:
        >>> from types import SimpleNamespace
        >>> none, source = torch.tensor([torch.nan]), torch.tensor([0])
        >>> labels = SimpleNamespace(levels=torch.eye(5)[[4]], margin=none, source=source)
        >>> round(Fidelity()(torch.tensor([0.0]), labels).item(), 4)
        0.2929
    """

    def forward(self, difference: Tensor, batch: PairBatch) -> Tensor:
        """Return the loss of each pair (B,), float32."""
        difference = difference.float()
        return fidelity(difference, outcomes(batch)) + self.fit_cuts(difference, batch)
