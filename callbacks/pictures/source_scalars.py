"""Training figures by the source of the label: a gain on one source may hide a loss on another."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.pairs import ANSWERS, SOURCES


class SourceScalars(Callback):
    """Logs `train/loss/SOURCE` and `train/rank_accuracy/SOURCE`, of this process's share of the pairs.

    Each is the mean over the pairs met since it was logged last, every `trainer.log_every_n_steps` steps: the
    sums stay on the device until then, because reading them makes the host wait. Losses that are not finite
    are left out, as their steps are.
    """

    def __init__(self) -> None:
        self._sums = torch.empty(0)
        self._logged = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with empty sums."""
        self._logged = trainer.global_step
        self._sums = torch.zeros(len(SOURCES), 4, device=pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add a batch, and log the means when it is time."""
        answers = outputs["answers"]
        loss = answers[:, ANSWERS.index("loss")]
        advantage = answers[:, ANSWERS.index("advantage")]
        found, ranked = loss.isfinite(), ~advantage.isnan()
        right = torch.where(ranked, (1 + advantage.sign()) / 2, 0.0)
        values = torch.stack([torch.where(found, loss, 0.0), found, right, ranked], dim=1)
        self._sums.index_add_(0, batch.source, values)
        if trainer.global_step - self._logged < trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        self._logged = trainer.global_step
        figures = {}
        for source, (cost, pairs, won, order) in zip(SOURCES, self._sums.tolist(), strict=True):
            if pairs:
                figures[f"train/loss/{source}"] = cost / pairs
            if order:
                figures[f"train/rank_accuracy/{source}"] = won / order
        self._sums.zero_()
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.global_step - 1)  # Lightning's own begin with step 0
