"""Weights and schedule between rounds: what a round begins with, and what remains of a rejected round."""

from pathlib import Path

from lightning.pytorch import Trainer

from callbacks.rounds.labels import StudentScores
from datamodules.round_data import RoundDataModule
from vqa_lightning.checkpoints.resumable import load_learnt, save_learnt
from vqa_lightning.training import RankingModule
from vqa_lightning.training.schedule import Schedule, steps_of_epoch

FIRST = "weights/first.ckpt"
"""In the run folder: what each round restarts from."""


def plan_schedule(
    trainer: Trainer, data: RoundDataModule, epochs_per_round: int, first_step: int, *, own: bool
) -> Schedule:
    """Return the schedule of the present round, or of the whole run.

    The Trainer itself would take all rounds to be as long as the first.

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


def keep_or_put_back(
    trainer: Trainer,
    module: RankingModule,
    folder: Path,
    kept: StudentScores | None,
    last: StudentScores | None,
) -> None:
    """Remember the weights of a student that is kept, or put back the weights of the student kept last.

    Args:
        trainer: of all processes.
        module: the student.
        folder: of the run.
        kept: the student; None: its round is rejected.
        last: the last student that was kept before; None: there was none. Its weights stay beside the new
            ones, because the checkpoint on the disk is still of its round.
    """
    before = None if last is None else _kept_weights(folder, last.fingerprint)
    if kept is not None:
        file = _kept_weights(folder, kept.fingerprint)
        save_learnt(module, file)
        if trainer.is_global_zero:
            for old in {*file.parent.glob("kept-*.ckpt")} - {file, before}:
                old.unlink()
        trainer.strategy.barrier()
    elif before is not None:
        load_learnt(module, before)
        module.anchors.forget()


def forget_steps(trainer: Trainer) -> None:
    """Make the optimiser anew, without its memory of the steps of a round that was rejected.

    Call it when the next round begins: a sharded strategy that saves an optimiser without memory lets
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


def _kept_weights(folder: Path, fingerprint: str) -> Path:
    return folder / "weights" / f"kept-{fingerprint}.ckpt"
