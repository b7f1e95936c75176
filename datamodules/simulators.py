"""Simulators by name: distortions that run on the device and codecs that run in the workers, as one list.

Pairs, labels and settings name a simulator and do not ask where it runs. The stage of a video's life in which
a simulator acts decides what may lie under both sides of its pairs.
"""

from collections.abc import Mapping, Sequence

from datamodules.checks import check_choice
from datamodules.circuits import Circuits
from datamodules.codecs import CODECS, Codec
from datamodules.distortions import DISTORTIONS, Distortion
from datamodules.errors import InputError

Simulator = Distortion | Codec | Circuits

SIMULATORS: dict[str, Simulator] = {**DISTORTIONS, **CODECS}
"""All built-in simulators."""

CAPTURED = ("sharpness", "noise", "tone", "geometry")
"""Families of what happens to a video before it is compressed."""

DELIVERED = ("compression", "temporal")
"""Families of what happens to a video after its capture: known to make any captured video worse."""


COMPARABLE = ("sharpness", "noise", "tone", "compression")
"""Families whose pixels stay where the source has them, in space and in time."""


def comparable(simulators: Mapping[str, Simulator]) -> dict[str, Simulator]:
    """Return the simulators, by name, whose pixels compare with the source's.

    Example:
        >>> list(comparable(find_simulators(["jpeg", "jitter"])))
        ['jpeg']
    """
    return {name: simulator for name, simulator in simulators.items() if simulator.family in COMPARABLE}


def find_simulators(chosen: Sequence[str | Simulator] | None) -> dict[str, Simulator]:
    """Turn names and a user's own simulators into simulators by name.

    Args:
        chosen: names of `SIMULATORS`, or objects under names of their own; None: all distortions.

    Raises:
        InputError: a name is unknown or comes twice, or the list is empty.

    Example:
        >>> own = Distortion("low", DISTORTIONS["jpeg"].function, levels=(10, 5, 2))
        >>> {name: len(simulator.levels) for name, simulator in find_simulators(["resize", own]).items()}
        {'resize': 5, 'low': 3}
    """
    found: dict[str, Simulator] = {}
    for one in list(DISTORTIONS) if chosen is None else chosen:
        if isinstance(one, str):
            check_choice("An item of data.simulators", one, SIMULATORS)
            one = SIMULATORS[one]
        if one.name in found:
            raise InputError(f"data.simulators has {one.name!r} twice; give each simulator its own name.")
        found[one.name] = one
    if not found:
        raise InputError("data.simulators must name one simulator or more; leave it out for all distortions.")
    return found


def bases(simulators: Mapping[str, Simulator]) -> dict[str, list[str]]:
    """Map each simulator to the simulators that may lie under both sides of its pairs with the order known.

    Compression and transmission make a video worse whatever was captured. The opposite is not certain: a
    little blur improves a noisy picture and a blocky one, and brightening mends a dark one.

    Args:
        simulators: by name.

    Returns:
        Name -> names of its bases, for simulators that have any.

    Example:
        >>> bases(find_simulators(["darken", "jpeg", "freeze"]))
        {'jpeg': ['darken'], 'freeze': ['darken']}
    """
    captured = [name for name, simulator in simulators.items() if simulator.family in CAPTURED]
    delivered = [name for name, simulator in simulators.items() if simulator.family in DELIVERED]
    return {name: captured for name in delivered if captured}
