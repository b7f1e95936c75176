"""Features of a frozen tower, kept on disk from one epoch to the next.

A clip is known by the very pixels that the tower is shown, so nothing stale can be found again: other noise,
another view and other weights are other keys. Clips that recur are worth keeping: sources, their codec
versions, evaluation pairs and whatever is annotated every round.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import mkstemp

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from datamodules.errors import InputError
from datamodules.files import weights_hash

Features = tuple[Tensor, Tensor | None]


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
        self.weights = "".join(weights_hash(part.state_dict()) for part in parts)
        self._left = gigabytes * 1e9 - sum(file.stat().st_size for file in folder.glob("*.safetensors"))

    def _file(self, frames: Tensor) -> Path:
        digest = hashlib.sha256(f"{self.weights} {tuple(frames.shape)} {frames.dtype}".encode())
        digest.update(frames.cpu().contiguous().view(torch.uint8).numpy().data)
        return self.folder / f"{digest.hexdigest()[:40]}.safetensors"

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
                last, deep = compute(frames[missing])
            for place, row in enumerate(missing):
                found[row] = {"last": last[place]} | ({} if deep is None else {"deep": deep[place]})
                self._keep(files[row], found[row])
        rows = [found[row] for row in range(len(files))]
        last = torch.stack([row["last"].to(frames.device) for row in rows])
        deep = torch.stack([row["deep"].to(frames.device) for row in rows]) if "deep" in rows[0] else None
        return last, deep

    def _keep(self, file: Path, features: dict[str, Tensor]) -> None:
        size = sum(tensor.nbytes for tensor in features.values())
        if size > self._left:
            return
        self._left -= size
        handle, hidden = mkstemp(dir=self.folder, suffix=".tmp")  # other ranks may be writing the same
        os.close(handle)
        save_file({name: tensor.cpu().contiguous() for name, tensor in features.items()}, hidden)
        os.replace(hidden, file)
