"""Pictures of pairs for TensorBoard: what the model was shown, what it should have said, and what it said."""

from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from datamodules.batches import PairBatch
from datamodules.errors import InputError
from datamodules.levels import LEVELS, hard_levels
from vqa_lightning.module import RankingModule

_CAPTION = 16  # pixels of the line above each pair
_GAP = 6


class PairGallery(Callback):
    """Draws the first pairs of the select split after each validation.

    Each pair is one row: all frames of the first clip, then all of the second, under a line with the
    simulator, both severities, the given level and the predicted one. Wrong ones are marked.

    Args:
        pairs: how many.
        side: height of a frame in the picture, in pixels.
    """

    def __init__(self, pairs: int = 8, side: int = 96) -> None:
        if pairs < 1 or side < 16:
            raise InputError(
                f"PairGallery has pairs {pairs} and side {side}: give at least 1 and at least 16."
            )
        self.pairs = pairs
        self.side = side

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draws the first batch."""
        if batch_idx or trainer.sanity_checking or not isinstance(pl_module, RankingModule):
            return
        with torch.no_grad():  # on every process, for a sharded model computes on all or on none
            _, predicted = pl_module.answers(batch, pl_module.judge(batch.sides()))[pl_module.score_by]
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                names = list(trainer.datamodule.simulators)  # type: ignore[attr-defined]
                picture = self.draw(batch, predicted, names)
                logger.experiment.add_image("pairs/select", picture, trainer.global_step, dataformats="HWC")

    def draw(self, batch: PairBatch, predicted: Tensor, simulators: list[str]) -> np.ndarray[Any, Any]:
        """The picture (H, W, 3) uint8 of the batch's first pairs, of which levels (B, 5) are predicted."""
        rows = []
        sides = batch.sides()
        for pair in range(min(self.pairs, len(batch.row))):
            first, second = (_described(batch, side, pair, simulators) for side in (0, 1))
            given, said = (LEVELS[int(hard_levels(levels[pair]))] for levels in (batch.levels, predicted))
            verdict = "" if given == said else "  WRONG" if wrong_side(given, said) else "  (beside it)"
            caption = f"{first} | {second}:  second is {given}, predicted {said}{verdict}"
            rows.append(self._row((sides[pair], sides[len(batch.row) + pair]), caption))
        return np.concatenate(rows)

    def _row(self, sides: tuple[Tensor, Tensor], caption: str) -> np.ndarray[Any, Any]:
        shown = [transforms.resize(clip.cpu(), [self.side, self.side], antialias=True) for clip in sides]
        strips = [
            torch.cat(list(clip), dim=-1).mul(255).round().byte().permute(1, 2, 0).numpy() for clip in shown
        ]
        gap = np.full((self.side, _GAP, 3), 255, dtype=np.uint8)
        strip = np.concatenate([strips[0], gap, strips[1]], axis=1)
        header = Image.new("RGB", (strip.shape[1], _CAPTION), "white")
        ImageDraw.Draw(header).text((2, 2), caption, fill="black")
        return np.concatenate([np.asarray(header), strip])


def _described(batch: PairBatch, side: int, pair: int, simulators: list[str]) -> str:
    """What was done to one side, such as `gaussian_blur 2 + h264 1`."""
    applied = zip(batch.simulators[side, pair].tolist(), batch.severities[side, pair].tolist(), strict=True)
    return " + ".join(f"{simulators[which]} {level}" for which, level in applied if level) or "source"


def wrong_side(given: str, said: str) -> bool:
    """Whether a level was told on the wrong side of similar."""
    middle = LEVELS.index("similar")
    return (LEVELS.index(given) - middle) * (LEVELS.index(said) - middle) < 0
