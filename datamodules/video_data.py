"""Any videos, for prediction: every file becomes one row, readable or not."""

from collections.abc import Callable, Set
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from datamodules.annotation import ClipDataset, Request
from datamodules.batches import VideoBatch, collate_videos
from datamodules.corpus import build_corpus
from datamodules.decoding import Sampling, Video
from datamodules.errors import InputError
from datamodules.teachers import Teacher


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
    requests: list[Request]
    """The same as they are read."""

    def __init__(self, videos: str | None = None, batch_size: int = 8, workers: int = 0) -> None:
        super().__init__()
        self.videos = videos
        self.batch_size = batch_size
        self.workers = workers
        self.scored: Callable[[], Set[str]] = frozenset
        self.teacher: Teacher | None = None
        """Who predicts, where it is no model of ours: clips are then read as it says, and not stacked."""

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

    @property
    def largest_frame(self) -> tuple[int, int]:
        """Height and width of the largest frames of the corpus, in pixels."""
        readable = [video for video in self.rows if video.status == "ok"]
        return max(((video.height, video.width) for video in readable), key=lambda size: size[0] * size[1])

    def frame_cost(self, video: Video) -> tuple[int, int, int]:
        """What a whole frame costs: pixels as the model sees it, then pixels and width as it is read.

        The latter two keep clips of one size together where the model shows all frames alike.
        """
        assert self.trainer is not None
        lmm = cast(Any, self.trainer.lightning_module).lmm
        if video.status != "ok":
            return 0, 0, 0
        height, width = lmm.family.size_for(video.height, video.width, len(lmm.seconds))
        return height * width, video.height * video.width, video.width

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches over the rows that are not scored yet, in input order.

        Each is a VideoBatch; for a teacher a list of ClipItem, for their frames differ in size.
        """
        assert self.trainer is not None
        scored = self.scored()
        self.pending = [video for video in self.rows if video.path not in scored]
        self.requests = []
        # Each rank gets one at least: Lightning would skip the loop, and with it the end that writes the
        # output, or refuse to share fewer videos than there are ranks.
        if self.teacher is not None and not self.pending:
            return DataLoader([[] for _ in range(self.trainer.world_size)], batch_size=None)  # type: ignore[arg-type]
        self.pending = self.pending or self.rows[-1:]
        self.pending += self.pending[:1] * (self.trainer.world_size - len(self.pending))
        self.requests = [Request(video) for video in self.pending]
        if self.teacher is not None:
            teacher = self.teacher
            dataset = ClipDataset(self.requests, teacher.sampling, teacher.draws, teacher.pad)
            batch_size = max(1, teacher.batch_clips // teacher.draws)
            return DataLoader(dataset, batch_size=batch_size, num_workers=self.workers, collate_fn=list)
        draws = cast(int, self.trainer.lightning_module.score_draws)
        dataset = ClipDataset(self.requests, self.sampling, draws)
        # Of whole frames one video at a time: they differ in size, and are large.
        batch_size = 1 if self.sampling.window is None else self.batch_size
        return DataLoader(dataset, batch_size=batch_size, num_workers=self.workers, collate_fn=collate_videos)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Moves tensors only; a teacher moves its own, a few at a time."""
        if isinstance(batch, VideoBatch):
            return batch._replace(clips=batch.clips.to(device, non_blocking=True))
        if self.teacher is not None:
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)
