"""How sure the level words should be: one temperature, fitted on held-out pairs."""

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

_LARGEST = 20.0


class LevelTemperature(Metric):
    """The temperature of logits under which labels are likeliest (Guo et al. 2017).

    With it a preference of 0.7 means that seven of ten such clips look better; the order of the levels stays
    as it is. Logits of all pairs are kept: ten numbers a pair.
    """

    full_state_update = False
    logits: list[Tensor]
    targets: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("logits", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            logits: (O, B, 5) of the level words, inferior first, of the second clip beside the first and,
                with both orders, of the first beside the second.
            targets: (B, 5) the labels of the second clips.
        """
        both = torch.stack([targets, targets.flip(-1)][: len(logits)])
        self.logits.append(logits.detach().flatten(0, 1).float())
        self.targets.append(both.flatten(0, 1).float())

    def compute(self) -> Tensor:
        """Return the temperature, from 0.05 to 20; 1 where no pair was seen."""
        if len(self.logits) == 0:
            return torch.tensor(1.0, device=self.device)
        logits = dim_zero_cat(self.logits).cpu().double()
        targets = dim_zero_cat(self.targets).cpu().double()

        def surprise(log_temperature: float) -> float:
            likelihood = (logits / np.exp(log_temperature)).log_softmax(-1)
            return -float((targets * likelihood).sum(-1).mean())

        bound = np.log(_LARGEST)
        found = minimize_scalar(surprise, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-6})
        return torch.tensor(np.exp(found.x), dtype=torch.float32, device=self.device)
