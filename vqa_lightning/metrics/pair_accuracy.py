"""Rank accuracy, level accuracy and calibration over pairs as one distributed torchmetrics metric.

Only sums are kept, and for the calibration a sum for each bin of confidence: a million pairs take no more
memory or traffic than ten.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from datamodules.batches import PairBatch
from datamodules.labels import hard_levels

BINS = 15
"""Bins of confidence, as in Guo et al. (2017)."""


class PairAccuracy(Metric):
    """Count how often the order and the level of pairs are predicted rightly, and how surely.

    Rank accuracy is over pairs of different level only, chance being 0.5; a tie counts half. Level accuracy
    is over all pairs and takes the likeliest of the five levels. The expected calibration error is of the
    likeliest level: the mean, over all pairs, of the distance between confidence and accuracy in the bin of
    the pair's confidence (Guo et al., "On Calibration of Modern Neural Networks", 2017).

    Args:
        simulators: names of the simulators, in the order that the batches point into.
    """

    full_state_update = False
    counts: Tensor
    overconfidence: Tensor

    def __init__(self, simulators: Sequence[str]) -> None:
        super().__init__()
        self.simulators = tuple(simulators)
        # Rows: each simulator, then pairs of different videos. Columns: rightly ranked, ranked, right level,
        # all.
        self.add_state("counts", torch.zeros(len(self.simulators) + 1, 4), dist_reduce_fx="sum")
        # Sum of confidence - correctness in each bin. A confidence of 1 has a bin of its own, as in
        # torchmetrics' MulticlassCalibrationError, which keeps every prediction for the same value.
        self.add_state("overconfidence", torch.zeros(BINS + 1), dist_reduce_fx="sum")

    def update(self, difference: Tensor, levels: Tensor, batch: PairBatch) -> None:
        """Count a batch.

        Args:
            difference: (B,) preference for the second clip, above 0 where it is preferred.
            levels: (B, 5) predicted distributions over the levels.
            batch: the pairs with their labels.
        """
        order = batch.order()
        right = (difference * order).sign().add(1).div(2)
        ranked = (order != 0).float()
        confidence, level = levels.float().max(dim=-1)
        same_level = (level == hard_levels(batch.levels)).float()
        values = torch.stack([right * ranked, ranked, same_level, torch.ones_like(ranked)], dim=1)
        # Row -1, of pairs without a simulator, is the last.
        row = batch.simulator() % len(self.counts)
        self.counts.index_add_(0, row, values.to(self.counts.dtype))
        edges = torch.linspace(0, 1, BINS + 1, device=levels.device)
        place = torch.bucketize(confidence, edges, right=True) - 1
        self.overconfidence.index_add_(0, place, confidence - same_level)

    def compute(self) -> dict[str, Tensor]:
        """Return `rank_accuracy`, `level_accuracy`, `ece`, and the accuracies of each simulator seen.

        The latter are named `rank_accuracy/SIMULATOR` and `level_accuracy/SIMULATOR`; a value is nan where no
        pair was seen.
        """
        total = self.counts.sum(dim=0)
        values = {
            "rank_accuracy": total[0] / total[1],
            "level_accuracy": total[2] / total[3],
            "ece": self.overconfidence.abs().sum() / total[3],
        }
        for name, (right, ranked, level, seen) in zip(self.simulators, self.counts, strict=False):
            if seen:
                values[f"rank_accuracy/{name}"] = right / ranked
                values[f"level_accuracy/{name}"] = level / seen
        return values
