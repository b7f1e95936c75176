"""Which circuits a source goes through: drawn by its id, two strengths of many simulators and some chains."""

import hashlib
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from datamodules.circuits.circuit import CHAINS, Circuits
from datamodules.circuits.steps import DISTORTING, ENCODING, STRENGTHS
from datamodules.errors import InputError

MET = (("resize",), ("gaussian_blur",), ("gaussian_noise",), ("darken", "brighten"), ("frame_rate",))
"""What people meet beside encoders: one of each for every source."""

OF_CHAINS = 1 / 6
"""Share of a source's versions that are made by chains."""


CHAINED = "chains"
"""In the place of a simulator's name: circuits of several steps."""

LEFT_OUT = tuple(sorted({*DISTORTING, *ENCODING, *(one.family for one in DISTORTING.values()), CHAINED}))
"""What circuits may be drawn without: simulators, families, and chains."""


def drawn_circuits(
    circuits: Circuits, video_ids: Sequence[str], count: int, without: Sequence[str] = ()
) -> npt.NDArray[np.int64]:
    """Draw the circuits of each source.

    A sixth are chains. The others come in twos of one simulator, whose severities order them: first those
    that people meet most (`MET`), then the others in a random order. What is drawn for a source follows from
    its id, so that its scores serve every corpus that it is in.

    Args:
        circuits: what is drawn from.
        video_ids: (n,) the sources.
        count: of circuits for each source.
        without: of `LEFT_OUT`, what no circuit has among its steps; the others stay in their order.

    Returns:
        (n, count) numbers, those of a source all different while it has fewer than the circuits of a kind.

    Raises:
        InputError: nothing is left.

    Example:
        >>> numbers = drawn_circuits(Circuits(), ["a"], 10)[0]
        >>> [[step.name for step in Circuits().steps(number)] for number in numbers[:4]]
        [['resize'], ['resize'], ['vp9'], ['vp9']]
    """
    drawn = np.empty((len(video_ids), count), dtype=np.int64)
    out = {name for name in circuits.kinds if name in without or _family(name) in without}
    if len(out) == len(circuits.kinds):
        raise InputError("data.references.without must leave a simulator; got all of them.")
    allowed = _chains_without(circuits, frozenset(out))
    chains = 0 if CHAINED in without or not len(allowed) else round(OF_CHAINS * count)
    for row, name in zip(drawn, video_ids, strict=True):
        seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
        generator = np.random.default_rng([circuits.seed, seed])
        met = [*ENCODING, *(one[generator.integers(len(one))] for one in MET)]
        others = [kind for kind in DISTORTING if kind not in met]
        kinds = [*generator.permutation(met), *generator.permutation(others)]
        kinds = [kind for kind in kinds if kind not in out]
        strengths = {kind: generator.permutation(STRENGTHS) + 1 for kind in kinds}
        for place in range(count - chains):
            turn, which = divmod(place // 2, len(kinds))
            kind = str(kinds[which])
            row[place] = circuits.number(kind, strengths[kind][(2 * turn + place % 2) % STRENGTHS])
        own = generator.permutation(CHAINS)
        own = own[np.isin(own, allowed)]
        row[count - chains :] = [circuits.chain(own[place % len(own)]) for place in range(chains)]
    return drawn


def _family(name: str) -> str:
    return DISTORTING[name].family if name in DISTORTING else ENCODING[name].family


@cache
def _chains_without(circuits: Circuits, out: frozenset[str]) -> npt.NDArray[np.int64]:
    """Return the indices of the chains that have none of some simulators among their steps."""
    kept = [
        index
        for index in range(CHAINS)
        if out.isdisjoint(s.name for s in circuits.steps(circuits.chain(index)))
    ]
    return np.array(kept, dtype=np.int64)
