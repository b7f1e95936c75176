"""Muon for the matrices of a network and AdamW for everything else, as one optimiser.

A small model trained from scratch on few pairs learns in fewer steps than with AdamW alone. Muon is defined
for matrices that map hidden states to hidden states; embeddings, gains, biases, convolutions and heads stay
with AdamW.
"""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, overload

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Muon, Optimizer

SMALLEST = 8
"""Least side of a matrix that Muon steps: tables of a few numbers are no maps between hidden states."""


class ExactMuon(Muon):
    """torch's Muon, whose matrices are made orthogonal in the precision of the weights.

    torch does it in bfloat16, which most CPUs only emulate: there a step takes twelve times as long.

    Args:
        params: matrices, or groups of them.
        lr: learning rate; updates are scaled to the size of AdamW's (Liu et al. 2025).
        weight_decay: decoupled.
    """

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.1) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, group)
        return loss

    def _step(self, parameter: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(grad)
        kept: Tensor = state["momentum_buffer"]
        kept.lerp_(grad, 1 - group["momentum"])
        update = grad.lerp(kept, group["momentum"]) if group["nesterov"] else kept
        update = orthogonal(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-group["lr"] * 0.2 * max(parameter.shape) ** 0.5)


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Bring all singular values of a matrix near 1 by Newton-Schulz iterations (Jordan et al. 2024).

    Args:
        matrix: (A, B), not 0.
        coefficients: of the first, third and fifth power.
        steps: iterations.
        eps: least norm that the matrix is divided by.
    """
    first, third, fifth = coefficients
    wide = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp(min=eps)
    for _ in range(steps):
        gram = wide @ wide.mT
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=third, alpha=fifth), wide, beta=first)
    return wide.mT if matrix.shape[0] > matrix.shape[1] else wide


class MuonAdamW(Optimizer):
    """Steps hidden matrices by Muon (Jordan et al. 2024) and the rest by AdamW.

    Like torch's fused optimisers it may be given `found_inf`, 0-dimensional, on the parameters' device: where
    that is not 0 a step changes nothing, and the host need not wait to know. A step then takes the memory of
    one more copy of weights and state.

    Args:
        params: named parameters, or groups of them; matrices that are no embedding and no head go to Muon.
        lr: of AdamW.
        matrix_lr: of Muon, whose updates are scaled to the size of AdamW's (Liu et al. 2025).
        weight_decay: of both, decoupled.
    """

    def __init__(
        self,
        params: Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        matrix_lr: float = 2e-3,
        weight_decay: float = 0.05,
    ) -> None:
        given = list(params)
        groups = [entry for entry in given if isinstance(entry, dict)] or [{"params": given}]
        self._parts: list[Optimizer] = []
        # torch refuses an optimiser of nothing: a model may train heads only.
        if matrices := _members(groups, hidden=True):
            self._parts.append(ExactMuon(matrices, lr=matrix_lr, weight_decay=weight_decay))
        if rest := _members(groups, hidden=False):
            self._parts.append(AdamW(rest, lr=lr, weight_decay=weight_decay))
        super().__init__([group for part in self._parts for group in part.param_groups], defaults={})
        self._share()
        self.found_inf: Tensor | None = None

    def _share(self) -> None:
        """Let the parts step on this optimiser's groups and state, which schedules and checkpoints see."""
        groups = iter(self.param_groups)
        for part in self._parts:
            part.param_groups = list(islice(groups, len(part.param_groups)))
            part.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self._share()

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step of both parts."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            before = {} if self.found_inf is None else {id(one): local(one).clone() for one in self._held()}
            for part in self._parts:
                part.step()
            if self.found_inf is not None:
                self._put_back(self.found_inf != 0, before)
        return loss

    def _held(self) -> list[Tensor]:
        """Return parameters and state, which a step changes in place."""
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        return [*parameters, *(value for state in self.state.values() for value in state.values())]

    def _put_back(self, wanted: Tensor, before: dict[int, Tensor]) -> None:
        nothing = torch.zeros((), device=wanted.device)  # what state that the step has made began with
        for one in self._held():
            now = local(one)
            if now.device == wanted.device:  # on a GPU AdamW counts steps on the host, this one too
                torch.where(wanted, before.get(id(one), nothing), now, out=now)


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor that may be sharded; changing it in place changes the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _members(groups: Iterable[dict[str, Any]], *, hidden: bool) -> list[dict[str, Any]]:
    """Return each group with its matrices between hidden states only, or without them; none is empty."""
    chosen = [
        {**group, "params": [(name, p) for name, p in group["params"] if _is_hidden(name, p) == hidden]}
        for group in groups
    ]
    return [group for group in chosen if group["params"]]


def _is_hidden(name: str, parameter: Tensor) -> bool:
    if parameter.ndim != 2 or min(parameter.shape) < SMALLEST:
        return False
    return "embed" not in name and "head" not in name
