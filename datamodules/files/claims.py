"""Claims: a place that one process writes to, and no other one while it does.

A claim is a lock of the operating system on a hidden file. It ends with its process, however that dies, and
processes that are forked do not hold it. Where a file system has no locks, nothing is claimed.
"""

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from datamodules.errors import InputError

_held: dict[Path, int] = {}

_made: list[Path] = []
"""Folders that this process has made, those within others first."""


def claim(lock: Path, taken: str) -> None:
    """Keep a place for this process until `give_back_claims`.

    Args:
        lock: a file that stands for the place; made and removed by those who claim it.
        taken: the sentence where another process has the place.

    Raises:
        InputError: another process has the place.
    """
    lock = lock.resolve()
    if lock in _held:
        return
    try:
        handle = _locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(taken) from error
    if handle is not None:
        _held[lock] = handle


def give_back_claims() -> None:
    """Let other processes have what this one has claimed; folders that stayed empty are removed."""
    while _held:
        lock, handle = _held.popitem()
        with suppress(OSError):
            lock.unlink()
        os.close(handle)
    for folder in _made:
        with suppress(OSError):
            folder.rmdir()
    _made.clear()


@contextmanager
def one_at_a_time(lock: Path, waiting: str = "") -> Iterator[None]:
    """Wait until no other process is in the same place, and keep it meanwhile; the file of the lock stays.

    Args:
        lock: a file that stands for the place.
        waiting: what is said on stderr where another process is there; nothing: waiting takes no time.
    """
    try:
        handle = _locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if waiting:
            print(waiting, file=sys.stderr, flush=True)
        handle = _locked(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def claimed_folder(parent: Path, stem: str) -> int:
    """Make the next folder of a series, which no other process can make as well; return its number.

    If it is still empty when claims are given back, it is removed.

    Args:
        parent: made if need be.
        stem: that the folders' names begin with, such as `version_`.

    Raises:
        OSError: the folder cannot be made.

    Example:
        >>> import tempfile
        >>> parent = Path(tempfile.mkdtemp())
        >>> [claimed_folder(parent, "version_") for _ in range(3)]
        [0, 1, 2]
    """
    missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    numbers = [path.name.removeprefix(stem) for path in parent.glob(f"{stem}*")]
    for number in count(max((int(found) for found in numbers if found.isdecimal()), default=-1) + 1):
        with suppress(FileExistsError):
            (parent / f"{stem}{number}").mkdir()
            _made[:0] = [(parent / f"{stem}{number}").absolute(), *(folder.absolute() for folder in missing)]
            return number
    raise AssertionError("unreachable")


def _locked(lock: Path, how: int) -> int | None:
    """Return the locked file's handle; None where it cannot be made, or files cannot be locked.

    Raises:
        BlockingIOError: with LOCK_NB, another process has it.
    """
    while True:
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            return None
        try:
            # Not flock: a forked worker would hold it on after its main process was killed.
            fcntl.lockf(handle, how)
            if os.path.samestat(os.fstat(handle), os.stat(lock)):
                return handle
            os.close(handle)  # given back, and perhaps taken anew, between the two calls
        except OSError as error:
            os.close(handle)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise BlockingIOError(error.errno, os.strerror(error.errno)) from error
            if error.errno != errno.ENOENT:
                return None
