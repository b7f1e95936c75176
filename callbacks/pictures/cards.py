"""Pictures for TensorBoard's cards.

A card shows a picture 350 pixels wide and leaves out pixels of a wider one. Pictures are therefore
drawn twice as wide, in letters and lines that survive that, and are sharp when they are enlarged.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

WIDTH = 3.5
"""Inches of a figure, at DOTS_PER_INCH: 700 pixels."""

DOTS_PER_INCH = 200

# Okabe and Ito's colours and ColorBrewer's PuOr, which colour-blind readers tell apart too.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#555555"

LEVEL_COLOURS = ("#B35806", "#F1A340", "#B8B8B8", "#998EC3", "#542788")
"""Inferior first."""


CENTRED: dict[str, Any] = {"ha": "center", "va": "center"}
"""Alignment of a text whose place is its middle."""


def card_style() -> AbstractContextManager[None]:
    """Set letters and lines for figures of WIDTH that are made within."""
    style: AbstractContextManager[None] = mpl.rc_context(
        {
            "figure.dpi": DOTS_PER_INCH,
            "font.size": 9,
            "axes.titlesize": 9,
            "figure.titlesize": 10,
            "legend.fontsize": 8,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "lines.linewidth": 1.5,
        }
    )
    return style


def draws(trainer: Trainer) -> bool:
    """Tell whether any logger is TensorBoard's: the same answer on every process."""
    return any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers)


def writers(trainer: Trainer) -> list[SummaryWriter]:
    """Return TensorBoard's writers, on the first process only."""
    loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    return [logger.experiment for logger in loggers] if trainer.is_global_zero else []


def add_summaries(writer: SummaryWriter, summaries: Iterable[Any], step: int = 0) -> None:
    """Write what `SummaryWriter` has no method for: messages of tensorboard's `summary_pb2`."""
    for summary in summaries:
        writer._get_file_writer().add_summary(summary, step)  # type: ignore[no-untyped-call]
