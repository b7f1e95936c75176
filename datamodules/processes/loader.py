"""A DataLoader for machines as they are: little shared memory, few processes, workers that are spawned.

What a loader gives does not depend on its workers, so it may do without shared memory and without workers;
both is said once.
"""

import errno
import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from multiprocessing import active_children
from multiprocessing.queues import Queue
from multiprocessing.reduction import ForkingPickler
from traceback import clear_frames
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch._utils import ExceptionWrapper
from torch.multiprocessing.reductions import reduce_tensor
from torch.utils.data import DataLoader

from datamodules.errors import InputError, reason
from datamodules.processes.notes import Board, new_board, take_place
from datamodules.processes.workers import HELD, leave_signals

T_co = TypeVar("T_co", covariant=True)


class WorkerLoader(DataLoader[T_co]):
    """A DataLoader whose workers leave signals alone and send by pipe what finds no shared memory.

    Where no worker can be started, this process reads.
    """

    def __iter__(self) -> Any:
        """Start the workers, or none."""
        board = new_board(self.num_workers, self.multiprocessing_context)
        self.worker_init_fn = partial(begin_worker, board=board)
        others = active_children()
        try:
            with _held_signals():
                return super().__iter__()
        except OSError as error:
            if not self.num_workers:
                raise
            for worker in set(active_children()).difference(others):
                worker.kill()
            _forget(error)
            _say(
                f"no process can be started to read clips ({_reason(error)}): this one reads them, which is "
                "slower."
            )
            self.num_workers = 0
            return super().__iter__()


@contextmanager
def _held_signals() -> Iterator[None]:
    """Keep signals from workers that are starting: those that are spawned begin with Python's own answers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _forget(error: OSError) -> None:
    """Let go of what was half made; torch's iterator then fails to close what it never opened."""
    before, sys.unraisablehook = sys.unraisablehook, lambda failed: None
    clear_frames(error.__traceback__)
    sys.unraisablehook = before


def begin_worker(worker: int, board: Board | None) -> None:
    """Prepare a worker.

    Args:
        worker: its number.
        board: where it notes what it reads.
    """
    gc.freeze()  # garbage of the process that was copied may end what only that process has: Ray's threads
    leave_signals()
    take_place(board, worker)
    ForkingPickler.register(Tensor, _reduced)
    Queue._on_queue_feeder_error = _tell  # type: ignore[attr-defined]


def _tell(queue: Any, error: Exception, unsent: Any) -> None:
    """Send why something cannot be sent: `multiprocessing` would print it, and be waited for without end."""
    told = InputError(
        f"Clips cannot be sent from one process to another ({reason(error)}): raise the machine's limits "
        "(ulimit -n, docker's --shm-size), or read in one process (--data.workers 0)."
    )
    queue.put((unsent[0], ExceptionWrapper((InputError, told, None))))  # type: ignore[no-untyped-call]


def _reduced(tensor: Tensor) -> Any:
    """Return how a tensor is made again in another process: in shared memory, or of its bytes."""
    if tensor.device.type == "cpu" and tensor.numel():
        try:
            tensor.share_memory_()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            data = tensor.detach().contiguous().view(-1).view(torch.uint8).numpy()
            return _received, (data, tensor.dtype, tensor.shape, str(error))
    return reduce_tensor(tensor)  # type: ignore[no-untyped-call]


def _received(data: "np.ndarray[Any, Any]", dtype: torch.dtype, shape: torch.Size, why: str) -> Tensor:
    _say(
        f"shared memory is too small ({why.rpartition(': ')[2]}): clips come by pipe, which is slower. Give "
        "the machine more (docker's --shm-size), or read with fewer processes (--data.workers)."
    )
    return torch.from_numpy(data).view(dtype).view(shape)


def _reason(error: OSError) -> str:
    reason = os.strerror(error.errno or 0)
    return f"/dev/shm: {reason}" if error.errno in (errno.ENOSPC, errno.ENOENT, errno.ENOSYS) else reason


@cache
def _say(note: str) -> None:
    print(f"note: {note}", file=sys.stderr, flush=True)
