"""Steps whose gradients are not finite add nothing of their own to what is learnt.

One bad pair, such as one whose pixels a user's simulator divided by zero, would turn all weights and the
optimiser's memory into nan. The gradients decide and not the loss: they are summed over the processes, which
therefore decide alike, and the host need not wait to know.
"""

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Adam, Optimizer

from datamodules.devices import for_device
from datamodules.errors import InputError
from vqa_lightning.training.optimizers import MuonAdamW, local

PATIENCE = 20
"""Steps in a row that may be dropped: what is wrong with more than that is no longer a few pairs."""


def drop_unless_finite(optimizer: Optimizer) -> Tensor:
    """Let an optimiser's next step change nothing unless all gradients are finite.

    That holds for `MuonAdamW` and torch's fused Adam and AdamW. Any other optimiser is given gradients of
    zero, and goes on by its memory and its weight decay.

    Args:
        optimizer: of parameters that are all sharded or none; their gradients are changed in place.

    Returns:
        0-dimensional, bool, on the parameters' device: whether they were finite, the same on every process.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    finite = norm.isfinite()
    for gradient in gradients:
        local(gradient).masked_fill_(~finite, 0)  # not a product: nan times 0 is nan
    # As torch's GradScaler does. Not fused SGD: it keeps unwritten momentum of a first step that it skips.
    fused = isinstance(optimizer, Adam) and all(group["fused"] for group in optimizer.param_groups)
    if fused or isinstance(optimizer, MuonAdamW):
        optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
    return finite


class DroppedSteps:
    """Counts dropped steps where they happen, and stops a run in which nothing else is left.

    Attributes:
        total: 0-dimensional, int64: all of this process's run.
    """

    def __init__(self) -> None:
        self.total = torch.zeros((), dtype=torch.long)
        self._in_a_row = torch.zeros((), dtype=torch.long)

    def count(self, finite: Tensor) -> None:
        """Take note of one step, given what `drop_unless_finite` returned."""
        self.total = for_device(self.total, finite.device) + ~finite
        self._in_a_row = torch.where(finite, 0, for_device(self._in_a_row, finite.device) + 1)

    def check(self, steps: int, *, last: bool) -> None:
        """Stop a run that learns nothing; the check waits for the device at every `PATIENCE`-th step only.

        Args:
            steps: optimiser steps of the epoch so far.
            last: whether there will be no more in this epoch.

        Raises:
            InputError: the last `PATIENCE` steps were dropped, or all of the epoch.
        """
        if steps % PATIENCE and not last:
            return
        in_a_row = int(self._in_a_row)
        if in_a_row >= min(PATIENCE, steps):
            raise InputError(
                "training learns nothing any more, for the loss or its gradients were not finite in the last "
                f"{in_a_row} steps: lower the rate of model.optimizer, or see whether your own simulators "
                "give finite pixels."
            )
