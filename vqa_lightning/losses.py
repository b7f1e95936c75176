"""The ranking losses, one function per judgement and kind of label.

A level means a margin D / sD for labels from scores and a step for labels from severities, so the ordered
probit learns its cuts per source of the label, and margins are met by their probability instead.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def level_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy (B,) of level logits (B, 5) against distributions (B, 5)."""
    return F.cross_entropy(logits, target, reduction="none")


def margin_cross_entropy(difference: Tensor, margin: Tensor) -> Tensor:
    """Cross-entropy (B,) of Phi(difference) against Phi(margin): Thurstone's case V with soft outcomes.

    Args:
        difference: score of the second clip minus that of the first, (B,).
        margin: D / sD of the label, (B,).
    """
    wins = torch.special.ndtr(margin)
    loss: Tensor = -(
        wins * torch.special.log_ndtr(difference) + (1 - wins) * torch.special.log_ndtr(-difference)
    )
    return loss


class OrderedProbit(nn.Module):
    """Level probabilities from a score difference, with symmetric cuts learnt per source of the label.

    P(level <= k) = Phi(c_k - difference) with cuts -c2, -c1, c1, c2 and 0 < c1 < c2 (McKelvey and Zavoina
    1975; the symmetry says that swapping the clips mirrors the levels).

    Args:
        sources: number of label sources.
    """

    def __init__(self, sources: int) -> None:
        super().__init__()
        # softplus(-1.05) = 0.3: cuts at 0.3 and 0.6 give every level a fair chance while scores hardly
        # differ.
        self.steps = nn.Parameter(torch.full((sources, 2), -1.05))

    def cuts(self) -> Tensor:
        """The cuts c1 < c2 of every source, (sources, 2)."""
        return F.softplus(self.steps).cumsum(dim=-1)

    def forward(self, difference: Tensor, source: Tensor) -> Tensor:
        """Log-probabilities (B, 5) of the levels for differences (B,) and source indices (B,)."""
        inner, outer = self.cuts()[source].unbind(dim=-1)
        edges = torch.stack([-outer, -inner, inner, outer], dim=-1) - difference[:, None]
        # From the nearer tail and in logarithms: a confident mistake keeps its value and gradient.
        end = torch.full_like(edges[:, :1], 1e4)
        upper, lower = torch.cat([edges, end], dim=-1), torch.cat([-end, edges], dim=-1)
        mirrored = lower > 0
        high = torch.special.log_ndtr(torch.where(mirrored, -lower, upper))
        low = torch.special.log_ndtr(torch.where(mirrored, -upper, lower))
        mass: Tensor = high + torch.log1p(-torch.exp(low - high))
        return mass
