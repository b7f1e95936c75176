"""What worker processes do with signals: they leave them to the process that they work for.

A terminal, `timeout`, SLURM and Kubernetes signal all processes at once. A worker that died of that would
have its main process fail, and take the blame in a traceback.
"""

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType, TracebackType

HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that wait while a worker starts."""

_terminated = False


def leave_signals() -> None:
    """Have this worker outlive signals that its main process answers; the main process ends it.

    Of SIGTERM the first is passed over: it may be everybody's. The second can only be meant for the worker.
    """
    sys.excepthook = partial(_pass_over_partings, sys.excepthook)
    signal.set_wakeup_fd(-1)  # a fork would wake the main process with its own signals
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_at_second)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)


def _pass_over_partings(
    told: Callable[..., object], kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Say nothing where the main process hung up on a thread that hands over clips: it is ending."""
    if not issubclass(kind, ConnectionError | EOFError):
        told(kind, error, trace)


def _end_at_second(signum: int, frame: FrameType | None) -> None:
    global _terminated
    if _terminated:
        os._exit(128 + signum)
    _terminated = True
