"""Checkpoints that hold what is trained and no more, and runs that go on as if they had not stopped.

It is a base class of LightningModules and not a callback: a module that is trained in part must give the same
file and make the same checks, with a Trainer's callbacks or without.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from datamodules.errors import InputError
from datamodules.files import weights_hash
from vqa_lightning.checkpoints.generators import generator_states, set_generators
from vqa_lightning.checkpoints.scorer_file import read_file
from vqa_lightning.checkpoints.whole import WholeCheckpointIO

BASE = "base.ckpt"
"""A file beside a run's checkpoints: frozen parameters drawn at random, which no one could load again."""

OF_THE_CORPUS = {"scale", "quantiles", "temperature", "anchors.matrix"}
"""Buffers that belong to the corpus of a run, and that the next corpus sets again."""

LATER = {"quantiles"}
"""Buffers that older checkpoints lack and that are left as built."""


class ResumableModule(LightningModule):
    """A LightningModule whose checkpoints hold its trained parameters, its buffers and the random generators.

    Frozen parameters are loaded from the published checkpoint again. The frozen parameters that `drawn` names
    are written once, to base.ckpt in the folder of the run's ModelCheckpoint, and read from there; without
    such a folder they stay in the checkpoint. The generators of each process are put back at the first batch.
    """

    def __init__(self) -> None:
        super().__init__()
        # Lightning would miss the frozen ones; `check_names` is strict about the others.
        self.strict_loading = False
        self._generators: dict[str, Any] | None = None
        self._base: dict[str, str] | None = None
        self._size_told = False

    @property
    def drawn(self) -> tuple[str, ...]:
        """Beginnings of the names of parameters whose first values were drawn at random."""
        return ()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take out the frozen parameters, and put in the states of all processes' generators."""
        weights = checkpoint["state_dict"]
        checkpoint["trained"] = trained_names(self)
        checkpoint["generators"] = _gather(generator_states(self.device))
        if any(isinstance(value, DTensor) for value in weights.values()):
            return  # torch loads a checkpoint that is sharded only as a whole
        frozen = drop_frozen(self, weights)
        base = {name: value for name, value in frozen.items() if name.startswith(self.drawn)}
        if base:
            self._keep_base(base, checkpoint)
        if weights and not self._size_told:
            self._size_told = True
            rank_zero_info(f"a checkpoint holds {_megabytes(weights):.3g} MB of trained weights and buffers")

    def _keep_base(self, base: dict[str, Tensor], checkpoint: dict[str, Any]) -> None:
        callback = None if self._trainer is None else self._trainer.checkpoint_callback
        folder = callback.dirpath if isinstance(callback, ModelCheckpoint) else None
        if folder is None:
            checkpoint["state_dict"].update(base)
            return
        if self._base is None or self._base["folder"] != str(folder):
            self._base = {"hash": weights_hash(base), "folder": str(folder)}
            if self.trainer.is_global_zero:
                held = {"hash": self._base["hash"], "state_dict": base}
                WholeCheckpointIO().save_checkpoint(held, os.path.join(folder, BASE))
        checkpoint["base"] = self._base

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check what the checkpoint holds, and fill in what it lacks.

        Raises:
            InputError: the checkpoint holds too little or too much, or its base.ckpt is missing.
        """
        path = None if self._trainer is None else self._trainer.ckpt_path
        source = "the checkpoint" if path is None else f"the checkpoint {path}"
        check_names(self, checkpoint, source)
        if "base" in checkpoint:
            load_base(self, checkpoint["base"], source, None if path is None else os.path.dirname(path))
        if "state_dict" in checkpoint:  # sharded strategies have loaded and removed it by now
            checkpoint["state_dict"] = {**self.state_dict(), **checkpoint["state_dict"]}
        if self._trainer is None or self._trainer.state.fn != TrainerFn.FITTING:
            return
        states = checkpoint["generators"]
        if len(states) == self.trainer.world_size:
            self._generators = states[self.global_rank]
        else:
            rank_zero_warn(
                f"The checkpoint was saved by {len(states)} processes and is loaded by "
                f"{self.trainer.world_size}: random numbers start anew."
            )

    def on_train_start(self) -> None:
        """Put the generators where the checkpoint left them, for the rest of its epoch."""
        if self._generators is not None:
            set_generators(self._generators, self.device)

    def on_train_epoch_end(self) -> None:
        """Remember the generators: between epochs loaders draw from them, differently after a restart."""
        self._generators = generator_states(self.device)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Put the generators where the last epoch, or the checkpoint, left them."""
        if self._generators is not None:
            set_generators(self._generators, self.device)
            self._generators = None


def trained_names(module: nn.Module) -> list[str]:
    """Return the names that a checkpoint of a module must hold: trained parameters and persistent buffers."""
    frozen = _frozen(module)
    return [name for name in module.state_dict() if name not in frozen]


def _frozen(module: nn.Module) -> set[str]:
    # A tied parameter stands in a state dict under each of its names.
    named = module.named_parameters(remove_duplicate=False)
    return {name for name, parameter in named if not parameter.requires_grad}


