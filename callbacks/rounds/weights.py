"""Weights and schedule between rounds: what a round begins with, and what remains of one that is rejected."""

from pathlib import Path

from lightning.pytorch import Trainer

from datamodules.round_data import RoundDataModule
from vqa_lightning.checkpoints.resumable import save_learnt
from vqa_lightning.training import RankingModule
from vqa_lightning.training.schedule import Schedule, steps_of_epoch

FIRST = "weights/first.ckpt"
"""In the run folder: what each round restarts from."""


def kept_weights(folder: Path, fingerprint: str) -> Path:
    """Where the run keeps the weights of a student that was kept."""
    return folder / "weights" / f"kept-{fingerprint}.ckpt"


def plan_schedule(
    trainer: Trainer, data: RoundDataModule, epochs_per_round: int, first_step: int, *, own: bool
) -> Schedule:
    """The schedule of the present round, or of the whole run; the Trainer takes all rounds to be as long.

    Args:
        trainer: with a number of epochs.
        data: in its present round.
        epochs_per_round: epochs on one pair table.
        first_step: of the run, at which the schedule begins.
        own: whether each round has a schedule of its own.
    """
    assert trainer.max_epochs is not None
    rounds = max(trainer.max_epochs // epochs_per_round, data.round + 1)
    sizes = data.round_sizes(rounds)
    ahead = [sizes[data.round]] if own else sizes
    steps = sum(steps_of_epoch(trainer, data.batch_size, size) for size in ahead) * epochs_per_round
    if trainer.max_steps != -1:
        steps = min(steps, trainer.max_steps - first_step)
    return Schedule(first_step, max(1, steps))


def keep_weights(trainer: Trainer, module: RankingModule, file: Path, before: Path | None) -> None:
    """Remembers the weights of a student that is kept.

    Args:
        trainer: of all processes.
        module: the student.
        file: written whole.
        before: those of the last that was kept, which stay: the checkpoint on the disk is of its round still.
    """
    save_learnt(module, file)
    if trainer.is_global_zero:
        for old in {*file.parent.glob("kept-*.ckpt")} - {file, before}:
            old.unlink()
    trainer.strategy.barrier()


def forget_steps(trainer: Trainer) -> None:
    """Makes the optimiser anew, without its memory of the steps of a round that was rejected.

    To be called when the next round begins: a sharded strategy that saves an optimiser without memory lets
    torch give it one, in which a step has been counted.

    Args:
        trainer: whose schedule goes on.
    """
    schedules = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]
    trainer.strategy.setup_optimizers(trainer)
    for config, state in zip(trainer.lr_scheduler_configs, schedules, strict=True):
        config.scheduler.load_state_dict(state)
        for group, rate in zip(config.scheduler.optimizer.param_groups, state["_last_lr"], strict=True):
            group["lr"] = rate
