"""The state of every random number generator of a process, saved and set again."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def generator_states(device: torch.device) -> dict[str, Any]:
    """Return the states of this process's global generators, of types that `weights_only` loads.

    Args:
        device: its generator counts beside those of Python, numpy and the CPU.
    """
    version, words, gauss = random.getstate()
    # Libraries still draw from numpy's global generator.
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    numpy["state"]["key"] = numpy["state"]["key"].tolist()
    states = {"python": [version, words, gauss], "numpy": numpy, "torch": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_generators(states: Mapping[str, Any], device: torch.device) -> None:
    """Put this process's global generators into the states that `generator_states` gave."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    inner = states["numpy"]["state"]
    numpy = {**states["numpy"], "state": {**inner, "key": np.array(inner["key"], dtype=np.uint32)}}
    np.random.set_state(numpy)  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
