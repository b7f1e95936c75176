"""Circuits, the hypothetical reference circuits of ITU-T P.910: what a clean source went through, by number.

A number stands for the same steps on every machine. Numbers have no order of severity as a whole. The numbers
of one kind have: circuits of one step follow each other from its mildest strength to its worst.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache, partial
from typing import ClassVar, NamedTuple

import av
import numpy as np
import torch
from torch import Tensor

from datamodules.checks import check_between
from datamodules.circuits.steps import CAPTURING, DISTORTING, ENCODING, STRENGTHS
from datamodules.codecs import CodecCache
from datamodules.codecs.pictures import as_stored
from datamodules.distortions import generator_for
from datamodules.distortions.distortion import REVISIONS

VERSION = 2
"""Raise it when the code changes what a number means: scores of the old versions then do not count."""

CHAINS = 240
"""Circuits of several steps."""

MILD = 0.6
"""Share of its range from which a chain draws the strength of a step before the encoder."""

TWICE = 0.3
"""Share of the chains that encode a second time, as an upload that a service encodes again."""


class Step(NamedTuple):
    """One step of a circuit: a simulator's name, and its level from 1."""

    name: str
    level: int


@dataclass(frozen=True)
class Circuits:
    """All circuits as one simulator that runs in workers, whose levels are the circuits' numbers.

    Circuits of one step come first, `STRENGTHS` for each simulator of `steps`, mildest first. Chains follow:
    one or two of a change of scale, a blur, noise and a wrong exposure, in the order of a video's life, then
    an encoder and sometimes a second encoder.

    Attributes:
        seed: of the chains' steps and strengths.

    Example:
        >>> circuits = Circuits()
        >>> circuits.steps(1), circuits.steps(48)
        ((Step(name='resize', level=1),), (Step(name='resize', level=48),))
        >>> [step.name for step in circuits.steps(len(circuits.levels))]
        ['resize', 'gaussian_noise', 'av1']
    """

    seed: int = 0

    name: ClassVar[str] = "circuits"
    family: ClassVar[str] = "circuits"

    @property
    def kinds(self) -> list[str]:
        """Names of the simulators that a circuit may consist of alone, in the order of their numbers."""
        return [*DISTORTING, *ENCODING]

    @property
    def levels(self) -> tuple[float, ...]:
        """The numbers of all circuits."""
        return tuple(range(1, STRENGTHS * len(self.kinds) + CHAINS + 1))

    @property
    def identity(self) -> str:
        """The name under which scores of versions are kept: `circuits-HASH` of all that defines them."""
        return _identity(self.seed)

    def number(self, kind: str, strength: int) -> int:
        """Return the circuit of one step at one of its `STRENGTHS`, 1 the mildest."""
        return STRENGTHS * self.kinds.index(kind) + strength

    def chain(self, index: int) -> int:
        """Return the number of a chain, by its index from 0 to `CHAINS` - 1."""
        return STRENGTHS * len(self.kinds) + index + 1

    def steps(self, number: int) -> tuple[Step, ...]:
        """Return what a circuit does, in the order in which it is done.

        Raises:
            InputError: there is no circuit of that number.
        """
        check_between("The number of a circuit", number, 1, len(self.levels))
        kind, place = divmod(number - 1, STRENGTHS)
        if kind < len(self.kinds):
            return (_step(self.kinds[kind], place / (STRENGTHS - 1)),)
        generator = np.random.default_rng([self.seed, number])
        before = sorted(generator.choice(len(CAPTURING), size=generator.integers(1, 3), replace=False))
        places = list(CAPTURING.values())
        names = [places[place][generator.integers(len(places[place]))] for place in before]
        captured = [_step(name, MILD * generator.random()) for name in names]
        encoders = generator.permutation(list(ENCODING))[: 1 + (generator.random() < TWICE)]
        return (*captured, *(_step(str(name), generator.random()) for name in encoders))

    def __call__(self, clip: Tensor, level: int, fps: float, codecs: CodecCache | None = None) -> Tensor:
        """Send a segment through a circuit, the same at every call.

        What comes out is what a file in 4:2:0 can hold, whose colour keeps no noise as fine as a pixel.
        What is drawn at random follows from the circuit's number and the clip's pixels.

        Args:
            clip: uint8 (T, 3, H, W) on the host, consecutive frames; sides of at least 16 pixels.
            level: number of the circuit; 0 is the source, returned as it is.
            fps: frames per second, above 0.
            codecs: where bitstreams are kept; None: nowhere.

        Returns:
            uint8 of the clip's shape.

        Raises:
            InputError: the clip, number or fps is not as said.
        """
        if not level:
            return clip
        pixels = hashlib.blake2b(clip.contiguous().numpy().data, digest_size=8).hexdigest()
        times = torch.arange(len(clip))[None] / fps
        for place, step in enumerate(self.steps(level)):
            if step.name in ENCODING:
                codec = ENCODING[step.name]
                encode = codec if codecs is None else partial(codecs.round_trip, codec)
                clip = encode(clip, step.level, fps)
                continue
            changed = DISTORTING[step.name](
                clip[None] / 255,
                torch.tensor([step.level]),
                times=times,
                generator=generator_for((self.identity, level, place, pixels), clip.device),
            )
            clip = (changed[0] * 255).round().to(torch.uint8)
            if DISTORTING[step.name].family != "temporal":  # else its frames are those that were stored
                clip = as_stored(clip)
        return clip


@cache
def _identity(seed: int) -> str:
    distorting = [(name, one.levels, REVISIONS[name]) for name, one in DISTORTING.items()]
    encoding = [(name, one.definition) for name, one in ENCODING.items()]
    definition = [VERSION, seed, CHAINS, MILD, TWICE, list(CAPTURING.items()), distorting, encoding]
    builds = [av.__version__, av.ffmpeg_version_info]
    return f"circuits-{hashlib.sha256(json.dumps([definition, builds]).encode()).hexdigest()[:8]}"


def _step(name: str, position: float) -> Step:
    """Return the step at a position from 0, its mildest strength, to 1, its worst."""
    levels = (ENCODING.get(name) or DISTORTING[name]).levels
    return Step(name, 1 + round(position * (len(levels) - 1)))
