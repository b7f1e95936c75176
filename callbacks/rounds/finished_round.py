"""What a round has found, handed to every callback that draws it or keeps it.

`SelfImprovement` calls `on_round_end` of its listeners once a round, on every process, when the student has
annotated and been judged and before the next round begins.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from callbacks.rounds.judging import JudgedPairs
from callbacks.rounds.labels import StudentScores
from callbacks.rounds.rows import RoundRow
from callbacks.rounds.scores import Scores
from datamodules.labels import Consensus
from vqa_lightning.training import RankingModule


@dataclass(frozen=True)
class FinishedRound:
    """One round's outcome.

    Attributes:
        row: its row of `rounds.csv`.
        pairs: the pair table that it trained on.
        answers: (len(pairs), 3) float32 on the CPU, columns `datamodules.pairs.ANSWERS`: what the student
            said of each pair while it trained on it; nan where a pair was not met.
        student: what the round's student says of the sources of all splits and of the ladders of the select
            and report splits.
        scores: annotator -> its scores of the report split's videos and ladders: `student`, each teacher,
            `laplacian`, `ensemble`.
        before: what labelled this round's pairs of different videos.
        after: what labels those of the next round.
        judged: pairs of the report split.
    """

    row: RoundRow
    pairs: pa.Table
    answers: Tensor
    student: StudentScores
    scores: Mapping[str, Scores]
    before: Consensus
    after: Consensus
    judged: JudgedPairs


class RoundListener(Callback):
    """A callback that is told of every finished round."""

    def on_round_end(self, trainer: Trainer, pl_module: RankingModule, finished: FinishedRound) -> None:
        """Take notice of a round, on every process, under `torch.no_grad`, with the module in eval mode."""


def tell_listeners(trainer: Trainer, module: RankingModule, finished: FinishedRound) -> None:
    """Tell every RoundListener among the trainer's callbacks of a finished round."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, RoundListener):
            callback.on_round_end(trainer, module, finished)
