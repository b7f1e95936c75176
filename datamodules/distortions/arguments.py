"""What every operator is given, and the two things that nearly all of them do with it.

A leaf of the package: operators import it, the built-in simulators import the operators.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from datamodules.errors import InputError

DistortionFunction = Callable[[Tensor, Tensor, Tensor | None, torch.Generator | None], Any]
"""`f(clips, strength, times, generator)`: (B, T, C, H, W) in [0, 1], (B,), seconds (B, T), on one device;
returns distorted clips of the same shape. `Any`, since jsonargparse would turn away a function that does not
declare the `Tensor` it returns."""


def per_sample(values: Tensor) -> Tensor:
    """View values (B,) as (B, 1, 1, 1, 1), to go with clips."""
    return values[:, None, None, None, None]


def require_generator(generator: torch.Generator | None, clips: Tensor, name: str) -> torch.Generator:
    """Return the generator that the operator `name` cannot do without.

    Raises:
        InputError: there is none, or it is on another device than the clips.
    """
    if generator is None:
        raise InputError(
            f"{name!r} draws at random and got no generator: give a torch.Generator on {clips.device}."
        )
    if generator.device.type != clips.device.type:
        raise InputError(
            f"{name!r} got a generator on {generator.device} for clips on {clips.device}: "
            "put both on one device."
        )
    return generator
