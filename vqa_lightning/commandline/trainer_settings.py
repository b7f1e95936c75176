"""Settings of the Trainer whose mistakes Lightning answers with a traceback."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import StrategyRegistry

from datamodules.errors import InputError

_DEVICES = re.compile(r"auto|-1|\d+(?:, ?\d+)*,?")

_KNOWN: dict[str, tuple[str, Callable[[str], object]]] = {
    "devices": ("auto or a number or list of devices", _DEVICES.fullmatch),
    "accelerator": ("auto, gpu, cpu, cuda, mps or tpu", {"auto", "gpu", *AcceleratorRegistry}.__contains__),
    "strategy": ("auto or a strategy such as ddp or fsdp", {"auto", *StrategyRegistry}.__contains__),
}
"""Name -> what a word must be, and whether Lightning knows the word."""


def check_trainer_settings(trainer: Mapping[str, Any]) -> None:
    """Check the devices, the accelerator and the strategy where a word gives them.

    Args:
        trainer: settings of the Trainer as they were parsed.

    Raises:
        InputError: Lightning does not know the word.

    Example:
        >>> check_trainer_settings({"devices": "[1", "accelerator": "cpu", "strategy": "auto"})
        Traceback (most recent call last):
        datamodules.errors.InputError: --trainer.devices must be auto or a number or list of devices; got [1.
    """
    for name, (must_be, knows) in _KNOWN.items():
        given = trainer[name]
        if isinstance(given, str) and not knows(given.lower()):
            raise InputError(f"--trainer.{name} must be {must_be}; got {given}.")
