"""NIQE: how far the local statistics of a frame lie from those of pristine frames, without any human score.

The features and their source are in `niqe_features`, the model and the distance in `pristine`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from datamodules.corpus import build_corpus, videos
from datamodules.errors import InputError
from datamodules.labels import ClipDataset, Request
from datamodules.teachers.natural_scenes.normalising import normalised
from datamodules.teachers.natural_scenes.pristine import PristineModel, fit_pristine, load_pristine, niqe
from datamodules.teachers.pictures import Picture, PictureTeacher
from datamodules.video import Sampling, Video, luma

PUBLISHED = Path(__file__).with_name("published") / "niqe.npz"
"""The authors' pristine model; see the notice beside it."""

FIT_VIDEOS = 256
"""Videos of the train split that a fitted pristine model looks at."""

SHARPEST_VIDEOS = 0.5
"""Share of these videos, the sharpest of all, whose patches make the fitted model: not all videos in the wild
are pristine. Fixed before any score was seen."""


class NIQE(PictureTeacher):
    """NIQE with the sign turned, so that higher is better.

    The pristine model is the authors'. A model of the user's own videos may be fitted to the sharpest videos
    of the train split, out of the 256 videos with the smallest ids. Ids are hashes of content, so these
    videos are a random sample that hardly changes as a large corpus grows. The fingerprint then names the
    videos and not the numbers fitted to them, for the numbers differ in the last digit between machines.

    Args:
        pristine: "published": the authors' model. "fitted": one of the train split. Otherwise a model (.npz,
            .mat), or videos to fit one to (a folder, file, glob or manifest).
        segments: single frames taken over the duration.
        window: frames larger than this are cut to a square of this side, in pixels.
        device: where frames are scored.
        name: under which the scores are stored; "niqe" by default.

    Raises:
        InputError: `pristine` is neither a model nor names videos that can be read.
    """

    version = 2
    in_workers = True

    def __init__(
        self,
        pristine: str = "published",
        segments: int = 4,
        window: int | None = 512,
        device: str | torch.device = "cpu",
        name: str | None = None,
    ) -> None:
        super().__init__(name or "niqe", Sampling(segments=segments, frames=1, window=window), device=device)
        self.pristine = pristine
        self.model: PristineModel | None = None
        self._videos: list[Video] = []
        file = PUBLISHED if pristine == "published" else Path(pristine)
        if file.suffix.lower() in (".npz", ".mat"):
            self.model = load_pristine(file)
        elif not self.fits_corpus:
            self._videos = videos(build_corpus(pristine, progress=False))

    @property
    def fits_corpus(self) -> bool:
        """Whether the pristine model is one of the train split."""
        return self.pristine == "fitted"

    def prepare(self, train: Sequence[Video]) -> None:
        """Take note of the videos to which a model of the train split is to be fitted."""
        if self.fits_corpus:
            readable = [video for video in train if video.status == "ok"]
            chosen = sorted(readable, key=lambda video: video.video_id)[:FIT_VIDEOS]
            if chosen != self._videos:
                self._videos, self.model = chosen, None

    @property
    def settings(self) -> Mapping[str, object]:
        """Also the pristine model: a hash of the file's, or the ids of the videos that it is fitted to."""
        if self._videos:
            fitted_to: object = sorted(video.video_id for video in self._videos)
        else:
            numbers = b"".join(part.numpy().tobytes() for part in self._fitted)
            fitted_to = hashlib.sha256(numbers).hexdigest()
        return {**super().settings, "pristine": fitted_to, "sharpest": self._sharpest}

    @property
    def _sharpest(self) -> float:
        return SHARPEST_VIDEOS if self.fits_corpus else 1.0

    @property
    def _fitted(self) -> PristineModel:
        if self.model is None:
            raise InputError(
                "A fitted NIQE has no pristine model yet; prepare it with the train split, or leave "
                "pristine at published."
            )
        return self.model

    def fit(self, workers: int) -> None:
        """Fit the pristine model, unless there is one."""
        if self.model is None and self._videos:
            dataset = ClipDataset([Request(video) for video in self._videos], self.sampling, pad=False)
            planes = (luma(item.frames[0].to(self.device)).round() for item in dataset.read(workers))
            self.model = fit_pristine(planes, self._sharpest)

    def measure(self, picture: Picture) -> Tensor:
        """Return minus the distance of each frame, (N,); NaN for frames without texture."""
        return -niqe(picture.codes, self._fitted, picture.once(normalised))
