"""The folder of a new run, made so that no other run can have the same."""

from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger
from lightning_utilities.core.rank_zero import rank_zero_only

from datamodules.errors import InputError
from datamodules.files import claim, claimed_folder

LOCK = ".lock"
"""A file in the folder of a run that is there while a process writes to the folder."""


class RunLogger(TensorBoardLogger):
    """TensorBoard's logger, whose first process makes the next `version_N` when its number is first asked.

    Lightning's own looks for the next number and makes the folder later, when another run may have made it.
    The other processes are told the folder by the Trainer.
    """

    @property
    def version(self) -> int | str:
        """Number of the run, or its name where it goes on.

        Raises:
            InputError: the folder cannot be made.
        """
        first = rank_zero_only.rank == 0  # type: ignore[attr-defined]
        if self._version is None and first:
            try:
                self._version = claimed_folder(Path(self.root_dir), "version_")
            except OSError as error:
                raise InputError(
                    f"{self.root_dir} cannot be written to ({error.strerror}): name another place by "
                    "--trainer.default_root_dir."
                ) from error
        return super().version


def claim_run(folder: Path) -> None:
    """Keep a run's folder for this process, however the folder was chosen.

    Raises:
        InputError: another process writes to it.
    """
    claim(
        folder / LOCK,
        f"{folder} belongs to a fit that is still at work: wait for its end, or begin a new run without "
        "--ckpt_path, in a folder of its own.",
    )
