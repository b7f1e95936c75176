"""The five levels: how the second video of a pair looks beside the first.

A label is a distribution over the levels. Labels from scores follow METHOD's rule on the margin D / sD,
blurred by a Gaussian so that a margin beside a cut is not called with certainty; labels from severities
follow the step.
"""

import torch
from torch import Tensor

LEVELS = ("inferior", "worse", "similar", "better", "superior")

CUTS = (1.0, 2.0)
"""Margins |D / sD| beyond which two videos differ (better, worse) and differ clearly (superior, inferior)."""


def soft_levels(margin: Tensor, cuts: tuple[float, float] = CUTS, blur: float = 0.5) -> Tensor:
    """Turn margins into distributions over the five levels.

    The mass of N(margin, blur^2) between the cuts -c2, -c1, c1, c2; `blur` 0 gives the hard label.

    Args:
        margin: D / sD of the second video over the first, any shape, in standard deviations.
        cuts: c1 and c2, 0 < c1 < c2.
        blur: standard deviation of the label's own noise, in the unit of the margin, at least 0.

    Returns:
        Probabilities of shape (*margin.shape, 5), inferior first.
    """
    inner, outer = cuts
    edges = margin.new_tensor([-outer, -inner, inner, outer])
    if blur > 0:
        below = torch.special.ndtr((edges - margin[..., None]) / blur)
    else:
        # METHOD's cuts belong to the level towards "similar" on both sides: -c2 <= D < -c1 and c1 < D <= c2.
        beyond = margin[..., None] > edges
        reached = margin[..., None] >= edges
        below = (~torch.where(edges < 0, reached, beyond)).to(margin.dtype)
    ends = torch.zeros_like(below[..., :1])
    return torch.diff(torch.cat([ends, below, ends + 1], dim=-1), dim=-1)


def severity_levels(first: Tensor, second: Tensor) -> Tensor:
    """Turn the severities of both sides into one-hot distributions over the five levels.

    A difference of one step is better or worse, of more superior or inferior, of none similar.

    Args:
        first: severity of the first side, long, any shape, 0 for the source.
        second: the same for the second side.

    Returns:
        Probabilities of shape (*first.shape, 5), float32.
    """
    return torch.nn.functional.one_hot((first - second).clamp(-2, 2) + 2, len(LEVELS)).float()


def hard_levels(levels: Tensor) -> Tensor:
    """Return the likeliest level of each distribution (..., 5): long, 0 inferior to 4 superior."""
    return levels.argmax(dim=-1)


def preference(levels: Tensor) -> Tensor:
    """Return P(second preferred) of distributions (..., 5): their mean with weights 0, .25, .5, .75, 1."""
    # No matrix product: autocast would round it to steps of .004.
    weights = torch.linspace(0, 1, len(LEVELS), dtype=levels.dtype, device=levels.device)
    return (levels * weights).sum(dim=-1)
