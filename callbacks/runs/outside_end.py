"""What a run keeps when it is ended from outside, in whatever phase.

What an epoch has taught is written after its last step, for validation and annotation may last hours and can
then be ended, or killed, at any moment. Within an epoch it is written after the step in which a signal comes,
by all processes together.
"""

import shlex
import signal
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.processes import END, Ended
from vqa_lightning.checkpoints.resuming import newest_run

LAST = Path("checkpoints", "last.ckpt")


class OutsideEnd(Callback):
    """Writes `checkpoints/last.ckpt` after an epoch's last step, and when a signal ends the training.

    It must stand behind the callbacks that take note of a step.

    Args:
        runs: folder of the runs of this name, among which `--ckpt_path last` looks.
        line: what was typed, without `--ckpt_path`; nothing: it was typed where this process cannot see it.
    """

    def __init__(self, runs: Path, line: str) -> None:
        self.runs, self.line = runs, line
        self.saved = ""

    def begin(self, trainer: Trainer) -> None:
        """Say from now on what is kept and how to go on; called before anything is annotated."""
        self.folder = Path(trainer.log_dir or ".")
        self.file = self.folder / LAST
        self.keeps = bool(trainer.checkpoint_callbacks) and not trainer.fast_dev_run  # type: ignore[attr-defined]
        END.whole, END.goes_on = self._whole, self._goes_on

    def _whole(self) -> str:
        kept = "every label that was given is kept"
        if self.saved or self.file.is_file():
            return f"{self.file} is whole{self.saved}, and {kept}"
        return f"{kept} and need not be given again"

    def _goes_on(self) -> str:
        checkpoint = ""
        of_this_name = self.folder.parent.resolve() == self.runs.resolve()
        if of_this_name and newest_run(self.runs).name == self.folder.name:
            checkpoint = " --ckpt_path last"
        elif self.file.is_file():
            checkpoint = f" --ckpt_path {shlex.quote(str(self.file))}"
        return f"go on with: {self.line or 'the same line and'}{checkpoint}"

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Answer signals: the Trainer has just put its own answers in place."""
        END.take_over()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Answer signals."""
        END.take_over()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Answer signals."""
        END.take_over()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Answer signals."""
        END.take_over()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Answer signals."""
        END.take_over()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Let a signal wait for the step."""
        END.patient = self.keeps

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write what was learnt, after an epoch's last step or when any process was told to end.

        Raises:
            Ended: a process was told to end.
        """
        if not self.keeps:
            return
        last = trainer.is_last_batch
        if not last and (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # half a step cannot be kept
        told = END.signum is not None
        if trainer.world_size > 1:
            told = trainer.strategy.reduce_boolean_decision(told, all=False)
        if told or last:
            trainer.save_checkpoint(self.file, weights_only=False)
            self.saved = f" (epoch {trainer.current_epoch}, step {trainer.global_step})"
            END.patient = False
        if told:
            raise Ended(END.signum or signal.SIGTERM)
