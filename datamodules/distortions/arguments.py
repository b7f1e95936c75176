"""What every operator is given, and the two things that nearly all of them do with it.

A leaf of the package: operators import it, the built-in simulators import the operators.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datamodules.checks import check_that
from datamodules.errors import InputError

Generators = torch.Generator | Sequence[torch.Generator | Tensor]
"""One for all clips, or one for each: what a clip looks like then does not depend on the clips beside it. In
place of a clip's generator may stand the numbers that have been drawn from it (`drawn`)."""

DistortionFunction = Callable[[Tensor, Tensor, Tensor | None, Any], Any]
"""`f(clips, strength, times, generator)`: (B, T, C, H, W) in [0, 1], (B,), seconds (B, T), on one device, and
one torch.Generator (the operators of this package take `Generators`, and those of `sharpness` strengths of
the host); returns distorted clips of the same shape. An operator that needs neither times nor generator takes
both as `*_`. The type says `Any`, since jsonargparse would turn away a function that does not declare the
`Tensor` it returns."""


def per_sample(values: Tensor) -> Tensor:
    """View values (B,) as (B, 1, 1, 1, 1), to go with clips.

    Example:
        >>> per_sample(torch.tensor([0.1, 0.2])).shape
        torch.Size([2, 1, 1, 1, 1])
    """
    return values[:, None, None, None, None]


class Draw(NamedTuple):
    """What an operator draws.

    Attributes:
        sample: torch.rand or torch.randn.
        shape: of the numbers for one clip, from the clip's shape (T, C, H, W).
    """

    sample: Callable[..., Tensor]
    shape: Callable[[Sequence[int]], Sequence[int]]


DRAWS = {
    "gaussian_noise": Draw(torch.randn, lambda clip: clip),
    "jitter": Draw(torch.rand, lambda clip: (3, clip[0])),
    "stutter": Draw(torch.rand, lambda clip: clip[:1]),
    "frame_rate": Draw(torch.rand, lambda clip: clip[:1]),
    "freeze": Draw(torch.rand, lambda clip: clip[:1]),
}
"""What the operators of this package draw, by their names."""


def draw(name: str, generator: Generators | None, clips: Tensor) -> Tensor:
    """Draw an operator's numbers (B, ...) for B clips, those of each from its own generator if it has one.

    Args:
        name: of the operator, a key of `DRAWS`.
        generator: where the numbers come from.
        clips: (B, T, C, H, W), on whose device the numbers are drawn.

    Raises:
        InputError: there is no generator, or it is on another device than the clips.

    Example:
        >>> clips = torch.rand(2, 4, 3, 8, 8)
        >>> generators = [torch.Generator().manual_seed(seed) for seed in (0, 0)]
        >>> numbers = draw("stutter", generators, clips)
        >>> numbers.shape, bool((numbers[0] == numbers[1]).all())
        (torch.Size([2, 4]), True)
    """
    if generator is None:
        raise InputError(
            f"{name!r} draws at random: its generator must be given, on {clips.device}; got None."
        )
    sample, shape = DRAWS[name]
    each = tuple(shape(clips.shape[1:]))
    if isinstance(generator, torch.Generator):
        _check_device(name, generator, clips.device)
        return sample((len(clips), *each), generator=generator, device=clips.device)
    return torch.stack([drawn(name, one, clips.shape[1:], clips.device) for one in generator])


def drawn(
    name: str, generator: torch.Generator | Tensor, shape: Sequence[int], device: torch.device
) -> Tensor:
    """Draw an operator's numbers for one clip ahead of time; numbers that have been drawn stay as they are.

    Args:
        name: of the operator, a key of `DRAWS`.
        generator: of the clip.
        shape: of the clip, (T, C, H, W).
        device: of the clip.

    Raises:
        InputError: the generator is on another device.

    Example:
        >>> drawn("jitter", torch.Generator(), (4, 3, 8, 8), torch.device("cpu")).shape
        torch.Size([3, 4])
    """
    if isinstance(generator, Tensor):
        return generator
    _check_device(name, generator, device)
    sample, own = DRAWS[name]
    return sample(tuple(own(shape)), generator=generator, device=device)


def _check_device(name: str, generator: torch.Generator, device: torch.device) -> None:
    same = generator.device.type == device.type
    check_that(same, f"The generator of {name!r}", f"on {device}, as its clips are", generator.device)


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
