"""What every operator is given, and the two things that nearly all of them do with it.

A leaf of the package: operators import it, the built-in simulators import the operators.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.checks import check_that
from datamodules.errors import InputError

Generators = torch.Generator | Sequence[torch.Generator]
"""One for all clips, or one for each: what a clip looks like then does not depend on the clips beside it."""

DistortionFunction = Callable[[Tensor, Tensor, Tensor | None, Any], Any]
"""`f(clips, strength, times, generator)`: (B, T, C, H, W) in [0, 1], (B,), seconds (B, T), on one device, and
one torch.Generator (the operators of this package take `Generators`); returns distorted clips of the same
shape. An operator that needs neither times nor generator takes both as `*_`. The type says `Any`, since
jsonargparse would turn away a function that does not declare the `Tensor` it returns."""


def per_sample(values: Tensor) -> Tensor:
    """View values (B,) as (B, 1, 1, 1, 1), to go with clips.

    Example:
        >>> per_sample(torch.tensor([0.1, 0.2])).shape
        torch.Size([2, 1, 1, 1, 1])
    """
    return values[:, None, None, None, None]


def draw(
    sample: Callable[..., Tensor],
    shape: Sequence[int],
    generator: Generators | None,
    clips: Tensor,
    name: str,
) -> Tensor:
    """Draw numbers (B, ...) for B clips, those of each clip from its own generator where there are several.

    Args:
        sample: torch.rand or torch.randn.
        shape: B and more.
        generator: where the numbers come from.
        clips: (B, T, C, H, W), on whose device the numbers are drawn.
        name: of the operator that draws.

    Raises:
        InputError: there is no generator, or it is on another device than the clips.

    Example:
        >>> clips = torch.rand(2, 4, 3, 8, 8)
        >>> generators = [torch.Generator().manual_seed(seed) for seed in (0, 0)]
        >>> numbers = draw(torch.rand, (2, 4), generators, clips, "mine")
        >>> numbers.shape, bool((numbers[0] == numbers[1]).all())
        (torch.Size([2, 4]), True)
    """
    device = clips.device
    if generator is None:
        raise InputError(f"{name!r} draws at random: its generator must be given, on {device}; got None.")
    for one in [generator] if isinstance(generator, torch.Generator) else generator:
        same = one.device.type == device.type
        check_that(same, f"The generator of {name!r}", f"on {device}, as its clips are", one.device)
    if isinstance(generator, torch.Generator):
        return sample(tuple(shape), generator=generator, device=device)
    return torch.stack([sample(tuple(shape[1:]), generator=one, device=device) for one in generator])


def generator_for(key: tuple[Any, ...], device: torch.device) -> torch.Generator:
    """Return a generator whose numbers follow from the key alone.

    Example:
        >>> cpu = torch.device("cpu")
        >>> first, again = (torch.rand(3, generator=generator_for(("clip", 1), cpu)) for _ in range(2))
        >>> torch.equal(first, again)
        True
    """
    # A hash, since the CPU's generators look at the last 32 bits of a seed only.
    seed = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:7])
    return torch.Generator(device).manual_seed(seed)
