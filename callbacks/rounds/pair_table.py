"""A round's pair table: drawn when the round begins, and kept in the run folder for a run that goes on."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from lightning.pytorch import Trainer
from torch import Tensor

from callbacks.rounds.labels import StudentScores, TeacherScores
from callbacks.rounds.requests import ids
from datamodules.files import written_whole
from datamodules.labels import Consensus, Versions
from datamodules.pairs import read_pairs
from datamodules.round_data import RoundDataModule


def begin_first_round(data: RoundDataModule, consensus: Consensus) -> None:
    """Draw the pairs of round 0, labelled by the teachers."""
    data.begin_round(0, consensus, versions=_versions(data, consensus))


def begin_next_round(
    data: RoundDataModule,
    consensus: Consensus,
    teachers: TeacherScores,
    student: StudentScores,
    last: StudentScores | None,
    answers: Tensor | None,
) -> None:
    """Draw the next round's pairs; gMAD sets the last student that was kept against all others.

    Args:
        data: in the round that ends.
        consensus: who labels pairs of different videos.
        teachers: of the run.
        student: of the round that ends.
        last: the last student that was kept before; None: there was none.
        answers: what the student said of the round's pairs; None: its round is rejected.
    """
    earlier = None if last is None else last.consensus
    kept = answers is not None
    data.begin_round(
        data.round + 1,
        consensus,
        versions=_versions(data, consensus),
        student=student.consensus if kept else earlier,
        defenders=[*teachers.each, *([earlier] if earlier is not None and kept else [])],
        answers=answers,
        lost=set(ids(data, "train")) - set(student.consensus.video_ids),
    )


def _versions(data: RoundDataModule, consensus: Consensus) -> Versions | None:
    if data.clean is None:
        return None
    return data.clean.read(data.labels.read(round=0), consensus if data.counts.teacher else None)


def save_pairs(trainer: Trainer, data: RoundDataModule, folder: Path) -> None:
    """Write the pairs of the present round to the run folder; return when it is done."""
    if trainer.is_global_zero:
        with written_whole(_file(folder, data.round)) as hidden:
            pq.write_table(data.round_pairs, hidden)
    trainer.strategy.barrier()


def saved_pairs(data: RoundDataModule, folder: Path, round: int) -> pa.Table:
    """Read the pairs of a round that has begun from the run folder."""
    ladder = {name: len(operator.levels) for name, operator in data.operators.items()}
    return read_pairs(_file(folder, round), ladder)


def _file(folder: Path, round: int) -> Path:
    return folder / "pairs" / f"round-{round}.parquet"
