"""What a round has found, handed to every callback that draws it or keeps it.

`SelfImprovement` calls `on_round_end` of its listeners once a round, on every process, when the student has
annotated and been judged and before the next round begins.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from callbacks.rounds.report import Scores
from datamodules.labels import Consensus
from vqa_lightning.training import RankingModule


@dataclass(frozen=True)
class JudgedPairs:
    """The synthetic pairs of the report split, and what `score_by` says of them; on the CPU.

    Attributes:
        given: (n, 5) the labels.
        predicted: (n, 5) the distributions over the levels.
        difference: (n,) how far the second side is preferred, above 0 for yes.
        order: (n,) 1 where the second side should look better, -1 where the first should, 0 if similar.
        simulator: (n,) index into the datamodule's simulators.
    """

    given: Tensor
    predicted: Tensor
    difference: Tensor
    order: Tensor
    simulator: Tensor


@dataclass(frozen=True)
class FinishedRound:
    """One round's outcome.

    Attributes:
        number: of the round, from 0.
        row: its row of `rounds.csv`.
        pairs: the pair table that it trained on.
        answers: (len(pairs), 3) float32 on the CPU, columns `datamodules.pairs.hard.ANSWERS`: what the
            student said of each pair while it trained on it; nan where a pair was not met.
        table: rows of `LabelStore.read` of the round's student, with calibrated standard errors: the sources
            of all splits, the ladders of the select and report splits.
        scores: annotator -> its scores of the report split's videos and ladders: `student`, each teacher,
            `ensemble`, `laplacian`.
        before: what labelled this round's pairs of different videos.
        after: what labels those of the next round.
        judged: pairs of the report split.
    """

    number: int
    row: Mapping[str, Any]
    pairs: pa.Table
    answers: Tensor
    table: pa.Table
    scores: Mapping[str, Scores]
    before: Consensus
    after: Consensus
    judged: JudgedPairs


class RoundListener(Callback):
    """A callback that is told of every finished round."""

    def on_round_end(self, trainer: Trainer, pl_module: RankingModule, finished: FinishedRound) -> None:
        """Called on every process, under `torch.no_grad`, with the module in eval mode."""
