"""A run that is killed in the middle of an epoch, and goes on as if it had not been."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules.corpus import Splits
from datamodules.labels import Consensus
from datamodules.pairs import PairCounts
from datamodules.round_data import RoundDataModule
from datamodules.video import Sampling
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMMConfig, TrainedParts
from vqa_lightning.scoring import Scoring
from vqa_lightning.training import RankingModule

pytestmark = pytest.mark.usefixtures("own_cache")

TINY = LMMConfig(embedded=EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=1))
BATCHES = 6


class Rounds(Callback):
    """Begins the only round, and writes down what is trained on and which epochs come to their end."""

    def __init__(self) -> None:
        self.met: list[tuple[int, list[int], float]] = []
        self.ended: list[int] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        ids = tuple(video.video_id for video in data.split("train"))
        data.begin_round(0, Consensus(ids, np.arange(len(ids), dtype=float), np.ones(len(ids))))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.met.append((batch_idx, batch.row.tolist(), float(outputs["loss"])))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.ended.append(trainer.current_epoch)


def run(
    corpus: Path, folder: Path, sampling: Sampling, workers: int, checkpoint: Path | None = None
) -> tuple[dict[str, torch.Tensor], Rounds]:
    """Two epochs with a checkpoint after every other step; the last weights and what was met."""
    torch.manual_seed(0 if checkpoint is None else 1)
    data = RoundDataModule(
        str(corpus),
        batch_size=6,
        counts=PairCounts(synthetic=20, teacher=20, evaluation=7),
        simulators=["gaussian_blur", "gaussian_noise", "jitter"],
        splits=Splits(duplicates=False),
        workers=workers,
    )
    trained = TrainedParts("lora", dropout=0.3, tower=True)
    module = RankingModule(lmm=TINY, sampling=sampling, trained=trained, scoring=Scoring(draws=2))
    module.hparams.clear()  # objects here, plain values from the command line: only those load
    rounds = Rounds()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[rounds, ModelCheckpoint(folder, "{step}", every_n_train_steps=2, save_top_k=-1)],
    )
    trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    return {name: value.clone() for name, value in module.state_dict().items()}, rounds


# In the first and in the second epoch, and after the last batch of either, before the epoch ends.
@pytest.mark.parametrize(
    ("window", "workers", "steps"), [(40, 0, (4, 6, 8, 12)), (40, 2, (4, 8)), (None, 0, (8,))]
)
def test_goes_on_with_the_next_batch_and_ends_at_the_same_weights(
    mixed_corpus: Path, tmp_path: Path, window: int | None, workers: int, steps: tuple[int, ...]
) -> None:
    sampling = Sampling(frames=2, window=window)
    weights, whole = run(mixed_corpus, tmp_path / "whole", sampling, workers)
    assert [place for place, _, _ in whole.met] == [*range(BATCHES), *range(BATCHES)]
    for step in steps:
        saved = tmp_path / "whole" / f"step={step}.ckpt"
        resumed, rest = run(mixed_corpus, tmp_path / f"from-{step}", sampling, workers, saved)
        assert rest.met == whole.met[step:]
        assert rest.ended == ([0, 1] if step <= BATCHES else [1])
        assert resumed.keys() == weights.keys()
        assert all(torch.equal(resumed[name], weights[name]) for name in weights)
