"""What a fit says in the terminal of 80 columns: how large the model is, how far it is, and what is next."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from lightning.pytorch.loggers import TensorBoardLogger
from lightning_utilities.core.rank_zero import rank_zero_info
from rich.progress import BarColumn, ProgressColumn
from rich.table import Column

from callbacks.rounds import SelfImprovement
from callbacks.rounds.rows import RoundRow, TeacherRow

SHORT = {"train/loss": "loss", "train/rank_accuracy": "right"}
"""Names of what is logged -> in the progress bar, where long names would be cut off."""

Metrics = dict[str, int | str | float | dict[str, float]]


class Progress(RichProgressBar):
    """Lightning's progress bar with names and numbers that fit 80 columns beside it."""

    def __init__(self) -> None:
        super().__init__(theme=RichProgressBarTheme(metrics_format=".2f"))

    def configure_columns(self, trainer: Trainer) -> list[ProgressColumn]:
        """Return Lightning's columns, of which only the bar gives way to the others."""
        columns: list[ProgressColumn] = super().configure_columns(trainer)
        for column in columns:
            if not isinstance(column, BarColumn):
                column._table_column = Column(no_wrap=True)
        return columns

    def _init_progress(self, trainer: Trainer) -> None:
        super()._init_progress(trainer)
        if self._metric_component is not None:
            self._metric_component._table_column = Column(no_wrap=True)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> Metrics:
        """Return the metrics by their short names, without the number of the run's folder."""
        found = super().get_metrics(trainer, pl_module)
        return {SHORT.get(name, name): value for name, value in found.items() if name != "v_num"}


class Terminal(Callback):
    """Says how large a model is before it is trained, and at the end how good it is and what to type next.

    It must stand behind the progress bar, which has to be gone by then.
    """

    ended = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how many parameters there are."""
        sizes = [parameter.numel() for parameter in pl_module.parameters()]
        trained = sum(parameter.numel() for parameter in pl_module.parameters() if parameter.requires_grad)
        rank_zero_info(f"a model of {_short(sum(sizes))} parameters, {_short(trained)} of them trained")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take note that the run came to its end."""
        self.ended = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Say how good the last student is, where it lies, and what can be done with it."""
        if not self.ended:
            return
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, SelfImprovement):
                # After a round that is rejected the weights of the one before are put back.
                for row in [row for row in callback.rows if row.verdict == "kept"][-1:]:
                    rank_zero_info(worth(row, callback.teachers.rows))
        written = [
            Path(callback.last_model_path or callback.best_model_path)
            for callback in trainer.checkpoint_callbacks
            if isinstance(callback, ModelCheckpoint)
        ]
        last = [path for path in written if path.name and path.stem != "best" and path.is_file()]
        if last:
            checkpoint = _typed(last[-1])
            rank_zero_info(f"the last student: {checkpoint}")
            rank_zero_info(f"next: vqa-lightning predict --ckpt_path {checkpoint} --data.videos FOLDER")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                rank_zero_info(f"      tensorboard --logdir {_typed(Path(logger.save_dir))}")


def worth(row: RoundRow, teachers: Sequence[TeacherRow]) -> str:
    """Return two lines on how good a student is beside the teachers, with intervals over contents.

    Args:
        row: of the student's round.
        teachers: of the run.
    """
    if row.truth:
        name, (value, low, high) = "with the hidden truth", row.truth["student"]
        best = max((one.teacher for one in teachers), key=lambda teacher: row.truth[teacher][0])
        other = row.truth[best][0]
        more = row.truth["over_best"]
        above = f", the student above it by {more[0]:.2f} [{more[1]:.2f}, {more[2]:.2f}]"
    else:
        name, (value, low, high) = "with known orders (Kendall's tau)", row.probe
        judged = [one for one in teachers if one.judged_by == "order"]
        if not judged:
            return f"the last student agrees {name} by {value:.2f} [{low:.2f}, {high:.2f}]"
        one = max(judged, key=lambda teacher: teacher.agreement)
        best, other, above = one.teacher, one.agreement, f" [{one.low:.2f}, {one.high:.2f}]"
    own = f"the last student agrees {name} by {value:.2f} [{low:.2f}, {high:.2f}]"
    return f"{own}\nthe best teacher, {best}, by {other:.2f}{above}"


def _short(count: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def _typed(path: Path) -> str:
    """Return a path as one would type it in the present folder."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def with_terminal(settings: Mapping[str, Any]) -> list[Callback]:
    """Return the callbacks of a Trainer's settings with what talks in the terminal.

    Args:
        settings: of the Trainer, its callbacks made.
    """
    given = settings["callbacks"] or []
    callbacks = list(given) if isinstance(given, list) else [given]
    wanted = settings["enable_progress_bar"] is not False
    if wanted and not any(isinstance(callback, ProgressBar) for callback in callbacks):
        callbacks.append(Progress())
    return [*callbacks, Terminal()]
