"""Work on files in a process beside this one, where C code that reads them may end the process.

FFmpeg's demuxers abort on some damaged files, and scipy's reader of MATLAB files reads beyond its memory.
What dies then is a child, and the file that it was given is known.
"""

import faulthandler
import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from queue import Empty, SimpleQueue
from threading import Event, Lock
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

FORKS = sys.platform == "linux" and "fork" in multiprocessing.get_all_start_methods()
"""Whether a child is a copy of this process. Elsewhere it would have to import everything anew, and would run
the user's own script once more."""

_FORKING = Lock()
"""Of one child after the other: a copy of two ends of another's pipe would keep that pipe open."""


@contextmanager
def apart(work: Callable[[Item], Result]) -> Iterator[Callable[[Item], Result]]:
    """Give a function that does `work` in a child: as many children as threads call it at a time.

    Where a process cannot be copied, the function does it here.

    Args:
        work: any function; what it is given, returns and raises crosses between processes.

    Raises:
        ChildProcessError: by the function that is given: the child died of what it was given. The next call
            has a new child.

    Example:
        >>> with apart(len) as length:
        ...     length("abc")
        3
    """
    if not FORKS or multiprocessing.current_process().daemon:  # who may have no children
        yield work
        return
    idle: SimpleQueue[_Child[Item, Result]] = SimpleQueue()
    over = Event()

    def run(item: Item) -> Result:
        try:
            child = idle.get_nowait()
        except Empty:
            child = _Child(work)
        result = child.do(item)
        if over.is_set():
            child.end()
        else:
            idle.put(child)
        if isinstance(result, _Raised):
            raise result.error
        return result

    try:
        yield run
    finally:
        over.set()
        with suppress(Empty):
            while True:
                idle.get_nowait().end()


class _Raised(Generic[Result]):
    """What was raised in place of a result."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Child(Generic[Item, Result]):
    """A process that does one thing after the other."""

    def __init__(self, work: Callable[[Item], Result]) -> None:
        with _FORKING:
            context = multiprocessing.get_context("fork")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=_serve, args=(work, theirs, self.pipe), daemon=True)
            self.process.start()
            theirs.close()

    def do(self, item: Item) -> Result | _Raised[Result]:
        """Return what the work gives or raises.

        Raises:
            ChildProcessError: the process died of it.
        """
        with suppress(OSError, EOFError):
            self.pipe.send(item)
            wait([self.pipe, self.process.sentinel])
            if self.pipe.poll():
                answer: Result | _Raised[Result] = self.pipe.recv()
                return answer
        self.end()
        raise ChildProcessError("reading it ends the process")

    def end(self) -> None:
        """Let the process go."""
        self.pipe.close()
        self.process.kill()
        self.process.join()


def _serve(work: Callable[[Any], Any], pipe: Connection, theirs: Connection) -> None:
    theirs.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Python ends its children by it, and waits for them
    gc.freeze()  # as in workers
    faulthandler.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # C code that gives up says so there
    with suppress(EOFError):
        while True:
            item = pipe.recv()
            try:
                answer = work(item)
            except Exception as error:
                answer = _Raised(error)
            pipe.send(answer)
