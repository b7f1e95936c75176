"""Simulators by name: distortions that run on the device and codecs that run in the workers, as one list.

Pairs, labels and settings name a simulator and do not ask where it runs. What may lie under both sides of a
pair is decided here too, by the stage of a video's life in which a simulator acts.
"""

from collections.abc import Mapping, Sequence

from datamodules.codecs import CODECS, Codec
from datamodules.distortions import DISTORTIONS, Distortion
from vqa_lightning.families import InputError

Simulator = Distortion | Codec

SIMULATORS: dict[str, Simulator] = {**DISTORTIONS, **CODECS}
"""All that are built in."""

CAPTURED = ("sharpness", "noise", "tone", "geometry")
"""Families of what happens to a video before it is compressed."""

DELIVERED = ("compression", "temporal")
"""Families of what happens to it afterwards: known to make any captured video worse."""


def find_simulators(chosen: Sequence[str | Simulator] | None) -> dict[str, Simulator]:
    """Turns names and a user's own simulators into simulators by name.

    Args:
        chosen: names of `SIMULATORS`, or objects under names of their own; None: all distortions.

    Raises:
        InputError: a name is unknown or comes twice, or the list is empty.
    """
    found: dict[str, Simulator] = {}
    for one in list(DISTORTIONS) if chosen is None else chosen:
        name = one if isinstance(one, str) else one.name
        if isinstance(one, str) and one not in SIMULATORS:
            raise InputError(
                f"data.simulators names {one!r}: choose among {', '.join(SIMULATORS)}, or give a function."
            )
        if name in found:
            raise InputError(f"data.simulators names {name!r} twice: give each simulator a name of its own.")
        found[name] = SIMULATORS[one] if isinstance(one, str) else one
    if not found:
        raise InputError("data.simulators is empty: name at least one, or leave it out for all.")
    return found


def bases(simulators: Mapping[str, Simulator]) -> dict[str, list[str]]:
    """For each simulator those that may lie under both sides of its pairs, with the order still known.

    Compression and transmission make a video worse whatever was captured. The other way round it is not
    certain: a little blur improves a noisy picture and a blocky one, and brightening mends a dark one.

    Args:
        simulators: by name.

    Returns:
        Name -> names of its bases, for simulators that have any.
    """
    captured = [name for name, simulator in simulators.items() if simulator.family in CAPTURED]
    delivered = [name for name, simulator in simulators.items() if simulator.family in DELIVERED]
    return {name: captured for name in delivered if captured}
