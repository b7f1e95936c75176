"""What a user can mend, as one sentence on stderr; anything else keeps its traceback."""

import errno
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lightning.fabric.utilities.exceptions import MisconfigurationException

from datamodules.errors import InputError, UnreadableVideo
from datamodules.processes import END, read_by
from vqa_lightning.commandline.parser import ParserError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_NO_RIGHT = (errno.EROFS, errno.EACCES, errno.EPERM)

_WORKERS = re.compile(
    r"DataLoader worker \(pid\D*(?P<pid>\d+).*?\) (?:is )?(?P<fate>[^.]*)|Too many open files"
)
"""What torch says of processes that read."""

_DIED = (
    "A process that reads clips was lost ({}): read with fewer processes (--data.workers) if the memory was "
    "full, or in this one (--data.workers 0)."
)

_DIED_OF = (
    "A process that reads clips was lost ({}) while it read {}: leave that file out of --data.videos, or "
    "read with fewer processes (--data.workers) if the memory was full."
)

_NO_FILES = (
    "Too many files are open between processes: raise the limit (ulimit -n), or read in one process "
    "(--data.workers 0)."
)


def mistake(error: BaseException | None) -> BaseException | None:
    """Return what a user can mend in a chain of exceptions; None if there is nothing.

    jsonargparse wraps what a class raises when it is made, and repeats it in lines of its own.
    """
    complaint = None
    while error is not None:
        if isinstance(error, ParserError):
            complaint = complaint or error
        elif isinstance(error, InputError | UnreadableVideo | MisconfigurationException) or (
            isinstance(error, OSError) and error.errno in (*_NO_ROOM, *_NO_RIGHT)
        ):
            return error
        elif isinstance(error, RuntimeError) and (found := _WORKERS.match(str(error))):
            return InputError(_lost(found))
        error = error.__cause__ or error.__context__
    return complaint


def sentence(told: BaseException, words: Sequence[str] = ()) -> str:
    """Return what a mistake says, without the traceback that torch wraps around what a worker raised.

    Args:
        told: what `mistake` found.
        words: of the command line.
    """
    if isinstance(told, ParserError):
        return told.sentence(words)
    if isinstance(told, OSError):
        place, reason = told.filename or "a file of the run", os.strerror(told.errno or 0)
        if told.errno in _NO_ROOM:
            return f"{place} cannot be written ({reason}): make room, and go on with --ckpt_path last."
        return f"{place} cannot be used ({reason}): change its rights, or name another place."
    lines = str(told).strip().splitlines()
    if not lines[0].startswith("Caught "):
        return lines[0]
    return re.sub(r"^[\w.]+: ", "", lines[-1])


@contextmanager
def told_once() -> Iterator[None]:
    """Keep threads from printing tracebacks for want of room or at an end: the main thread tells the same."""
    others = threading.excepthook

    def tell(failed: threading.ExceptHookArgs) -> None:
        if END.signum is None and mistake(failed.exc_value) is None:
            others(failed)

    threading.excepthook = tell
    try:
        yield
    finally:
        threading.excepthook = others


def _lost(found: re.Match[str]) -> str:
    if found["pid"] is None:
        return _NO_FILES
    name = read_by(int(found["pid"]))
    return _DIED.format(found["fate"]) if name is None else _DIED_OF.format(found["fate"], name)
