"""How synthetic pairs are shared out over simulators: `data.counts.families` and `data.later.families`."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.errors import InputError
from datamodules.simulators import Simulator

Weights = Mapping[str, float]
"""Family of simulators -> its part of the synthetic pairs, in any unit."""


def check_weights(setting: str, weights: Weights | None) -> None:
    """Check that weights can be parts of a whole.

    Args:
        setting: as a user writes it.
        weights: what was given; None: nothing.

    Raises:
        InputError: one is negative or not finite, or all are 0.

    Example:
        >>> check_weights("data.later.families", {"tone": 0})
        Traceback (most recent call last):
        datamodules.errors.InputError: data.later.families must be parts from 0, not all 0; got {'tone': 0}.
    """
    if weights is None:
        return
    sound = all(0 <= weight < float("inf") for weight in weights.values()) and any(weights.values())
    if not sound:
        raise InputError(f"{setting} must be parts from 0, not all 0; got {dict(weights)}.")


def check_families(setting: str, weights: Weights | None, simulators: Mapping[str, Simulator]) -> None:
    """Check that weights name the families of the simulators, each of them and no other.

    Raises:
        InputError: they do not.
    """
    families = {simulator.family for simulator in simulators.values()}
    if weights is not None and set(weights) != families:
        raise InputError(
            f"{setting} must name each family of data.simulators, {', '.join(sorted(families))}; "
            f"got {', '.join(sorted(weights)) or 'none'}."
        )


def shared_out(count: int, simulators: Mapping[str, Simulator], weights: Weights | None) -> dict[str, int]:
    """Share pairs out over simulators, by the largest remainders.

    Args:
        count: number of pairs.
        simulators: by name.
        weights: a part for each of their families, whose simulators share it alike; None: all alike.

    Returns:
        Name -> number of pairs; they sum to `count`.

    Example:
        >>> from datamodules.simulators import find_simulators
        >>> three = find_simulators(["resize", "motion_blur", "jpeg"])
        >>> shared_out(10, three, {"sharpness": 2, "compression": 3})
        {'resize': 2, 'motion_blur': 2, 'jpeg': 6}
        >>> shared_out(5, find_simulators(["resize", "jpeg"]), None)
        {'resize': 3, 'jpeg': 2}
    """
    names = list(simulators)
    if not names:
        return {}
    sizes = Counter(simulator.family for simulator in simulators.values())
    part = np.array(
        [1.0 if weights is None else weights[one.family] / sizes[one.family] for one in simulators.values()]
    )
    exact = np.round(part / part.sum() * count, 6)  # 0.06 of 250 000 may be a hair below 15 000
    each = exact.astype(np.int64)
    most_left = np.argsort(each - exact, kind="stable")
    each[most_left[: count - each.sum()]] += 1
    return dict(zip(names, each.tolist(), strict=True))


def counted_by_simulator(pairs: pa.Table) -> Counter[str]:
    """Count the synthetic pairs of a table by simulator.

    Example:
        >>> from datamodules.pairs.synthetic import synthetic_pairs
        >>> generator, ladder = np.random.default_rng(0), {"jpeg": 5, "jitter": 3}
        >>> pairs = synthetic_pairs(generator, ["a"], {"jpeg": 3, "jitter": 1}, ladder, draws=4)
        >>> sorted(counted_by_simulator(pairs).items())
        [('jitter', 1), ('jpeg', 3)]
    """
    own = pairs.filter(pc.equal(pairs["source"], "synthetic"))
    return Counter(simulators_of(own).to_pylist())


def simulators_of(synthetic: pa.Table) -> pa.ChunkedArray:
    """Return the name of the simulator that the sides of each synthetic pair differ by.

    It is the last that lies on a side; the side whose level is 0 lacks it, and has at most a base, at a lower
    depth. So it is the last of the longer side.
    """
    sides = [synthetic[f"distortions_{side}"] for side in ("first", "second")]
    first, second = (pc.fill_null(pc.list_value_length(side), 0) for side in sides)
    longer = pc.if_else(pc.greater_equal(first, second), sides[0], sides[1])
    depth = pc.list_value_length(longer)
    ends = pc.subtract(pc.cumulative_sum(depth), 1)
    return pc.struct_field(pc.list_flatten(longer), "name").take(ends)
