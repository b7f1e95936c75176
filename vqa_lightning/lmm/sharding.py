"""The LMM cut into shards over the processes of a device mesh (FSDP2), for `ModelParallelStrategy`.

Process 0 builds the model on the host as under every other strategy, transformers' own loading and random
initial weights included, and hands the other processes their shares, tensor by tensor. So a sharded model
starts from the same numbers as a whole model, and no process ever holds the model twice.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import init_empty_weights
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

JUDGING = ("encode", "compare", "score")
"""What callers of an LMM use besides its forward; each reads parameters that no block owns."""

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def blocks(module: nn.Module) -> list[nn.Module]:
    """Return the repeated layers of towers and language models, which are checkpointed one at a time."""
    return [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Keep a sharded module whole on every process, so that each may compute as often as it likes.

    A sharded forward is a step that all processes take together: processes with unequal shares of the videos
    would wait for each other for ever. A module that is not sharded is left as it is.
    """
    shards = [part for part in module.modules() if isinstance(part, FSDPModule)]
    for part in shards:
        part.unshard()
        part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part in shards:
            part.set_reshard_after_forward(part is not module, recurse=False)  # FSDP2's own rule
            part.reshard()


def build_on_meta(build: Callable[[], ModuleT]) -> ModuleT:
    """Build a module whose parameters have shapes and types but no memory; its buffers are real."""
    with init_empty_weights(include_buffers=False):
        module = build()
    for part in module.modules():
        if isinstance(part, PreTrainedModel):
            part.tie_weights()  # every assignment made a new parameter
    return module


def shard(
    module: nn.Module, mesh: DeviceMesh, dtype: torch.dtype | None = None, methods: Sequence[str] = ()
) -> None:
    """Share out a module's parameters, their gradients and optimiser states, in place.

    Each block is gathered only while it computes; what lies outside the blocks stays gathered from the first
    forward of a step to the end of its backward. Outside forward and `methods` parameters are `DTensor`s.
    Frozen and trained parameters of one block may differ in type.

    Args:
        module: with real parameters, the same in every process, or on the meta device.
        mesh: of one dimension.
        dtype: in which parameters are gathered and compute, gradients being summed in float32. None: in their
            own.
        methods: besides forward, that compute with the module's parameters.
    """
    # Inputs are autocast's to cast: the policy would also round positions and pixels.
    policy = MixedPrecisionPolicy(
        param_dtype=dtype, reduce_dtype=None if dtype is None else torch.float32, cast_forward_inputs=False
    )
    for part in module.modules():
        if isinstance(part, nn.BatchNorm3d):
            fully_shard(part, mesh=mesh)  # its weights must be of the type of its running statistics
    for block in blocks(module):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh, mp_policy=policy)
    for method in methods:
        register_fsdp_forward_method(module, method)


def build_sharded(
    build: Callable[[bool], ModuleT],
    mesh: DeviceMesh,
    dtype: torch.dtype | None = None,
    methods: Sequence[str] = JUDGING,
) -> ModuleT:
    """Build a module whose shares lie with the processes of a mesh; all processes call this together.

    Args:
        build: makes the module on the CPU; its argument says whether a checkpoint's weights are wanted, or
            only their shapes and types. What freezes, casts or adds parameters belongs in it.
        mesh: of one dimension, over all processes.
        dtype: see `shard`.
        methods: see `shard`.

    Returns:
        The module on the mesh's devices, each process's random numbers as they were before.
    """
    leads = dist.get_rank() == 0
    with torch.random.fork_rng(devices=[]):
        whole = build(True) if leads else None
        module = build_on_meta(lambda: build(False))
    shard(module, mesh, dtype, methods)
    device = torch.device(mesh.device_type)
    buffers = dict((whole or module).named_buffers())
    module.to_empty(device=device)
    with torch.no_grad():
        parameters = {} if whole is None else dict(whole.named_parameters())
        for name, share in module.named_parameters():
            _hand_out(parameters.get(name), share)
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])
            dist.broadcast(buffer, src=0)
    return module


def _hand_out(full: Tensor | None, share: Tensor) -> None:
    """Fill each process's share of a parameter from process 0, which alone has the parameter in full."""
    assert isinstance(share, DTensor)
    device = torch.device(share.device_mesh.device_type)
    if full is None:
        full = torch.empty(share.shape, dtype=share.dtype, device=device)
    share.copy_(distribute_tensor(full.to(device, share.dtype), share.device_mesh, share.placements))
