"""Files that are there whole or not at all, whenever the process that writes them dies.

A file is written under a hidden name beside its own and takes its place in one step. The hidden name is the
process's own, for another one may write the same file at the same time. A file that a killed process leaves
ends in `.tmp`, and the run that goes on removes it.
"""

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from datamodules.errors import InputError


def hidden_beside(file: Path) -> Path:
    """Return a path beside a file to write it under, which no other process has, on whatever machine.

    Example:
        >>> hidden_beside(Path("scores.csv")).match(".scores.csv.????????.tmp")
        True
    """
    return file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")


@contextmanager
def written_whole(file: Path) -> Iterator[Path]:
    """Give the hidden path to write a file under; it becomes the file when nothing was raised.

    Args:
        file: its folder is made where there is none.

    Raises:
        InputError: the folder cannot be written to; the file is as it was.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "scores.csv")
        >>> with written_whole(file) as hidden:
        ...     _ = hidden.write_text("path,score")
        ...     file.exists()
        False
        >>> file.read_text()
        'path,score'
    """
    hidden = hidden_beside(file)
    try:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            yield hidden
            hidden.replace(file)
        finally:
            hidden.unlink(missing_ok=True)  # a full disk must not fill with halves
    except OSError as error:
        raise InputError(
            f"{file} cannot be written ({os.strerror(error.errno or 0)}): make room there or change its "
            "rights, and go on with --ckpt_path last."
        ) from error


def remove_unfinished(folder: Path, names: Iterable[str]) -> None:
    """Remove the files that a killed process was writing.

    Args:
        folder: where it wrote.
        names: of the files, as patterns relative to the folder.
    """
    for name in map(Path, names):
        for hidden in folder.glob(str(name.with_name(f".{name.name.rstrip('*')}*.tmp"))):
            hidden.unlink(missing_ok=True)
