"""What the student said of a round's pairs while it trained on them.

The next round's hard pairs are drawn by it. Each process knows of the pairs that it was shown, and of the
videos that it could not read.
"""

from math import nan

import torch
from lightning.pytorch import Trainer
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor

from datamodules.batches import PairBatch
from datamodules.devices import for_device
from datamodules.pairs import ANSWERS
from datamodules.pairs.hard.recorded import merged_answers
from datamodules.pairs.lost import told_of_lost_pairs
from datamodules.round_data import RoundDataModule


class RoundAnswers:
    """The answers of this process in the present round.

    Attributes:
        said: (pairs, 3), columns ANSWERS, on the device; nan where a pair was not met.
        lost: ids of videos that could not be read.
    """

    def __init__(self) -> None:
        self.said = torch.empty(0, len(ANSWERS))
        self.lost: set[str] = set()

    def begin(self, pairs: int, device: torch.device) -> None:
        """Forget the round before."""
        self.said = torch.full((pairs, len(ANSWERS)), nan, device=device)
        self.lost = set()

    def add(self, batch: PairBatch, said: Tensor) -> None:
        """Keep what was said of a batch, on the device: reading it would make the host wait in every step."""
        self.said[for_device(batch.row, said.device)] = said
        self.lost.update(batch.lost)

    def take_up(self, every: Tensor, lost: list[str], trainer: Trainer) -> None:
        """Go on with what `of_every_process` and `lost_by_any` gave, also to another number of processes."""
        same = len(every) == trainer.world_size
        self.said = every[trainer.global_rank] if same else merged_answers(every)
        self.lost = set(lost)

    def lost_by_any(self, trainer: Trainer) -> list[str]:
        """Return the ids of videos that any process could not read."""
        ranks = range(trainer.world_size)
        return sorted({
            name for rank in ranks for name in trainer.strategy.broadcast(sorted(self.lost), src=rank)
        })  # fmt: skip

    def merged(self, trainer: Trainer, data: RoundDataModule) -> Tensor:
        """Return the answers of all processes together, on the CPU; warn of pairs that taught nothing."""
        answers = merged_answers(of_every_process(trainer, self.said))
        videos = {video.video_id: video for video in (*data.split("train"), *data.sources)}
        for sentence in told_of_lost_pairs(data.round_pairs, answers, self.lost_by_any(trainer), videos):
            rank_zero_warn(f"round {data.round}: {sentence}")
        return answers


def of_every_process(trainer: Trainer, own: Tensor) -> Tensor:
    """Return a tensor of each process, stacked (processes, ...), on the CPU."""
    return trainer.strategy.all_gather(own).reshape(-1, *own.shape).cpu()
