"""Labels across contents that need neither a human nor a teacher: how far versions of clean sources fell.

A full-reference metric compares each version with its source, and its rank among all versions is the
version's score. Where the sources are no clean ones, what the teachers say of them enters with its doubt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import rankdata

from datamodules.checks import check_above, check_between, check_choice, check_least
from datamodules.circuits import Circuits, drawn_circuits
from datamodules.circuits.drawing import LEFT_OUT
from datamodules.errors import InputError
from datamodules.fidelity import Metric
from datamodules.labels.annotation import Request
from datamodules.labels.consensus import Consensus, Versions
from datamodules.video import Video

CIRCUITS = Circuits()
"""What versions are made by."""

SOURCE_SPREAD = 0.15
"""Of sources that are not clean: one standard deviation of their quality, as a share of all versions."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class References:
    """What reference pairs compare: versions of clean sources, labelled by a full-reference metric.

    Args:
        videos: clean sources, as a folder, file, glob or manifest; null: the clean renders of the embedded
            corpus, or for videos of one's own each training video, made smaller by two or more where it has
            the lines.
        versions: of each source: real encoders and distortions at random strengths, alone and in chains.
        metric: vmaf, vmaf_neg, ssim or gmsd.
        doubt: standard deviation of the metric's error, as a share of all versions ranked by the metric.
        teachers: share of a version's score that the teachers' mean rank has, for they see what a metric may
            not, such as grain; 0: the teachers are not asked.
        within: share of the reference pairs that compare versions of one source.
        without: simulators and families, by name, that no version goes through, and `chains`: what a student
            is to be judged on and never shown.

    Raises:
        InputError: a value is out of its range.
    """

    videos: str | None = None
    versions: int = 22
    metric: Metric = "vmaf"
    doubt: float = 0.06
    teachers: float = 1 / 6
    within: float = 0.5
    without: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        check_least("data.references.versions", self.versions, 2)
        check_choice("data.references.metric", self.metric, get_args(Metric))
        check_above("data.references.doubt", self.doubt, 0)
        check_between("data.references.teachers", self.teachers, 0, 1)
        check_between("data.references.within", self.within, 0, 1)
        for name in self.without:
            check_choice("A name in data.references.without", name, LEFT_OUT)


def reference_requests(sources: Sequence[Video], versions: int, without: Sequence[str] = ()) -> list[Request]:
    """Return what a full-reference metric is asked for: the versions of each source, but not the source.

    Args:
        sources: clean videos.
        versions: of each.
        without: what they do not go through.
    """
    drawn = drawn_circuits(CIRCUITS, [source.video_id for source in sources], versions, without)
    return [
        Request(source, CIRCUITS, int(number))
        for source, numbers in zip(sources, drawn, strict=True)
        for number in np.unique(numbers)
    ]


def reference_versions(
    table: pa.Table,
    sources: Sequence[Video],
    metric: str,
    settings: References,
    *,
    teachers: Sequence[str] = (),
    quality: Consensus | None = None,
) -> Versions:
    """Score versions of different sources, and the sources themselves, on one scale.

    A version's score is its rank among all versions, as a share of their number: 0 for the worst, 1 for the
    sources, which are as good as themselves. The rank is the metric's, mixed with the mean rank of the
    teachers that scored the version. Its variance is the square of the metric's doubt. Where the sources are
    not clean, the score of each is moved by what the teachers say of it, and their variance is added.

    Args:
        table: of `LabelStore.read`, of one round.
        sources: whose versions are ranked and returned.
        metric: fingerprint of the full-reference metric.
        settings: the number of versions, the metric's doubt and the teachers' share.
        teachers: fingerprints of the teachers that were asked for the versions.
        quality: what the teachers say of sources that are not clean, on any linear scale; a source that they
            do not know has the middle score and their spread as its doubt. None: all sources are clean.

    Returns:
        The sources and their versions. Margins of versions of one source are too small where the sources
        are not clean: their common variance counts as if it were each one's own.

    Raises:
        InputError: no version was scored.
    """
    requests = reference_requests(sources, settings.versions, settings.without)
    found = _scores(table, metric)
    known = [request for request in requests if (request.video.video_id, request.level) in found]
    if not known:
        raise InputError(
            f"data.references must have versions that the metric {settings.metric} scored; got none of the "
            f"{len(requests)} asked for: look at the warnings above."
        )
    keys = [(request.video.video_id, request.level) for request in known]
    ranks = _ranks(np.array([found[key] for key in keys]))
    if teachers and settings.teachers:
        said = [_scores(table, teacher) for teacher in teachers]
        others = np.stack([_ranks(np.array([one.get(key, np.nan) for key in keys])) for one in said])
        # Where no teacher has a score the metric's own rank stands in.
        asked = np.isfinite(others).sum(axis=0)
        mean = np.where(asked, np.nansum(others, axis=0) / np.maximum(asked, 1), ranks)
        ranks = _ranks((1 - settings.teachers) * ranks + settings.teachers * mean)
    clean = [source.video_id for source in sources]
    ids = [*clean, *(request.video.video_id for request in known)]
    score = np.concatenate([np.ones(len(clean)), ranks])
    variance = np.full(len(ids), settings.doubt**2)
    if quality is not None:
        moved, doubt = _source_quality(ids, quality)
        score, variance = score + moved, variance + doubt
    levels = np.array([0] * len(clean) + [request.level for request in known], dtype=np.int64)
    simulators = ("",) * len(clean) + (CIRCUITS.name,) * len(known)
    return Versions(Consensus(tuple(ids), score, variance), simulators, levels)


def _scores(table: pa.Table, fingerprint: str) -> dict[tuple[str, int], float]:
    """Return what one annotator says of versions, by source and circuit."""
    own = table.filter(
        pc.and_(
            pc.and_(
                pc.equal(table["fingerprint"], fingerprint), pc.equal(table["simulator"], CIRCUITS.identity)
            ),
            pc.is_null(table["segment"]),
        )
    )
    keys = zip(own["video_id"].to_pylist(), own["level"].to_pylist(), strict=True)
    return dict(zip(keys, own["score"].to_pylist(), strict=True))


def _ranks(scores: Floats) -> Floats:
    """Return ranks as shares of their number, from 0 to 1; nan stays nan."""
    ranks = rankdata(scores, nan_policy="omit")
    return np.asarray((ranks - 0.5) / max(np.isfinite(scores).sum(), 1))


def _source_quality(ids: Sequence[str], quality: Consensus) -> tuple[Floats, Floats]:
    """Return score and variance (n,) of each version's source, in shares of all versions."""
    known = np.isfinite(quality.score) & np.isfinite(quality.variance)
    deviation = float(quality.score[known].std()) if known.any() else 0.0
    if deviation == 0:
        raise InputError(
            f"The {known.sum()} scored sources of data.references must differ in what the teachers say of "
            "them; got scores that are all equal: name clean sources in data.references.videos."
        )
    places = {name: place for place, name in enumerate(quality.video_ids) if known[place]}
    score, variance = np.zeros(len(ids)), np.ones(len(ids))
    for row, name in enumerate(ids):
        if name in places:
            place = places[name]
            score[row] = (quality.score[place] - quality.score[known].mean()) / deviation
            variance[row] = quality.variance[place] / deviation**2
    return SOURCE_SPREAD * score, SOURCE_SPREAD**2 * variance
