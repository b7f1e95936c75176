"""Checkpoint files that survive the death of the process that writes them.

Lightning writes to the system's temporary folder first. Where that folder is on another disk, the new
checkpoint is copied over the last one, and a process that dies meanwhile leaves neither.
"""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from datamodules.files import written_whole
from vqa_lightning.checkpoints.scorer_file import SUFFIX, read_scorer


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the last one, and puts it in place when it is on the disk; reads scorers."""

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint as Lightning does, or a scorer."""
        if Path(path).suffix == SUFFIX:
            return read_scorer(Path(path))
        return super().load_checkpoint(path, *args, **kwargs)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write to a local path; to a URL as Lightning does.

        Raises:
            InputError: the folder cannot be written to; the file stays as it was.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with written_whole(Path(path)) as hidden, hidden.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # torch fails once more when it ends the archive
                    raise error.__context__ from None
                raise
            file.flush()
            os.fsync(file.fileno())  # the only file of the run that no one could compute again
