"""The settings that a checkpoint remembers, as far as a file may say what runs.

A setting that names a class or a function would be called when the model is built. A stranger's file may name
what this package, torch or Lightning have for it, and what the program that loads it has imported itself.
"""

import sys
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datamodules.errors import InputError

CALLED = ("loss.pairwise", "loss.pointwise", "optimizer", "lr_scheduler")
"""Settings of the model whose value is called."""

KNOWN = ("vqa_lightning.", "torch.optim.", "lightning.pytorch.cli.")
"""Beginnings of the names that any file may call."""


def remembered_settings(
    checkpoint: Mapping[str, Any], file: Path, typed: Callable[[str], bool] = lambda _: False
) -> dict[str, Any]:
    """Return the hyper-parameters of a checkpoint.

    Args:
        checkpoint: as it was read.
        file: that it was read from.
        typed: whether the user says a setting of the model, by its name; what the file says of it is then
            left out.

    Raises:
        InputError: the file names code that is not known here.
    """
    settings = dict(checkpoint["hyper_parameters"])
    settings.pop("_instantiator", None)  # it names a class, too
    for name in CALLED:
        group, _, last = name.rpartition(".")
        holder = settings.get(group, {}) if group else settings
        value = holder.get(last) if isinstance(holder, Mapping) else None
        path = value.get("class_path") if isinstance(value, Mapping) else value
        if path is None:
            continue
        if typed(name):
            rest = {key: value for key, value in holder.items() if key != last}
            settings = {**settings, group: rest} if group else rest
        elif not (isinstance(path, str) and (path.startswith(KNOWN) or _imported(path))):
            raise InputError(
                f"{file} names {path!r} as model.{name}, and a checkpoint may not say what code runs: if it "
                f"is yours, give --model.{name} too, or import it before the checkpoint is loaded."
            )
    return settings


def _imported(path: str) -> bool:
    """Return whether a name is a class of a loss, an optimizer or a schedule that is there already."""
    module, _, rest = path.rpartition(".")
    found = reduce(lambda one, part: getattr(one, part, None), rest.split("."), sys.modules.get(module))
    return isinstance(found, type) and issubclass(found, (nn.Module, Optimizer, LRScheduler))
