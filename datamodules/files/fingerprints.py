"""Hashes of weights, which decide a score as settings do: in files, or in modules that are already loaded.

Contents count and places do not, so that a moved file keeps its scores and an edited file loses them.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor


def file_hash(path: Path) -> str:
    """Hash a file, or all files under a folder with their relative names, to 16 hexadecimal digits.

    Hidden files and folders (a download's bookkeeping) do not count.
    """
    if path.is_file():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        if file.is_file() and not any(part.startswith((".", "__pycache__")) for part in name.parts):
            digest.update(f"{name.as_posix()} {file_hash(file)} ".encode())
    return digest.hexdigest()[:16]


def weights_hash(weights: Mapping[str, Tensor]) -> str:
    """Hash tensors with their names, such as a module's state dict, to 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
