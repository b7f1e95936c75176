from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, DistributedSampler

from datamodules.batches import PairBatch, VideoBatch
from datamodules.batches.buckets import BucketBatchSampler, ResumedBatchSampler
from datamodules.batches.pair_dataset import PairCollate
from datamodules.corpus import Splits
from datamodules.errors import InputError
from datamodules.labels import Consensus, Labelling
from datamodules.pairs import PairCounts
from datamodules.round_data import RoundDataModule
from datamodules.video import Sampling
from datamodules.video_data import VideoDataModule
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMMConfig
from vqa_lightning.scoring import Scoring
from vqa_lightning.training import RankingModule

pytestmark = pytest.mark.usefixtures("own_cache")

WHOLE = Sampling(frames=2, window=None)
TINY = LMMConfig(embedded=EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=1))


def connect(data: VideoDataModule, sampling: Sampling) -> None:
    """Gives the datamodule the model that it cuts clips for."""
    module = RankingModule(lmm=TINY, sampling=sampling, scoring=Scoring(draws=2))
    module.configure_model()
    data.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    data.trainer.strategy.connect(module)


def begun(
    corpus: Path, sampling: Sampling = WHOLE, workers: int = 0, smoothing: float = 0.0
) -> RoundDataModule:
    """Twenty synthetic and twenty teacher pairs in batches of six."""
    data = RoundDataModule(
        str(corpus),
        batch_size=6,
        counts=PairCounts(synthetic=20, teacher=20, evaluation=7),
        simulators=["gaussian_blur", "gaussian_noise"],
        labelling=Labelling(smoothing=smoothing),
        splits=Splits(duplicates=False),
        workers=workers,
    )
    connect(data, sampling)
    data.setup("fit")
    ids = tuple(video.video_id for video in data.split("train"))
    data.begin_round(0, Consensus(ids, np.arange(len(ids), dtype=float), np.ones(len(ids))))
    return data


class TestWholeFrames:
    def test_an_epoch_shows_the_pairs_that_it_shows_without_sorting(self, mixed_corpus: Path) -> None:
        data = begun(mixed_corpus)
        batches = list(data.train_dataloader())
        assert all(isinstance(batch, PairBatch) for batch in batches)
        assert [len(batch.row) for batch in batches] == [6] * 6
        assert sorted(torch.cat([batch.row for batch in batches]).tolist()) == list(range(36))
        assert sorted(row for batch in data.test_dataloader() for row in batch.row.tolist()) == list(range(7))

    def test_batches_hold_pairs_of_like_size(self, mixed_corpus: Path) -> None:
        def sizes(batch: PairBatch) -> int:
            return len({tuple(clip.shape) for clip in batch.sides()})

        data = begun(mixed_corpus)
        batches = list(data.train_dataloader())
        drawn = data.train_dataloader().dataset
        plain = [PairCollate(0)([drawn[6 * batch + row] for row in range(6)]) for batch in range(6)]
        assert sum(map(sizes, batches)) < sum(map(sizes, plain))

    def test_the_number_of_workers_changes_nothing(self, mixed_corpus: Path) -> None:
        here, there = (list(begun(mixed_corpus, workers=workers).train_dataloader()) for workers in (0, 2))
        for one, other in zip(here, there, strict=True):
            assert torch.equal(one.row, other.row)
            assert one.seed == other.seed
            assert all(torch.equal(a, b) for a, b in zip(one.sides(), other.sides(), strict=True))

    @pytest.mark.parametrize("window", [40, None])
    def test_two_ranks_show_the_pairs_that_one_shows(self, mixed_corpus: Path, window: int | None) -> None:
        data = begun(mixed_corpus, Sampling(frames=2, window=window))

        def shown(loader: DataLoader[Any]) -> dict[int, list[torch.Tensor]]:
            found = {}
            for batch in loader:
                after = data.on_after_batch_transfer(batch, 0)
                sides, count = after.sides(), len(after.row)
                for place, row in enumerate(after.row.tolist()):
                    found[row] = [sides[place], sides[place + count], after.levels[place]]
            return found

        def share(rank: int) -> DataLoader[Any]:
            # As Lightning makes it anew.
            loader = data.train_dataloader()
            sampler = DistributedSampler[int](loader.dataset, 2, rank, shuffle=False)
            batches = ResumedBatchSampler(sampler, 3, True)
            if isinstance(made := loader.batch_sampler, BucketBatchSampler):
                batches = BucketBatchSampler(sampler, 3, True, made.costs, made.seed)
            return DataLoader(loader.dataset, batch_sampler=batches, collate_fn=loader.collate_fn)

        whole, shared = shown(data.train_dataloader()), shown(share(0)) | shown(share(1))
        assert shared.keys() >= whole.keys()
        for row, sides in whole.items():
            assert all(torch.equal(a, b) for a, b in zip(sides, shared[row], strict=True))

    def test_batches_reach_the_model_as_pairs_of_any_size(self, mixed_corpus: Path) -> None:
        data = begun(mixed_corpus)
        assert data.trainer is not None
        module = data.trainer.lightning_module
        assert isinstance(module, RankingModule)
        batches = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
        listed = next(batch for batch in batches if isinstance(batch.clips, list))
        with torch.no_grad():
            judged = module.judge(listed.sides())
        assert judged.scores is not None
        assert judged.scores.shape == (2, 6)

    def test_prediction_reads_one_video_after_the_other(self, mixed_corpus: Path) -> None:
        data = VideoDataModule(str(mixed_corpus), batch_size=3)
        connect(data, WHOLE)
        data.setup("predict")
        batches = list(data.predict_dataloader())
        assert all(isinstance(batch, VideoBatch) for batch in batches)
        assert sorted(row for batch in batches for row in batch.rows) == list(range(9))
        for batch in batches:
            moved = data.transfer_batch_to_device(batch, torch.device("cpu"), 0)
            (video,) = (data.pending[row] for row in batch.rows)
            assert [clips.shape for clips in moved.clips] == [(2, 2, 3, video.height, video.width)]


class TestWindows:
    def test_batches_stand_in_the_order_of_the_table(self, mixed_corpus: Path) -> None:
        data = begun(mixed_corpus, Sampling(frames=2, window=40))
        batches = list(data.train_dataloader())
        assert torch.cat([batch.row for batch in batches]).tolist() == list(range(36))
        assert all(isinstance(batch.clips, torch.Tensor) for batch in batches)

    def test_the_number_of_workers_changes_nothing(self, mixed_corpus: Path) -> None:
        here, there = (
            list(begun(mixed_corpus, Sampling(frames=2, window=40), workers).train_dataloader())
            for workers in (0, 3)
        )
        for one, other in zip(here, there, strict=True):
            assert torch.equal(one.row, other.row)
            assert one.seed == other.seed
            assert torch.equal(one.clips, other.clips)


class TestLabelSmoothing:
    def test_softens_labels_from_scores_alone(self, mixed_corpus: Path) -> None:
        plain, smooth = (begun(mixed_corpus, smoothing=weight).round_pairs for weight in (0.0, 0.5))
        assert plain["first"] == smooth["first"]
        sources = plain["source"].to_pylist()
        for source, before, after in zip(
            sources, plain["levels"].to_pylist(), smooth["levels"].to_pylist(), strict=True
        ):
            assert (max(after) < max(before)) if source == "teacher" else (after == before)

    @pytest.mark.parametrize("weight", [-0.1, 1.0])
    def test_refuses_a_weight_out_of_range(self, weight: float) -> None:
        with pytest.raises(InputError, match=r"data\.labelling\.smoothing"):
            Labelling(smoothing=weight)
