"""Scores of videos from Python: the same numbers as `vqa-lightning predict` gives in float32, to the bit.

Every video is scored by itself, from the very clips that predict reads; frames in memory are cut as a file
with these frames would be.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import hypot, isnan, nan
from numbers import Real
from pathlib import Path
from sys import float_info
from threading import Lock
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from scipy.special import ndtr
from torch import Tensor

from datamodules.checks import check_above, check_that
from datamodules.errors import InputError, UnreadableVideo, reason
from datamodules.labels import LEVELS, ClipDataset, ClipItem, Request
from datamodules.names import name_of
from datamodules.pairs import SOURCES
from datamodules.processes import WorkerLoader
from datamodules.video import Span, Video, probe
from datamodules.video.memory_video import MemoryVideo, as_frames, memory_video
from datamodules.video_data import shared_intervals
from vqa_lightning.annotators.checkpoint_teacher import load_checkpoint
from vqa_lightning.annotators.student import Student
from vqa_lightning.checkpoints.scorer_file import SHIPPED
from vqa_lightning.encodes import EncodeScores
from vqa_lightning.metrics.human_scale import HumanScale
from vqa_lightning.training import RankingModule

TOGETHER = 8
"""Intervals of a video that are read in one pass."""

Item = str | Path | Tensor | np.ndarray[Any, np.dtype[Any]]
"""A file, or frames as `ACCEPTED` says."""

ACCEPTED = (
    "a path, a tensor of frames (T, 3, H, W) or a numpy array of frames (T, H, W, 3), in RGB, uint8 or "
    "floats from 0 to 1"
)


@dataclass(frozen=True)
class VideoScore:
    """One row of predict's output.

    Attributes:
        path: the file as it was given; empty for frames in memory.
        score: 50 is the middle of the corpus that the model was trained on and 10 its standard deviation,
            higher better; NaN where the video cannot be read.
        stderr: standard error in the same unit.
        status: "ok" or "error".
        error: why the video cannot be read, or what is wrong with the time stamps of one that is scored, in
            one sentence; else empty.
        percentile: share of the training corpus that scores lower, in per cent; None where the video cannot
            be read, and from old checkpoints.
        calibrated: the score on the human scale that the Scorer was given; None without one.
    """

    path: str
    score: float
    stderr: float
    status: str
    error: str
    percentile: float | None = None
    calibrated: float | None = None


@dataclass(frozen=True)
class Comparison:
    """How the second of two videos looks beside the first.

    Attributes:
        probability: that the second looks better: Phi of the difference of the scores over its standard
            error.
        levels_ab: how likely each level is for the second beside the first, inferior to superior: the mean
            over the clips that are drawn from both.
        levels_ba: the same for the first beside the second, asked in that order.
        first: score of the first.
        second: score of the second.
    """

    probability: float
    levels_ab: dict[str, float]
    levels_ba: dict[str, float]
    first: VideoScore
    second: VideoScore


def model_name(module: RankingModule) -> str:
    """Return name and hash of a model, as they stand in the column `model`."""
    return f"{type(module).__name__}-{Student(module).fingerprint}"


class Scorer:
    """Scores videos by a checkpoint; safe to share between threads, which decode side by side.

    Example:
        >>> from vqa_lightning import Scorer
        >>> scorer = Scorer("last.ckpt")
        >>> [video.status for video in scorer.score(["a.mp4", "b.mp4"])]
        ['ok', 'ok']
        >>> comparison = scorer.compare("a.mp4", "b.mp4")
        >>> 0 <= comparison.probability <= 1
        True
        >>> list(comparison.levels_ab)
        ['inferior', 'worse', 'similar', 'better', 'superior']
        >>> frames = torch.zeros(60, 3, 270, 480, dtype=torch.uint8)
        >>> (black,) = scorer.score(frames, fps=30)
        >>> black.score < 100
        True

    Args:
        checkpoint: a .ckpt that fit wrote, or a scorer; by default the scorer of this package.
        device: where clips are scored; "auto": the machine's accelerator, else its CPU.
        calibration: a HumanScale fitted to this model's scores, or the file it was saved to.
        workers: processes that read clips; 0 reads in the thread that asks.

    Attributes:
        model: name and hash, as in predict's column `model`.

    Raises:
        InputError: the checkpoint or the calibration cannot be read, the calibration is another model's, or
            there is no such device.
    """

    def __init__(
        self,
        checkpoint: str | Path = SHIPPED,
        device: str | torch.device = "auto",
        calibration: HumanScale | str | Path | None = None,
        workers: int = 0,
    ) -> None:
        check_that(
            isinstance(workers, int) and workers >= 0, "workers", "0 or a number of processes", workers
        )
        check_that(isinstance(checkpoint, str | Path), "The checkpoint", "a path", repr(checkpoint)[:80])
        module = load_checkpoint(Path(checkpoint))
        self.model = model_name(module)
        if isinstance(calibration, str | Path):
            calibration = HumanScale.load(calibration)
        given = calibration is None or isinstance(calibration, HumanScale)
        check_that(given, "The calibration", "a HumanScale or its file", repr(calibration)[:80])
        if calibration is not None and calibration.model != self.model:
            raise InputError(
                f"The calibration was fitted for {calibration.model}, not for {self.model}: fit one on this "
                "model's scores."
            )
        self.human_scale = calibration
        self.workers = workers
        self.device = _device(device)
        self._module = module.to(self.device)
        self._lock = Lock()

    def score(self, videos: Item | Sequence[Item], fps: float = 30.0) -> list[VideoScore]:
        """Score each video; a video that cannot be read has the reason in its row and stops nothing.

        Args:
            videos: files, or frames in RGB, uint8 or float in [0, 1]: tensors (T, 3, H, W), or numpy arrays
                (T, H, W, 3) or (T, 3, H, W). One alone is a list of one.
            fps: of frames in memory, in frames per second.

        Returns:
            One score a video, in order.

        Raises:
            InputError: a video is something else, its frames have another shape, type or range, there is no
                video, or the rate is not a finite number above 0.
        """
        items = [videos] if isinstance(videos, str | Path | Tensor | np.ndarray) else _listed(videos)
        given = [self._video(item, fps) for item in items]
        return [
            self._rate(video, item)
            for video, item in zip(given, self._read(list(map(Request, given))), strict=True)
        ]

    def compare(self, first: Item, second: Item, fps: float = 30.0) -> Comparison:
        """Say how the second video looks beside the first.

        The levels come from the pairwise judgement where the model has learnt it, else from the difference of
        the clips' pointwise scores.

        Args:
            first: a file or frames, as in `score`.
            second: the same.
            fps: of frames in memory.

        Raises:
            UnreadableVideo: one of the two cannot be read.
            InputError: frames of another shape, type or range.
        """
        given = [self._video(item, fps) for item in (first, second)]
        read = list(self._read(list(map(Request, given))))
        for item in read:
            if item.error is not None:
                raise UnreadableVideo(item.error)
        one, other = (self._rate(video, item) for video, item in zip(given, read, strict=True))
        joint = max(hypot(one.stderr, other.stderr), float_info.min)
        forward, backward = self._levels(read[0].frames, read[1].frames)
        return Comparison(
            probability=float(ndtr((other.score - one.score) / joint)),
            levels_ab=dict(zip(LEVELS, forward, strict=True)),
            levels_ba=dict(zip(LEVELS, backward, strict=True)),
            first=one,
            second=other,
        )

    @torch.inference_mode()
    def score_encodes(
        self, encodes: Sequence[str | Path | Video], every: float | None = None, *, progress: bool = False
    ) -> EncodeScores:
        """Score encodes of one content at the same times: as long as the shortest of them.

        What the errors of two of them share leaves their difference, which `compare` does not know. Where all
        are of one length the scores are those of `score`.

        Args:
            encodes: files, or what is known of them.
            every: seconds; each interval of this length is scored, too. None: no intervals.
            progress: whether to show a bar on stderr.

        Returns:
            Scores in order; those of an encode that cannot be read are NaN.

        Example:
            >>> from vqa_lightning import Scorer
            >>> found = Scorer("last.ckpt").score_encodes(["a.mp4", "b.mp4"], every=0.2)  # doctest: +SKIP
            >>> found.difference(0, 1).probability  # that b looks better  # doctest: +SKIP
        """
        for one in encodes:
            check_that(isinstance(one, str | Path | Video), "An encode", "a path", repr(one)[:80])
        check_that(len(encodes) > 0, "The encodes", "one or more files", "none")
        if every is not None:
            check_that(isinstance(every, Real), "every", "seconds above 0", repr(every))
            check_above("every", every, 0)
        videos = [one if isinstance(one, Video) else self._video(one, 0) for one in encodes]
        whole, parts = spans_of_all([video for video in videos if video.status == "ok"], every)
        spans = [whole, *parts]
        requests = [Request(video, span=span) for video in videos for span in spans]
        module = self._module
        raw = torch.full((len(requests), module.scoring.draws), nan)
        errors = []
        together = TOGETHER if module.score_sampling.window is not None else 1  # whole frames are large
        items: Iterable[ClipItem] = self._read(requests, together)
        if progress:
            bar = Console(stderr=True)
            items = track(items, "Scoring", len(requests), console=bar, transient=True)
        for place, item in enumerate(items):
            if place % len(spans) == 0:
                errors.append(item.error or "")
            if item.error is None:
                with self._lock:
                    raw[place] = module.rate_video(item.frames.to(self.device))
        by_span = raw.view(len(videos), len(spans), -1).transpose(0, 1)
        found = [part.cpu().double().numpy() for part in module.t_scores_together(by_span)]
        (scores, *over_time), (covariance, *covariances) = found
        return EncodeScores(
            tuple(errors),
            scores,
            covariance,
            edges=np.array([start for start, _ in parts] + [end for _, end in parts[-1:]]),
            over_time=np.array(over_time).reshape(-1, len(videos)).T,
            covariances=np.array(covariances).reshape(-1, len(videos), len(videos)),
        )

    def _video(self, item: Item, fps: float) -> Video:
        if isinstance(item, np.ndarray):
            item = as_frames(item)
        if isinstance(item, Tensor):
            return memory_video(item, fps)
        check_that(isinstance(item, str | Path), "A video", ACCEPTED, repr(item)[:80])
        try:
            return probe(item)
        except UnreadableVideo as error:
            return Video("", name_of(item), status="error", error=str(error))

    def _read(self, requests: Sequence[Request], together: int = 1) -> Iterator[ClipItem]:
        module = self._module
        dataset = ClipDataset(requests, module.score_sampling, module.scoring.draws)
        # Frames in memory need no decoding, and those on a GPU cannot be seen from a forked process.
        in_memory = any(isinstance(request.video, MemoryVideo) for request in requests)
        workers = 0 if in_memory else self.workers
        loader = WorkerLoader(
            dataset,
            batch_size=together,
            num_workers=workers,
            collate_fn=list,
        )
        for items in loader:
            yield from items

    @torch.inference_mode()
    def _rate(self, video: Video, item: ClipItem) -> VideoScore:
        path = "" if isinstance(video, MemoryVideo) else video.path
        if item.error is not None:
            return VideoScore(path, nan, nan, "error", item.error)
        with self._lock:
            raw = self._module.rate_video(item.frames.to(self.device))
            score, stderr = (values.item() for values in self._module.t_scores(raw[None]))
        percentile = self._module.percentiles(np.array(score)).item()
        found = VideoScore(path, score, stderr, "ok", video.remark, None if isnan(percentile) else percentile)
        if self.human_scale is None:
            return found
        return replace(found, calibrated=float(self.human_scale(np.array([score]))[0]))

    @torch.inference_mode()
    def _levels(self, first: Tensor, second: Tensor) -> tuple[list[float], list[float]]:
        """Return levels of the second video's clips (n, T, 3, H, W) beside the first's, and the reverse."""
        module = self._module
        found = []
        for pair in zip(first, second, strict=True):  # one at a time: whole frames are large
            with self._lock:
                judged = module.judge([clip.to(self.device) / 255 for clip in pair])
                if judged.levels is not None:
                    found.append(module.levels(judged.levels)[:, 0])
                    continue
                assert judged.scores is not None
                difference = judged.scores[1] - judged.scores[0]
                source = torch.full_like(difference, SOURCES.index("teacher"), dtype=torch.long)
                levels = module.pointwise_loss.log_levels(difference, source).exp()
                found.append(torch.cat([levels, levels.flip(-1)]))
        forward, backward = torch.stack(found).cpu().double().mean(dim=0).tolist()
        return forward, backward


def _listed(videos: Iterable[Item]) -> list[Item]:
    """Return videos that came as something to go through."""
    if isinstance(videos, bytes | bytearray | Mapping) or not isinstance(videos, Iterable):
        raise InputError(f"A video must be {ACCEPTED}, or a list of these; got {repr(videos)[:80]}.")
    found = list(videos)
    if not found:
        raise InputError(f"score needs a video: {ACCEPTED}, or a list of these; got an empty list.")
    return found


def _device(device: str | torch.device) -> torch.device:
    """Return a device of this machine.

    Raises:
        InputError: there is none of this name.
    """
    if device == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found).cpu()  # which "meta" cannot do
    except Exception as error:  # torch raises what it likes for a device that is not there
        raise InputError(
            f"device must be auto, cpu, or an accelerator of this machine such as cuda; got {device!r} "
            f"({reason(error)})."
        ) from error
    return found


def spans_of_all(videos: Sequence[Video], every: float | None) -> tuple[Span | None, list[Span]]:
    """Return the time that readable videos have in common, and its intervals; None where that is all."""
    common = min((video.duration for video in videos), default=0.0)
    # Less than a frame apart is the same length.
    alike = all(video.duration - common < 1 / video.fps for video in videos)
    parts: list[Span] = []
    if every is not None and videos:
        parts = shared_intervals(videos, every)
    return None if alike else (0.0, common), parts
