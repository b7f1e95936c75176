"""What a worker reads, noted where its main process finds it: a file may end the process that decodes it."""

import mmap
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext

ROOM = 1024
"""Bytes of a worker's note; a longer name loses its end."""

Board = mmap.mmap
"""Notes of all workers of a loader, in memory that they share with the process that started them."""

_boards: deque[Board] = deque(maxlen=16)
"""Of the newest loaders of this process."""

_place: memoryview | None = None
"""In a worker: where its note stands."""


def new_board(workers: int, context: BaseContext | None = None) -> Board | None:
    """Return an empty board for the workers of a loader; None where they are no copies of this process.

    Args:
        workers: their number.
        context: how they are started; None: as Python starts processes.
    """
    if not workers or (context or multiprocessing.get_context()).get_start_method() != "fork":
        return None
    _boards.append(mmap.mmap(-1, ROOM * workers))
    return _boards[-1]


def take_place(board: Board | None, worker: int) -> None:
    """Have this worker, by its number, write to its place on a board."""
    global _place
    _place = None if board is None else memoryview(board)[worker * ROOM : (worker + 1) * ROOM]


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Note, in a worker, the name of a file while it is read."""
    if _place is None:
        yield
        return
    note = f"{os.getpid()} {name}".encode()[: ROOM - 1] + b"\0"
    _place[: len(note)] = note
    try:
        yield
    finally:
        _place[0] = 0


def read_by(pid: int) -> str | None:
    """Return the name of the file that a worker was reading when it was lost; None where it read none."""
    for board in _boards:
        for begin in range(0, len(board), ROOM):
            note = bytes(board[begin : begin + ROOM]).partition(b"\0")[0].decode(errors="replace")
            writer, _, name = note.partition(" ")
            if writer == str(pid):
                return name
    return None
