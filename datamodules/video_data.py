"""Any videos, for prediction: every file becomes one row, readable or not.

Clips are decoded ahead in other processes, one video a batch: each video is scored by itself, and in a larger
batch the first would only wait for the last.
"""

import math
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from typing import Any, Literal, cast

import pyarrow as pa
import torch
from lightning.fabric.utilities.data import suggested_max_num_workers
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from datamodules.batches import PairBatch, VideoBatch
from datamodules.batches.video_batch import collate_videos
from datamodules.corpus import build_corpus
from datamodules.corpus.table import all_videos
from datamodules.errors import InputError, UnreadableVideo
from datamodules.labels import ClipDataset, Request
from datamodules.processes import WorkerLoader
from datamodules.teachers import Teacher
from datamodules.video import Sampling, Span, Video

MOST_WORKERS = 16
"""With more workers a process that scores is seldom faster, and a short list of videos only starts later."""

SHORTEST = 0.001
"""Seconds of an interval: no video shows a thousand frames a second."""

MANY = 16
"""Mean frame lengths from which on an interval is taken to have a frame, and packets are not asked."""


class VideoDataModule(LightningDataModule):
    """Videos to be scored.

    Args:
        videos: folder, file, glob, or manifest (.csv, .jsonl, .json or .parquet with a
            `path` column, or .txt with a path a line).
        batch_size: pairs a step; in prediction intervals of a video that are read in one pass.
        workers: processes that read clips; 0 reads in the main process; null: as many as the machine has
            cores to spare.
        score_every: seconds; prediction then also scores each interval of this length of every video.
        reader: what decodes files. TorchCodec is refused: its frames are not those that models have seen.

    Raises:
        InputError: `score_every` is below SHORTEST or not finite, or the reader is refused.
    """

    corpus: pa.Table
    rows: list[Video]
    """All rows of the corpus, unreadable videos included, in input order."""
    requests: list[Request]
    """Prediction batches point into these: whole videos, each followed by its intervals where asked."""
    pending: list[Video]
    """The video of each request."""

    def __init__(
        self,
        videos: str | None = None,
        batch_size: int = 8,
        workers: int | None = None,
        score_every: float | None = None,
        reader: Literal["pyav", "torchcodec"] = "pyav",
    ) -> None:
        super().__init__()
        if reader == "torchcodec":
            raise InputError(
                "data.reader must be pyav; got torchcodec: TorchCodec does not interpolate chroma on the way "
                "to RGB, and its frames differ by up to 50 of 255 (benchmarks/readers.py)."
            )
        if score_every is not None and not 0 < score_every < math.inf:
            raise InputError(f"data.score_every must be seconds above 0, or null; got {score_every}.")
        if score_every is not None and score_every < SHORTEST:
            raise InputError(f"data.score_every must be {SHORTEST} or more, or null; got {score_every}.")
        self.videos = videos
        self.batch_size = batch_size
        self.workers = workers or 0
        self.workers_given = workers is not None
        self.score_every = score_every
        self.scored: Callable[[], Set[str]] = frozenset
        """Paths of videos that need no score any more."""
        self.scored_spans: Callable[[], Set[tuple[str, Span]]] = frozenset
        """Intervals, with the paths of their videos, that need no score any more."""
        self._spans: dict[str, list[Span]] = {}
        self.teacher: Teacher | None = None
        """A teacher that predicts instead of the model: clips are then read as it says, and not stacked."""

    def find_videos(self) -> str:
        """Return where the videos are.

        Raises:
            InputError: no place was named.
        """
        if not self.videos:
            raise InputError("data.videos must be a folder, a file, a glob or a manifest; got none.")
        return self.videos

    def setup(self, stage: str) -> None:
        """Probe the videos, or take them from the cache where they have not changed."""
        self.corpus = build_corpus(self.find_videos())
        self.rows = list(all_videos(self.corpus))

    @property
    def sampling(self) -> Sampling:
        """How the model wants its clips."""
        assert self.trainer is not None
        return cast(Sampling, self.trainer.lightning_module.sampling)

    @property
    def score_sampling(self) -> Sampling:
        """How the model wants the clips that it scores."""
        assert self.trainer is not None
        return cast(Sampling, self.trainer.lightning_module.score_sampling)

    @property
    def largest_frame(self) -> tuple[int, int]:
        """Height and width of the largest frames of the corpus, in pixels."""
        readable = [video for video in self.rows if video.status == "ok"]
        return max(((video.height, video.width) for video in readable), key=lambda size: size[0] * size[1])

    def frame_cost(self, video: Video) -> tuple[int, int, int]:
        """Return the cost of a whole frame: pixels as the model sees it, then pixels and width as it is read.

        The latter two keep clips of one size together where the model sees all frames at one size.
        """
        assert self.trainer is not None
        lmm = cast(Any, self.trainer.lightning_module).lmm
        if video.status != "ok":
            return 0, 0, 0
        height, width = lmm.family.size_for(video.height, video.width, len(lmm.seconds))
        return height * width, video.height * video.width, video.width

    def spans(self, video: Video) -> list[Span]:
        """Return the intervals of a video to be scored: none if it is unreadable or none are asked for."""
        if self.score_every is None or video.status != "ok":
            return []
        spans = self._spans.get(video.path) or shared_intervals([video], self.score_every)
        if self.score_every < MANY / video.fps:  # packets were asked: once is enough
            self._spans[video.path] = spans
        return spans

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return batches over the videos and intervals that are not scored yet, in input order.

        Each batch is a VideoBatch; for a teacher a list of ClipItem.
        """
        assert self.trainer is not None
        scored, spans = self.scored(), self.scored_spans()
        self.requests = []
        for video in self.rows:
            self.requests += [Request(video)] if video.path not in scored else []
            missing = [span for span in self.spans(video) if (video.path, span) not in spans]
            self.requests += [Request(video, span=span) for span in missing]
        # Each rank gets one request at least: Lightning would skip the loop, and with it the end that writes
        # the output, or refuse to share fewer videos than there are ranks.
        teacher = self.teacher
        if teacher is not None and not self.requests:
            self.pending = []
            return DataLoader([[] for _ in range(self.trainer.world_size)], batch_size=None)  # type: ignore[arg-type]
        self.requests = self.requests or [Request(self.rows[-1])]
        self.requests += self.requests[:1] * (self.trainer.world_size - len(self.requests))
        self.pending = [request.video for request in self.requests]
        if teacher is not None:
            dataset = ClipDataset(self.requests, teacher.sampling, teacher.draws, teacher.pad)
            return WorkerLoader(
                dataset,
                batch_size=teacher.together,
                num_workers=self.workers,
                collate_fn=list,
            )
        return self.video_loader(self.requests)

    def video_loader(self, requests: Sequence[Request]) -> DataLoader[Any]:
        """Return a loader of VideoBatch over the requests, into which its `rows` point.

        Intervals come several at a time, so that a file is not opened for each. Whole frames come one at a
        time, for they are large.
        """
        assert self.trainer is not None
        draws = cast(Any, self.trainer.lightning_module).scoring.draws
        together = self.score_every is not None and self.score_sampling.window is not None
        batch_size = self.batch_size if together else 1
        workers = self.workers
        if not self.workers_given:
            batches = math.ceil(len(requests) / batch_size / self.trainer.world_size)
            cores = suggested_max_num_workers(self.trainer.num_devices)
            workers = 0 if batches == 1 else min(cores, batches, MOST_WORKERS)
        return WorkerLoader(
            ClipDataset(requests, self.score_sampling, draws),
            batch_size=batch_size,
            num_workers=workers,
            collate_fn=collate_videos,
            pin_memory=torch.cuda.is_available(),
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move what is read on the device; a teacher moves its own clips, a few at a time."""
        if isinstance(batch, VideoBatch):
            return batch._replace(clips=[clips.to(device, non_blocking=True) for clips in batch.clips])
        if self.teacher is not None:
            return batch
        move = super().transfer_batch_to_device
        if isinstance(batch, PairBatch):
            return batch._replace(**move(batch.crossing(device), device, dataloader_idx))
        return move(batch, device, dataloader_idx)


