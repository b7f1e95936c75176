"""Muon for the matrices of a network and AdamW for everything else, as one optimiser.

A small model trained from scratch on few pairs learns in fewer steps than with AdamW alone. Muon is defined
for matrices that map hidden states to hidden states; embeddings, gains, biases, convolutions and heads stay
with AdamW.
"""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import AdamW, Muon, Optimizer

SMALLEST = 8
"""Least side of a matrix that Muon steps: tables of a few numbers are no maps between hidden states."""


class MuonAdamW(Optimizer):
    """Steps hidden matrices by Muon (Jordan et al. 2024) and the rest by AdamW.

    Args:
        params: named parameters; matrices that are no embedding and no head go to Muon.
        lr: of AdamW.
        matrix_lr: of Muon, whose updates are scaled to the size of AdamW's (Liu et al. 2025).
        weight_decay: of both, decoupled.
    """

    def __init__(
        self,
        params: Iterable[tuple[str, Tensor]],
        lr: float = 1e-3,
        matrix_lr: float = 2e-3,
        weight_decay: float = 0.05,
    ) -> None:
        named = list(params)
        matrices = [
            (name, p)
            for name, p in named
            if p.ndim == 2 and min(p.shape) >= SMALLEST and "embed" not in name and "head" not in name
        ]
        chosen = {name for name, _ in matrices}
        rest = [(name, p) for name, p in named if name not in chosen]
        self._muon = Muon(matrices, lr=matrix_lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self._adamw = AdamW(rest, lr=lr, weight_decay=weight_decay)
        super().__init__([*self._muon.param_groups, *self._adamw.param_groups], defaults={})
        self._share()

    def _share(self) -> None:
        """Lets the parts step on this optimiser's groups and state, which schedules and checkpoints see."""
        self._muon.param_groups, self._adamw.param_groups = self.param_groups[:1], self.param_groups[1:]
        self._muon.state = self._adamw.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self._share()

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of both parts."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._muon.step()  # type: ignore[no-untyped-call]
        self._adamw.step()
        return loss
