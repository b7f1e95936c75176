"""The paper's schedule of learning rates, linear warm-up and then a cosine to zero, and what it lies over."""

import math
from dataclasses import dataclass

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
        share: its length in what the Trainer estimates of a run whose epochs are all as long as the present.
        steps: its length.
    """

    first: int = 0
    share: float = 1.0
    steps: int = 1
