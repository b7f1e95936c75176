"""Trained parameters in groups of a learning rate each."""

from typing import Any

from torch.optim import Optimizer

from vqa_lightning.lmm import TrainedParts
from vqa_lightning.scoring import ScoringModule


def parameter_groups(module: ScoringModule, settings: TrainedParts) -> list[dict[str, Any]]:
    """Return named trained parameters for an optimiser, the vision tower's apart where its rate differs.

    Args:
        module: whose trained parameters are meant; the projector's do not count as the tower's.
        settings: gives the tower's relative learning rate.

    Returns:
        Groups of `params`, (name, parameter) pairs, and `lr_factor`, for `scale_rates`; none is empty.
    """
    tower: set[int] = set()
    if settings.tower_lr != 1:
        family = module.lmm.family
        tower = {id(p) for p in family.tower.parameters()} - {id(p) for p in family.projector.parameters()}
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    groups = [
        {"params": [(name, p) for name, p in named if id(p) not in tower], "lr_factor": 1.0},
        {"params": [(name, p) for name, p in named if id(p) in tower], "lr_factor": settings.tower_lr},
    ]
    return [group for group in groups if group["params"]]


def scale_rates(optimizer: Optimizer) -> None:
    """Multiply the learning rates of an optimiser of `parameter_groups` by their factors.

    Call it once, before a schedule takes the rates as its first rates.
    """
    for group in optimizer.param_groups:
        group["lr"] *= group.pop("lr_factor")
