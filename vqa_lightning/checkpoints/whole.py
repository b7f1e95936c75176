"""Checkpoint files that survive the death of the process that writes them.

Lightning's own way leads through the system's temporary folder: where that is another disk, the new
checkpoint is copied over the one before, and a process that dies meanwhile leaves neither.
"""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from datamodules.files import written_whole


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the one before, and puts it in its place when it is on the disk."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Writes to a local path; to a URL as Lightning does.

        Raises:
            InputError: the folder cannot be written to; the file is as it was.
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
            os.fsync(file.fileno())  # of the run's files the only one that no one could compute again
