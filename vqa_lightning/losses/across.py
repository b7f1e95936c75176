"""What the sides of different pairs of a batch say of each other, where their labels share a scale.

A batch of B pairs scores 2 B clips. Where a label comes from scores, any two of these clips have a margin,
not only the two of a pair: B (2 B - 1) comparisons for the price of B.
"""

import torch
from torch import Tensor

from datamodules.batches import PairBatch
from vqa_lightning.losses.pointwise import margin_cross_entropy


def across_batch(scores: Tensor, batch: PairBatch) -> Tensor:
    """Compare the sides of all pairs of a batch whose labels are of one source.

    The cost of two sides is `margin_cross_entropy` of the difference of their scores against the difference
    of their places.

    Args:
        scores: (2, B) of the first and of the second clips.
        batch: the pairs; `places` tells where their sides stand.

    Returns:
        (B,), the mean cost of either side beside all other sides of the source, float32; nan for pairs
        without places.

    Example:
        >>> from types import SimpleNamespace
        >>> places, source = torch.tensor([[0.0, 1.0], [2.0, torch.nan]]), torch.tensor([0, 1])
        >>> pairs = SimpleNamespace(places=places, source=source)
        >>> across_batch(torch.zeros(2, 2), pairs)
        tensor([0.6931,    nan])
    """
    places, value = batch.places.flatten().float(), scores.flatten().float()
    source = batch.source.repeat(2)
    known = ~places.isnan()
    together = (source[:, None] == source) & known[:, None] & known
    together.fill_diagonal_(False)
    margin = torch.where(together, places - places[:, None], 0)
    cost = margin_cross_entropy(value - value[:, None], margin) * together
    others = together.sum(dim=1)
    by_side = cost.sum(dim=1) / others.clamp(min=1)  # 0 / 0 would make all gradients nan
    return torch.where(others > 0, by_side, torch.nan).view(2, -1).mean(dim=0)