def shared_intervals(videos: Sequence[Video], length: float) -> list[Span]:
    """Cut the time that videos have in common into intervals in which at least one of them begins a frame.

    Args:
        videos: readable, one or more.
        length: of an interval, in seconds.
    """
    duration, fps = min(video.duration for video in videos), min(video.fps for video in videos)
    if length >= MANY / fps:
        return intervals(duration, length, fps)
    times = []
    for video in videos:
        with suppress(UnreadableVideo):  # it has gone since: its row will say so
            times += [time for time in video.frame_times().tolist() if time < duration]
    return intervals(duration, length, fps, times)


def intervals(duration: float, length: float, fps: float, times: Sequence[float] | None = None) -> list[Span]:
    """Cut a video into intervals of one length; the last may be shorter, and there is always one.

    Intervals in which no frame begins are left out.

    Args:
        duration: of the video, in seconds.
        length: of an interval, in seconds.
        fps: frames per second of the video.
        times: seconds at which frames begin; None: every 1 / fps, or oftener than intervals do.

    Returns:
        Begin and end of each in seconds, to the microsecond.

    Example:
        >>> intervals(duration=2.5, length=1.0, fps=25.0)
        [(0.0, 1.0), (1.0, 2.0), (2.0, 2.5)]
        >>> intervals(duration=3600.0, length=1.0, fps=1.0, times=[0.0, 0.5, 3599.0])
        [(0.0, 1.0), (3599.0, 3600.0)]
    """
    # Stamps are rounded, some to milliseconds: a last frame at an edge begins no interval of its own.
    last_frame = max(0.0, duration - 1 / fps, max(times or [0.0]) - SHORTEST)
    count = math.floor(last_frame / length + 1e-6) + 1
    places: Sequence[int] = range(count)
    if times:
        begun = {math.floor(time / length + 1e-6) for time in times}
        places = sorted(place for place in begun if place < count) or [0]
    return [(round(place * length, 6), round(min((place + 1) * length, duration), 6)) for place in places]
