"""Who judges the versions of real clips: checkpoints, teachers and the baseline, each score kept once made.

Every judge reads the files as a user's would be read: a checkpoint through `Scorer`, teachers through their
own loop. Scores are kept in a label store under a fingerprint of the judge, so that a second call computes
only what is new.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from carry_over_fidelity import Row
from scipy.stats import rankdata

from datamodules.errors import InputError
from datamodules.files import file_hash
from datamodules.labels import Annotation, LabelStore, Request, annotate_missing, fingerprint_of
from datamodules.labels.annotation import Annotator
from datamodules.teachers import Laplacian
from datamodules.teachers.artefacts import Artefacts
from datamodules.teachers.ffmpeg_filters import FFmpegDetector
from datamodules.teachers.natural_scenes.brisque import BRISQUE
from datamodules.teachers.natural_scenes.niqe import NIQE
from datamodules.teachers.siti import SITI
from datamodules.video import probe
from vqa_lightning import Scorer

Floats = npt.NDArray[np.float64]

BATCH = 64
"""Files that a checkpoint is given together: what an interruption may lose."""

TOGETHER = ("niqe", "brisque", "artefacts")
"""The teachers of the default datamodule, of whose ranks the mean is a judge, too."""

ENSEMBLE = "mean rank of " + ", ".join(TOGETHER)

_log = logging.getLogger(__name__)


class CheckpointJudge:
    """A checkpoint that scores files through `Scorer`.

    Args:
        path: a .ckpt that fit wrote.
        anew: a word that sets its scores apart from those of the same file that are kept; empty: no word.

    Raises:
        InputError: the checkpoint cannot be loaded.
    """

    def __init__(self, path: Path, anew: str = "") -> None:
        self.scorer = Scorer(path)
        self.name = "checkpoint"
        self.settings: Mapping[str, object] = {
            "model": self.scorer.model,
            "file": file_hash(path),
            "anew": anew,
        }

    @property
    def fingerprint(self) -> str:
        """Hash of the file, and of what is learnt in it."""
        return fingerprint_of(self.name, self.settings)

    def annotate(self, requests: Sequence[Request], workers: int) -> Iterator[Annotation]:
        """Yield the score of each file that can be read, and name the others."""
        self.scorer.workers = workers
        for start in range(0, len(requests), BATCH):
            batch = requests[start : start + BATCH]
            found = self.scorer.score([request.video.path for request in batch])
            for request, video in zip(batch, found, strict=True):
                if video.status == "ok":
                    yield Annotation(*request.key, video.score, video.stderr)
                else:
                    _log.warning("%s; it is left out.", video.error)


def teachers() -> list[Annotator]:
    """Return the teachers that need no weights of their own."""
    detectors = [FFmpegDetector("blockdetect"), FFmpegDetector("blurdetect")]
    return [NIQE(), BRISQUE(), Artefacts(), *detectors, SITI("si"), SITI("ti")]


def baseline() -> Annotator:
    """Return the mean absolute Laplacian."""
    return Laplacian()


def scores(judge: Annotator, rows: Sequence[Row], store: LabelStore, workers: int = 0) -> Floats:
    """Return a judge's score (n,) of each version, NaN where it gives none; make those that are missing."""
    have = {key[0] for key in store.have(0, judge.fingerprint)}
    missing = {row.video_id: row.file for row in rows if row.video_id not in have}
    annotate_missing(judge, [Request(probe(file)) for file in missing.values()], store, 0, workers=workers)
    table = store.read(round=0, fingerprint=judge.fingerprint)
    found = dict(zip(table["video_id"].to_pylist(), table["score"].to_pylist(), strict=True))
    return np.array([found.get(row.video_id, math.nan) for row in rows])


def mean_rank(columns: Sequence[Floats]) -> Floats:
    """Return the mean of the ranks (n,) that judges give, NaN where one gives none.

    Example:
        >>> mean_rank([np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0])])
        array([1. , 2.5, 2.5])
    """
    if not columns:
        raise InputError("A mean of ranks must have a judge; got none.")
    ranks: Floats = np.stack([rankdata(column, nan_policy="omit") for column in columns]).mean(axis=0)
    return ranks
