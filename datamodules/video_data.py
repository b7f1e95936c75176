"""Any videos, for prediction: every file becomes one row, readable or not."""

from collections.abc import Callable, Set
from pathlib import Path
from typing import cast

import pyarrow as pa
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from datamodules.annotation import ClipDataset, ClipItem, Request
from datamodules.batches import VideoBatch, collate_videos
from datamodules.corpus import build_corpus
from datamodules.decoding import Sampling, Video
from datamodules.errors import InputError


class VideoDataModule(LightningDataModule):
    """Videos to be scored.

    Args:
        videos: folder, file, glob, or manifest (.csv or .parquet with a `path` column).
        batch_size: videos (for prediction) or pairs a step.
        workers: processes that read clips; 0 reads in the main process.
    """

    corpus: pa.Table
    rows: list[Video]
    """All rows of the corpus, unreadable videos included, in input order."""
    pending: list[Video]
    """The rows that prediction batches point into."""

    def __init__(self, videos: str | None = None, batch_size: int = 8, workers: int = 0) -> None:
        super().__init__()
        self.videos = videos
        self.batch_size = batch_size
        self.workers = workers
        self.scored: Callable[[], Set[str]] = frozenset

    def find_videos(self) -> Path:
        """Where the videos are.

        Raises:
            InputError: nothing was named.
        """
        if self.videos is None:
            raise InputError(
                "data.videos is not given: name a folder, a file, a glob or a manifest of videos."
            )
        return Path(self.videos)

    def setup(self, stage: str) -> None:
        """Probes the videos, from the cache where they have not changed."""
        self.corpus = build_corpus(self.find_videos())
        self.rows = [Video(**row) for row in self.corpus.to_pylist()]

    @property
    def sampling(self) -> Sampling:
        """How the model wants its clips."""
        assert self.trainer is not None
        return cast(Sampling, self.trainer.lightning_module.sampling)

    def predict_dataloader(self) -> DataLoader[ClipItem]:
        """Batches of VideoBatch over the rows that are not scored yet, in input order."""
        assert self.trainer is not None
        scored = self.scored()
        # At least one, or Lightning would skip the loop and with it the end that writes the output.
        self.pending = [video for video in self.rows if video.path not in scored] or self.rows[-1:]
        requests = [Request(video) for video in self.pending]
        dataset = ClipDataset(requests, self.sampling, cast(int, self.trainer.lightning_module.score_draws))
        return DataLoader(
            dataset, batch_size=self.batch_size, num_workers=self.workers, collate_fn=collate_videos
        )

    def transfer_batch_to_device(self, batch, device, dataloader_idx):  # type: ignore[no-untyped-def]
        """Moves tensors only."""
        if isinstance(batch, VideoBatch):
            return batch._replace(clips=batch.clips.to(device, non_blocking=True))
        return super().transfer_batch_to_device(batch, device, dataloader_idx)
