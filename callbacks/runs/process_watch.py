"""What the processes of one run do when one of them dies: all end, within seconds, with one sentence.

Each process looks twice a second, also while it annotates and waits for no other. Lightning's own watch looks
from the first process only and kills without a word on what to do; without the first process the others would
go on for hours, until they next meet.
"""

import os
import signal
import subprocess
import sys
from threading import Event, Thread

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from datamodules.errors import InputError
from datamodules.processes import END, Ended
from datamodules.processes.ending import SIGNALS

LAUNCHER = "VQA_LIGHTNING_LAUNCHER"
"""Environment variable: the process id of the process by which Lightning launched this one."""

SECONDS = 0.5
"""Time between two looks."""

TOLD = 2
"""Exit code of a process that has said what was wrong."""


class ProcessWatch(Callback):
    """Ends this process when another one of its run has died.

    It watches processes that Lightning launches: torchrun, SLURM and MPI watch their own.
    """

    def __init__(self) -> None:
        self._ended = Event()
        self._children: list[subprocess.Popen[bytes]] = []
        self._parent: int | None = None
        if "LOCAL_RANK" not in os.environ:
            os.environ[LAUNCHER] = str(os.getpid())
        elif LAUNCHER in os.environ:
            self._parent = int(os.environ[LAUNCHER])
            Thread(target=self._watch, daemon=True).start()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the launched processes over from Lightning's own watch."""
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher) and launcher.procs:
            self._children = END.children = [*launcher.procs]
            launcher.procs.clear()  # the list that Lightning looks at
            launcher.procs = self._children  # for the signals that it hands on
            Thread(target=self._watch, daemon=True).start()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let the watch tell if another process died; otherwise end the others."""
        if isinstance(exception, Ended) or END.signum is not None:
            self._ended.set()  # all were told, and each closes what it has open
            return
        if trainer.world_size > 1 and not isinstance(exception, InputError):
            self._ended.wait(4 * SECONDS)  # what waits for a dead process fails sooner than the watch looks
        self._end_children()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop watching before any process ends as it should."""
        self._ended.set()
        trainer.strategy.barrier()

    def _watch(self) -> None:
        while not self._ended.wait(SECONDS):
            if self._parent not in (None, os.getppid()):
                died = "the first process of the run died"
                self._end(died if os.environ["LOCAL_RANK"] == "1" else "", 1)
            for rank, child in enumerate(self._children, start=1):
                if (code := child.poll()) and END.signum is None:
                    if code - 128 in SIGNALS:
                        os.kill(os.getpid(), code - 128)  # what ended one process ends all
                        return
                    died = f"process {rank} of the run {_described(code)}"
                    self._end("" if code == TOLD else died, TOLD if code == TOLD else 1)

    def _end(self, died: str, code: int) -> None:
        if died:
            remedy = "look for the reason (memory, a message above), and go on with --ckpt_path last."
            print(f"error: {died}: {remedy}", file=sys.stderr, flush=True)
        self._end_children()
        os._exit(code)  # the main thread may be waiting for a process that will never answer

    def _end_children(self) -> None:
        self._ended.set()
        for child in self._children:
            child.kill()


def _described(code: int) -> str:
    return f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