def drop_frozen(module: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take the frozen parameters out of a module's state dict, and return them."""
    return {name: weights.pop(name) for name in sorted(_frozen(module) & weights.keys())}


def check_names(module: ResumableModule, checkpoint: Mapping[str, Any], source: str) -> None:
    """Refuse a checkpoint that does not hold just what a module trains.

    Args:
        module: to be loaded; its parameters are frozen as when the checkpoint was saved.
        checkpoint: as Lightning's hooks see it; where its weights are gone, the list of their names counts.
        source: name of the checkpoint in messages.

    Raises:
        InputError: a parameter is missing, or is not one that the module trains.
    """
    expected = set(trained_names(module))
    held = set(checkpoint.get("state_dict", checkpoint["trained"]))
    drawn = {name for name in _frozen(module) if name.startswith(module.drawn)}
    missing, unknown = sorted(expected - held - LATER), sorted(held - expected - drawn)
    if missing or unknown:
        wrong = f"lacks {_first(missing)}" if missing else f"holds {_first(unknown)}"
        reason = "this model trains" if missing else "this model does not train"
        raise InputError(f"{source} {wrong}, which {reason}: load it with the settings it was trained with.")


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")


def _first(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def load_base(module: nn.Module, base: Mapping[str, str], source: str, folder: str | None) -> None:
    """Read a run's random frozen parameters back into a module, sharded or not.

    Args:
        module: changed in place.
        base: the checkpoint's entry: hash of the parameters, and the folder they were written to.
        source: name of the checkpoint in messages.
        folder: where the checkpoint lies now, which is searched first.

    Raises:
        InputError: there is no base.ckpt, or only another run's.
    """
    folders = [base["folder"]] if folder is None else [folder, base["folder"]]
    for place in folders:
        try:
            held = TorchCheckpointIO().load_checkpoint(os.path.join(place, BASE), weights_only=True)
        except FileNotFoundError:
            continue
        if held["hash"] == base["hash"]:
            _set_weights(module, held["state_dict"])
            return
    raise InputError(
        f"{source} was trained on frozen random weights, and {os.path.join(folders[0], BASE)}, which should "
        "hold these weights, is missing or another run's: put the run's own beside the checkpoint."
    )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint or a scorer without a Trainer; base.ckpt is looked for beside the file."""
    checkpoint = read_file(path)
    if "base" in checkpoint and (path.parent / BASE).is_file():
        checkpoint["base"]["folder"] = str(path.parent)
    return checkpoint


def start_from(module: ResumableModule, path: Path) -> None:
    """Put a checkpoint's trained parameters into a module that is to be trained further, sharded or not.

    Scale, temperature and the anchors' matrix belong to the corpus of the earlier run and are left out. A
    parameter that the checkpoint does not hold stays as it was built; a message says so.

    Args:
        module: built, with its parameters frozen as they will be trained.
        path: a .ckpt that fit wrote.

    Raises:
        InputError: the file cannot be read, or belongs to a model with other parameters.
    """
    source = f"model.init_from {path}"
    try:
        checkpoint = read_checkpoint(path)
        held: dict[str, Tensor] = checkpoint["state_dict"]
        names = set(checkpoint["trained"]) & held.keys()
    except Exception as error:  # whatever the damage happens to cause
        raise InputError(
            f"{source} cannot be read ({_reason(error)}): give a .ckpt that fit wrote."
        ) from error
    own = module.state_dict()
    weights: dict[str, Any] = {name: held[name] for name in names - OF_THE_CORPUS}
    wrong = [name for name, value in weights.items() if name not in own or own[name].shape != value.shape]
    if wrong:
        raise InputError(
            f"{source} holds {_first(sorted(wrong))}, which this model lacks or has in another size: leave "
            "out the settings of model.lmm and model.trained, which then follow from the checkpoint."
        )
    if "base" in checkpoint:
        load_base(module, checkpoint["base"], source, None)
    _set_weights(module, weights)
    new = sorted(set(trained_names(module)) - weights.keys() - OF_THE_CORPUS)
    if new:
        rank_zero_info(f"{source} does not hold {_first(new)}: new here, and begun as built")


def save_learnt(module: nn.Module, path: Path) -> None:
    """Write what a module trains, and its buffers, whole, from whatever shards; all processes call this.

    Args:
        module: on every process.
        path: of the file, which the first process writes whole or not at all.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    weights = get_model_state_dict(module, options=options)
    if not dist.is_initialized() or dist.get_rank() == 0:
        WholeCheckpointIO().save_checkpoint({"state_dict": weights}, path)


def load_learnt(module: nn.Module, path: Path, *, buffers: bool = True) -> None:
    """Put what `save_learnt` wrote back in place, sharded or not.

    Args:
        module: changed in place.
        path: of the file.
        buffers: whether buffers are put back too, and not the parameters alone.

    Raises:
        InputError: the file is gone or cannot be read.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:  # whatever the damage happens to cause
        raise InputError(f"{path} of this run cannot be read ({_reason(error)}): begin a new run.") from error
    if not buffers:
        weights = {name: weights[name] for name, _ in module.named_parameters() if name in weights}
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()  # torch looks for shards, and a forward without gradients leaves none
    _set_weights(module, weights)


def _set_weights(module: nn.Module, weights: dict[str, Any]) -> None:
    """Put some of a module's weights in place, from whole tensors into whatever shards."""
    set_model_state_dict(module, weights, options=StateDictOptions(full_state_dict=True, strict=False))


def _megabytes(weights: Mapping[str, Tensor]) -> float:
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage() for value in weights.values()}
    return sum(storage.nbytes() for storage in storages.values()) / 1e6


def _gather(own: dict[str, Any]) -> list[dict[str, Any]]:
    if not (dist.is_available() and dist.is_initialized()):
        return [own]
    states: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(states, own)
    return states
