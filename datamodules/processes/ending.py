"""An end from outside: Ctrl-C, SIGTERM and SIGHUP, at any moment of any command.

The first signal raises `Ended` where the process stands, so that everything closes what it has open; within a
step of training it waits for the step. The second signal ends at once. A thread hears signals as well, for
the main one may be waiting for another process in a call that Python cannot interrupt.
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType

from datamodules.processes.workers import leave_signals

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

GRACE = 20.0
"""Seconds in which everything must have been closed: SLURM and Kubernetes kill after 30."""

AGAIN = 0.25
"""Seconds within which the same signal counts once: `timeout` and launchers send it twice."""


class Ended(BaseException):
    """A signal ends the command; no `Exception`, so that nothing which tolerates failures tolerates it.

    Args:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Ending:
    """How this process ends when a signal tells it to.

    Attributes:
        signum: the signal that came first; None: none has.
        patient: whether the signal waits until somebody asks for it.
        children: processes of the same run, which are told as well.
        whole: says what is kept.
        goes_on: says what to type next.
    """

    def __init__(self) -> None:
        self._owner: int | None = None
        self._begin("")

    def _begin(self, goes_on: str) -> None:
        self.signum: int | None = None
        self.patient = False
        self.children: list[subprocess.Popen[bytes]] = []
        self.whole: Callable[[], str] = lambda: "nothing half written is left"
        self.goes_on: Callable[[], str] = lambda: goes_on
        self.silent = False
        self._told = False
        self._lost = False  # whether `Ended` was raised where Python can only pass over it
        self._repeated = 0

    @contextmanager
    def heard(self, goes_on: str) -> Iterator[None]:
        """Answer signals while a command runs; those that were ignored before stay so, as `nohup` wants it.

        Args:
            goes_on: what to type to do the same again.
        """
        self._begin(goes_on)
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.getsignal(one) for one in SIGNALS}
        self._answered = [one for one in SIGNALS if before[one] != signal.SIG_IGN]
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        awake = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        unraisable, sys.unraisablehook = sys.unraisablehook, self._pass_over
        self._unraisable = unraisable
        self._owner = os.getpid()
        self.take_over()
        threading.Thread(target=self._listen, args=(reading,), daemon=True).start()
        try:
            yield
        finally:
            self._owner = None
            sys.unraisablehook = unraisable
            signal.set_wakeup_fd(awake)
            os.close(writing)
            for one in self._answered:
                signal.signal(one, before[one])

    def take_over(self) -> None:
        """Put these answers in the place of those that Lightning gives while a Trainer runs."""
        if self._owner == os.getpid():
            for one in self._answered:
                signal.signal(one, self._meet)

    def _meet(self, signum: int, frame: FrameType | None) -> None:
        first = self.signum is None
        if first or self._lost:  # the thread answers the second
            self.signum, self._lost = signum, False
            if not self.patient:
                raise Ended(signum)

    def _pass_over(self, error: "sys.UnraisableHookArgs") -> None:
        """Say nothing of what fails on the way to the end; where that is `Ended`, raise it once more."""
        if self.signum is None:
            self._unraisable(error)
        elif error.exc_type is Ended:
            self._lost = True

    def _listen(self, reading: int) -> None:
        first, deadline = None, inf
        while True:
            if first is not None and self.patient:
                deadline = time.monotonic() + GRACE
            elif time.monotonic() > deadline:
                self._end_now(self.signum or signal.SIGTERM)
            if self._lost and self.signum is not None and self._owner is not None:
                self._repeated += 1
                os.kill(os.getpid(), self.signum)
            if not select.select([reading], [], [], None if first is None else 0.1)[0]:
                continue
            heard = os.read(reading, 1)
            if not heard:
                os.close(reading)
                return
            if heard[0] not in SIGNALS:
                continue
            if self._repeated:
                self._repeated -= 1
                continue
            if first is None:
                first = time.monotonic()
                deadline = first + GRACE
                self.hand_on(heard[0])
            elif time.monotonic() > first + AGAIN:
                self.hand_on(heard[0])
                self._end_now(heard[0])

    def hand_on(self, signum: int) -> None:
        """Send a signal to the other processes of the run."""
        for child in self.children:
            with suppress(OSError):
                child.send_signal(signum)

    def _end_now(self, signum: int) -> None:
        """End without closing anything: what is written whole stays whole."""
        with suppress(Exception):  # it may be half made
            self.tell(signum)
        for child in self.children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(1)
        end_descendants()
        os._exit(128 + signum)

    def tell(self, signum: int) -> None:
        """Say in one line, once, what is kept and how to go on."""
        if self._told or self.silent:
            return
        self._told = True
        name = "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name
        line = f"ended by {name}: {self.whole()}; {self.goes_on()}\n"
        with suppress(OSError):  # a thread must not wait for the lock of sys.stderr
            os.write(2, line.encode(errors="backslashreplace"))

    def close(self) -> None:
        """Wait for the other processes of the run, and end what is left below this one."""
        deadline = time.monotonic() + GRACE / 2
        for child in self.children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, deadline - time.monotonic()))
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would blame a worker
        end_descendants()


END = Ending()
"""Of this process."""


def end_descendants() -> None:
    """Kill every process below this one but Python's own, which cleans up behind spawned workers."""
    below = _parents()
    below.pop(resource_tracker._resource_tracker._pid, None)  # type: ignore[attr-defined]
    found = [os.getpid()]
    for parent in found:
        found += [pid for pid, own in below.items() if own == parent]
    for pid in found[1:]:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _parents() -> dict[int, int]:
    """Return the parent of each process, where the system tells (/proc)."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            # Behind the name, which stands in parentheses and may hold anything: the state, the parent.
            _, _, rest = stat.read_text(errors="replace").rpartition(")")
            parents[int(stat.parent.name)] = int(rest.split()[1])
    return parents


def _in_child() -> None:
    if END._owner is not None:
        END._owner = None
        leave_signals()


os.register_at_fork(after_in_child=_in_child)
