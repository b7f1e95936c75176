"""The paper's schedule of learning rates, linear warm-up, then a cosine to zero, and the steps it covers."""

import math
from dataclasses import dataclass
from math import ceil

from lightning.pytorch import Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class CosineWithWarmup(LambdaLR):
    """Scales all rates linearly from 0 to 1 over the warm-up, then by a half cosine to 0.

    Args:
        optimizer: whose rates are scaled.
        total_steps: optimiser steps of the whole run, at least 1.
        warmup: share of them spent on the warm-up, in [0, 1).
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup: float = 0.03) -> None:
        rising = max(1, round(warmup * total_steps))

        def factor(step: int) -> float:
            if step < rising:
                return (step + 1) / (rising + 1)
            done = min(1.0, (step - rising) / max(1, total_steps - rising))
            return 0.5 * (1 + math.cos(math.pi * done))

        super().__init__(optimizer, factor)


@dataclass
class Schedule:
    """Which of a run's optimiser steps a schedule lies over.

    Attributes:
        first: the step at which it began.
        steps: its length; None: as the Trainer estimates, who takes all epochs to be as long as the first.
    """

    first: int = 0
    steps: int | None = None


def steps_of_epoch(trainer: Trainer, batch_size: int, samples: int) -> int:
    """Return the optimiser steps of an epoch in which every process drops its last broken batch.

    Args:
        trainer: with as many processes as share the samples.
        batch_size: samples a batch.
        samples: of all processes together.
    """
    batches = ceil(samples / trainer.world_size) // batch_size
    limit = trainer.limit_train_batches
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    return ceil(batches / trainer.accumulate_grad_batches)
