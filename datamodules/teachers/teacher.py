"""The base of teachers: annotators that score clips without any training of ours.

A teacher only scores clips. Reading, distorting, batching and averaging over segments and draws are done once
here, so that every teacher's standard error means the same: the spread of its scores within one video. Where
a teacher raises an error, that video gets no score; the run ends only if the teacher never scores anything.
"""

import logging
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from datamodules.errors import InputError
from datamodules.labels import Annotation, ClipDataset, ClipItem, Request, fingerprint_of
from datamodules.teachers.batch import Batch, batches
from datamodules.video import Sampling, Video

FIRST_FAILURES = 8
"""Videos on which a teacher may fail before it has scored any: then the teacher is broken, not the videos."""

_log = logging.getLogger(__name__)


def name_of_file(path: Path) -> str:
    """Return a name for scores that come from a file: its stem, other characters than ASCII words' as _.

    Example:
        >>> name_of_file(Path("models/my model.pt"))
        'my_model'
    """
    return re.sub(r"[^\w.+-]", "_", path.stem, flags=re.ASCII)


class Teacher(ABC):
    """An annotator that scores clips.

    A subclass gives `score`, adds to `settings` everything its scores depend on, and raises `version` if its
    code changes.

    Args:
        name: under which the scores are stored.
        sampling: how clips are cut; unless `pad` is True, smaller frames than the window come whole.
        draws: clips per video.
        device: where clips are distorted and scored; no part of the fingerprint.
    """

    version = 1
    batch_clips = 8
    """Clips read before they are scored together: enough whole frames for a GPU, few enough for a laptop."""
    batch_bytes = 2**28
    """Of the frames of clips that are scored together, as they are read: large frames are fewer."""
    pad = False
    """Whether smaller frames are padded to the window, as for models trained on windows of one size."""
    every = 1
    """Of how many frames one is looked at; `cut` sets it."""
    in_workers = False
    """Whether it is light enough to score in each of the processes that read clips, where there is no GPU."""
    by_segment = True
    """Whether each segment is scored by itself; False: all segments of a clip are one clip to `score`."""

    def __init__(
        self, name: str, sampling: Sampling, draws: int = 1, device: str | torch.device = "cpu"
    ) -> None:
        self.name = name
        self.sampling = sampling
        self.draws = draws
        self.device = torch.device(device)
        self.proven = False  # whether it has ever scored anything
        self.failed: set[str] = set()

    @property
    def together(self) -> int:
        """Requests whose clips are scored as one batch."""
        return max(1, self.batch_clips // self.draws)

    @property
    def fits_corpus(self) -> bool:
        """Whether scores depend on the videos that `prepare` was given."""
        return type(self).prepare is not Teacher.prepare

    @abstractmethod
    def score(self, clips: Tensor) -> Tensor:
        """Score clips (B, T, C, H, W) in [0, 1] on the teacher's device.

        Returns:
            (B,), higher better whatever the metric's own sign; NaN where the clip gives nothing to judge.
        """

    def prepare(self, train: Sequence[Video]) -> None:  # noqa: B027 - most teachers have nothing to fit
        """Take note of the train split; call this before the fingerprint is read.

        `prepare` must cost little: the fitting itself waits for the first clip that has no score yet.
        """

    def fit(self, workers: int) -> None:  # noqa: B027 - most teachers have nothing to fit
        """Fit to the videos that `prepare` took note of, reading in `workers` processes, before any score."""

    def cut(self, sampling: Sampling, every: int = 1) -> "Teacher":
        """Return the same teacher for clips that are cut otherwise; its scores are kept apart.

        Args:
            sampling: how the clips are cut.
            every: looks at every so many frames of a segment only.
        """
        other = copy(self)
        other.sampling, other.every, other.draws = sampling, every, 1
        return other

    @property
    def settings(self) -> Mapping[str, object]:
        """Everything that decides a score, in plain types; subclasses add theirs."""
        # An older version placed draws by the video: its scores of several draws do not count any more.
        placed = {"placed": "alike"} if self.draws > 1 else {}
        some = {"every": self.every} if self.every > 1 else {}
        return {
            "version": self.version,
            "sampling": asdict(self.sampling),
            "draws": self.draws,
            **placed,
            **some,
        }

    @property
    def fingerprint(self) -> str:
        """Hash of name and settings."""
        return fingerprint_of(self.name, self.settings)

    def annotate(self, requests: Sequence[Request], workers: int = 0) -> Iterator[Annotation]:
        """Yield the mean score over draws and segments of each request that can be read.

        The standard error is the standard deviation over draws and segments divided by the root of their
        number; NaN for a single score.

        Raises:
            InputError: `score` raised an error on each of the first `FIRST_FAILURES` videos.
        """
        self.fit(workers)
        dataset = ClipDataset(requests, self.sampling, self.draws, self.pad)
        yield from self.annotate_clips(requests, dataset.read(workers))

    def annotate_clips(self, requests: Sequence[Request], clips: Iterable[ClipItem]) -> Iterator[Annotation]:
        """Yield the annotations of clips that were read elsewhere; their positions point into the requests.

        Clips of one size that follow each other are scored together, `batch_clips` at most.
        """
        for batch in batches(requests, clips, self.device, self.together, self.batch_bytes):
            yield from self.annotate_batch(batch)

    def annotate_batch(self, batch: Batch) -> Iterator[Annotation]:
        """Yield the annotations of a batch, which other teachers may be shown, too."""
        try:
            scores = self._scores(batch)
        except (InputError, torch.AcceleratorError):
            raise  # a mistake that has its sentence, and a device that will do nothing more
        except Exception as error:  # whatever a user's teacher may raise
            if len(batch.items) == 1:
                self._fail(batch.requests[0], error)
            else:
                for one in batch.one_by_one():
                    yield from Teacher.annotate_batch(self, one)  # what a subclass adds is added once
            return
        self.proven = True
        for request, values in zip(batch.requests, scores, strict=True):
            values = values[values.isfinite()]
            if not len(values):
                _log.warning("%s makes no statement on %s; it is left out.", self.name, request.video.path)
                continue
            stderr = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
            yield Annotation(*request.key, values.mean().item(), stderr)

    @torch.inference_mode()
    def _scores(self, batch: Batch) -> Tensor:
        """Return the scores (V, parts) of V items, float64 on the CPU."""
        return self.score_batch(batch).cpu().double().view(len(batch.items), -1)

    def _fail(self, request: Request, error: Exception) -> None:
        version = "" if request.simulator is None else f" under {request.simulator.name} {request.level}"
        reason = next(iter(str(error).splitlines()), "")
        what = f"{self.name} failed on {request.video.path}{version} ({type(error).__name__}: {reason})"
        _log.warning("%s; it is left out.", what)
        _log.debug("%s", what, exc_info=error)
        self.fail_on(request.video, what)

    def fail_on(self, video: Video, what: str) -> None:
        """Take note of a video on which it failed.

        Args:
            video: on which it failed.
            what: happened, the beginning of a sentence.

        Raises:
            InputError: it failed on each of the first videos.
        """
        self.failed.add(video.video_id)
        if not self.proven and len(self.failed) >= FIRST_FAILURES:
            raise InputError(
                f"{what}, as on all of the first {len(self.failed)} videos: mend the teacher, or take it "
                "out of data.teachers."
            )

    def score_batch(self, batch: Batch) -> Tensor:
        """Score the clips of a batch of V items.

        A teacher that compares clips with their sources finds the sources in the batch's items.

        Returns:
            (V x parts,): the scores of all parts of the first item, then of the second, and so on.
        """
        return self.score(self.apart(batch.clips.clone()))  # others are shown the clips, too

    def apart(self, clips: Tensor) -> Tensor:
        """Split clips (V, D, T, C, H, W) into the parts that are scored separately, (B, T', C, H, W)."""
        frames = self.sampling.frames if self.by_segment else clips.shape[2]
        return clips.reshape(-1, frames, *clips.shape[3:])[:, :: self.every]
