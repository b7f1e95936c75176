"""The settings of a run beside its figures, in TensorBoard's HPARAMS tab.

Both lie in a run of their own, the subfolder FOLDER. TensorBoard takes every scalar of a run that names
settings for a metric. It shows the settings in which runs differ first, but only where no run lists
which settings there are.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from callbacks.pictures.cards import add_summaries, writers
from callbacks.rounds import FinishedRound, RoundListener
from vqa_lightning.training import RankingModule

FOLDER = "figures"

FIGURES = (
    *("rank_accuracy", "level_accuracy", "probe"),
    *("severity_srcc_student", "truth_srcc_student", "mos_srcc_student"),
)
"""Columns of `rounds.csv` that are shown beside the settings; at first the tab shows five."""


class RunSettings(RoundListener):
    """Shows the flattened configuration of the command line beside FIGURES of the last round, `final/NAME`.

    Lightning's own record of settings, the model's alone beside a metric of no meaning, is switched off;
    loggers other than TensorBoard's are given the same flattened configuration.
    """

    def __init__(self) -> None:
        self._settings: dict[str, float | str] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the configuration, where there is one."""
        configs = [one for one in trainer.callbacks if isinstance(one, SaveConfigCallback)]  # type: ignore[attr-defined]
        if stage != "fit" or not configs:
            return
        # All but the files that it was read from.
        config = {name: value for name, value in configs[0].config.as_dict().items() if name != "config"}
        self._settings = dict(flat("", config))
        trainer.enable_autolog_hparams = False
        for logger in trainer.loggers:
            if not isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(self._settings)

    def on_round_end(self, trainer: Trainer, pl_module: RankingModule, finished: FinishedRound) -> None:
        """Add the round's figures; the settings are written again, unchanged."""
        if not self._settings:
            return
        columns = finished.row.columns()
        figures = {name: columns[name] for name in FIGURES if isinstance(columns.get(name), float)}
        for writer in writers(trainer):
            with SummaryWriter(f"{writer.log_dir}/{FOLDER}") as own:
                _, begun, ended = hparams(self._settings, {})  # type: ignore[no-untyped-call]
                add_summaries(own, (begun, ended))
                for name, value in figures.items():
                    own.add_scalar(f"final/{name}", value, finished.row.round)


def flat(name: str, value: Any) -> Iterator[tuple[str, float | str]]:
    """Yield names and values of a nested configuration; null values are left out.

    A class is the value of the setting that takes it, and its arguments lie under that setting. In a list of
    classes each lies under its own name, and a second class of the same name under that name and 2.

    Example:
        >>> dict(flat("", {"data": {"batch_size": 4, "shares": [0.5, 0.5], "pairs": None}}))
        {'data.batch_size': 4, 'data.shares': '0.5, 0.5'}
    """
    below = f"{name}." if name else ""
    if isinstance(value, Mapping):
        if "class_path" in value:
            yield name, value["class_path"].rpartition(".")[2]
            value = value.get("init_args", {})
        for key, inner in value.items():
            yield from flat(below + key, inner)
    elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        names = [one["class_path"].rpartition(".")[2] for one in value]
        for place, (own, one) in enumerate(zip(names, value, strict=True)):
            again = names[:place].count(own)
            yield from flat(f"{below}{own}{again + 1 if again else ''}", one.get("init_args", {}))
    elif isinstance(value, bool | list | tuple):
        # As text: the tab would show true as 1, and knows no lists.
        yield name, str(value).lower() if isinstance(value, bool) else ", ".join(map(str, value))
    elif value is not None:
        yield name, value if isinstance(value, int | float) else str(value)
