"""Features of a frozen tower, kept on disk or in memory from one epoch to the next.

A clip is known by the very pixels that the tower is shown, so nothing stale can be found again: other noise,
another view and other weights are other keys. Clips that recur are worth keeping: sources, their codec
versions, evaluation pairs and whatever is annotated every round.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import mkstemp

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from datamodules.errors import InputError
from datamodules.files import weights_hash

Features = tuple[Tensor, Tensor | None]

MEMORY = "memory"
"""What stands for a folder where features are kept in memory."""

ENTRY = 500
"""Bytes that an entry of the memory takes beside its numbers: name, tensor, dictionary."""


def require_frozen(folder: str, *parts: nn.Module) -> None:
    """Refuse to keep the features of parts that training changes.

    Raises:
        InputError: a part is trained.
    """
    if any(parameter.requires_grad for part in parts for parameter in part.parameters()):
        raise InputError(
            f"model.lmm.feature_cache must be null where model.trained.parts trains the tower; got "
            f"{folder!r}: train lora or head to keep features."
        )


def _hash(parts: Iterable[nn.Module]) -> str:
    """Hash all parameters and buffers, those that no state dict holds included."""
    return "".join(weights_hash({**dict(p.named_parameters()), **dict(p.named_buffers())}) for p in parts)


def _key(weights: str, frames: Tensor) -> str:
    """Return the name of a clip's features: a hash of the weights and of the very pixels."""
    digest = hashlib.blake2b(f"{weights} {tuple(frames.shape)} {frames.dtype}".encode(), digest_size=20)
    digest.update(frames.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class FeatureMemory:
    """Features in the memory of a process, of as many clips as there is room for.

    Pixels on a GPU are computed and not looked up: there the tower is done before their hash would be.

    Args:
        gigabytes: beyond which the features that were not asked for longest are given up.
        parts: the frozen modules that make the features.

    Raises:
        InputError: a part is trained.

    Example:
        >>> memory = FeatureMemory(0.1)
        >>> clips = torch.rand(2, 1, 3, 8, 8)
        >>> means, _ = memory.features(clips, lambda some: (some.mean(dim=(2, 3, 4)), None))
        >>> again, _ = memory.features(clips, lambda some: (torch.zeros(2, 1), None))
        >>> torch.equal(means, again)
        True
    """

    def __init__(self, gigabytes: float, *parts: nn.Module) -> None:
        require_frozen("memory", *parts)
        self.weights = _hash(parts)
        self._left = gigabytes * 1e9
        self._kept: OrderedDict[str, dict[str, Tensor]] = OrderedDict()

    def features(self, frames: Tensor, compute: Callable[[Tensor], Features]) -> Features:
        """Return the features of clips as `FeatureCache.features` does."""
        if frames.device.type != "cpu":
            return compute(frames)
        names = [_key(self.weights, clip) for clip in frames]
        missing = [row for row, name in enumerate(names) if name not in self._kept]
        found = {name: self._kept[name] for name in names if name in self._kept}
        for name in found:
            self._kept.move_to_end(name)
        if missing:
            with torch.no_grad():
                made = _apart(*compute(frames[missing]))
            for row, features in zip(missing, made, strict=True):
                found[names[row]] = features
                self._keep(names[row], features)
        return _together([found[name] for name in names], frames.device)

    def _keep(self, name: str, features: dict[str, Tensor]) -> None:
        if name in self._kept:  # a clip that the batch has twice
            return
        self._left -= _size(features)
        self._kept[name] = features
        while self._left < 0:
            _, oldest = self._kept.popitem(last=False)
            self._left += _size(oldest)


def _size(features: dict[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in features.values()) + ENTRY


def _apart(last: Tensor, deep: Tensor | None) -> list[dict[str, Tensor]]:
    """Return the features of each clip by name, as copies that hold no batch in memory."""
    names = {"last": last} | ({} if deep is None else {"deep": deep})
    return [{name: values[row].clone() for name, values in names.items()} for row in range(len(last))]


def _together(rows: Sequence[dict[str, Tensor]], device: torch.device) -> Features:
    last = torch.stack([row["last"].to(device) for row in rows])
    return last, torch.stack([row["deep"].to(device) for row in rows]) if "deep" in rows[0] else None


class FeatureCache:
    """A folder of features, one file a clip.

    Args:
        folder: where they are kept; may be shared by ranks and by runs.
        gigabytes: beyond which nothing is added; each process counts from the size it finds at its start.
        parts: the frozen modules that make the features; their weights are part of every key.

    Raises:
        InputError: a part is trained, or the folder cannot be written to.
    """

    def __init__(self, folder: Path, gigabytes: float, *parts: nn.Module) -> None:
        require_frozen(str(folder), *parts)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"model.lmm.feature_cache must be a folder that can be written to; got {str(folder)!r} "
                f"({error.strerror})."
            ) from error
        self.folder = folder
        self.weights = _hash(parts)
        self._left = gigabytes * 1e9 - sum(file.stat().st_size for file in folder.glob("*.safetensors"))

    def _file(self, frames: Tensor) -> Path:
        return self.folder / f"{_key(self.weights, frames)}.safetensors"

    def features(self, frames: Tensor, compute: Callable[[Tensor], Features]) -> Features:
        """Return the features of clips, computing features that are not known.

        Args:
            frames: (B, T, 3, h, w), what the tower is shown.
            compute: from such frames to features (B, V, D) and deeper ones (B, V, layers, D) or None.
        """
        files = [self._file(clip) for clip in frames]
        missing = [row for row, file in enumerate(files) if not file.is_file()]
        found = {row: load_file(file) for row, file in enumerate(files) if row not in missing}
        if missing:
            with torch.no_grad():
                made = _apart(*compute(frames[missing]))
            for row, features in zip(missing, made, strict=True):
                found[row] = features
                self._keep(files[row], features)
        return _together([found[row] for row in range(len(files))], frames.device)

    def _keep(self, file: Path, features: dict[str, Tensor]) -> None:
        size = sum(tensor.nbytes for tensor in features.values())
        if size > self._left:
            return
        self._left -= size
        handle, hidden = mkstemp(dir=self.folder, suffix=".tmp")  # other ranks may be writing the same
        os.close(handle)
        save_file({name: tensor.cpu().contiguous() for name, tensor in features.items()}, hidden)
        os.replace(hidden, file)
