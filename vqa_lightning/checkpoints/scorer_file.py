"""A scorer as a file to give away: its weights as safetensors, its settings as JSON beside them.

It is read wherever a checkpoint is read, to score or to begin a fit with, and holds nothing of the run that
it comes from: no optimiser, no random numbers, no path.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from datamodules.errors import InputError
from datamodules.files import written_whole

SUFFIX = ".safetensors"

SHIPPED = Path(__file__).parents[1] / "shipped" / f"scorer{SUFFIX}"
"""The scorer of this package, which `benchmarks/train_scorer.py` made."""

SETTINGS = ("hyper_parameters", "trained", "scale_current", "hparams_name", "pytorch-lightning_version")
"""What a checkpoint says beside its tensors that scoring needs, or Lightning when it loads one."""

WEIGHTS, ANCHORS = "state_dict.", "anchors."


def write_scorer(checkpoint: dict[str, Any], output: Path) -> None:
    """Write what scoring needs of a checkpoint.

    Args:
        checkpoint: as fit wrote it, all of whose weights were trained.
        output: the file of weights; the settings go beside it, under the suffix .json.

    Raises:
        InputError: the suffix is another one, frozen weights lie elsewhere, or a file cannot be written.
    """
    if output.suffix != SUFFIX:
        raise InputError(f"The file of a scorer must end in {SUFFIX}; got {output}.")
    if "base" in checkpoint:
        raise InputError("A scorer with frozen random weights cannot be written alone: train all of it.")
    # Tied weights stand under each of their names, and safetensors wants no two in one memory.
    weights = {f"{WEIGHTS}{name}": value.clone() for name, value in checkpoint["state_dict"].items()}
    weights |= {f"{ANCHORS}{place}": clip.contiguous() for place, clip in enumerate(checkpoint["anchors"])}
    settings = {name: checkpoint[name] for name in SETTINGS}
    settings["hyper_parameters"] = {
        name: value
        for name, value in settings["hyper_parameters"].items()
        if name not in ("_instantiator", "init_from")
    }
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(output.with_suffix(".json")) as hidden:
            hidden.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        with written_whole(output) as hidden:
            save_file(weights, hidden)
    except OSError as error:
        raise InputError(f"{output} cannot be written ({error.strerror}); name another place.") from error


def read_scorer(path: Path) -> dict[str, Any]:
    """Read a scorer as the checkpoint that it was written from, for scoring.

    Raises:
        InputError: one of the two files is missing or damaged.
    """
    beside = path.with_suffix(".json")
    try:
        settings: dict[str, Any] = json.loads(beside.read_text(encoding="utf-8"))
        checkpoint: dict[str, Any] = {name: settings[name] for name in SETTINGS}
        tensors = load_file(path)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(
            f"The scorer {path} cannot be read with {beside.name} beside it ({type(error).__name__}): "
            "give both files as they were written."
        ) from error
    checkpoint["state_dict"] = _under(WEIGHTS, tensors)
    clips = _under(ANCHORS, tensors)
    checkpoint["anchors"] = [clips[str(place)] for place in range(len(clips))]
    return {"epoch": 0, "global_step": 0, **checkpoint}


def read_file(path: Path) -> dict[str, Any]:
    """Read a checkpoint that fit wrote, or a scorer.

    Raises:
        InputError: a scorer's files cannot be read; torch raises what damage to a checkpoint causes.
    """
    if path.suffix == SUFFIX:
        return read_scorer(path)
    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return checkpoint


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
