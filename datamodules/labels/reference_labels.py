"""Labels across contents that need neither a human nor a teacher: how far each distorted version fell.

The scores of at least two full-reference metrics become drops in standard deviations of source quality, and
what the metrics disagree by is the label's doubt. That nobody said how good the sources are is a variance of
one, so that two versions differ only where their drops outweigh it.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from itertools import compress

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import ndtri
from scipy.stats import rankdata

from datamodules.errors import InputError
from datamodules.labels.annotation import Request
from datamodules.labels.consensus import Consensus, Versions
from datamodules.labels.fitted_consensus import shrink
from datamodules.simulators import Simulator
from datamodules.video import Video

PERFECT = 1.0
"""Score of a source beside itself, by either metric of `FullReference`."""

COMPARABLE = ("sharpness", "noise", "tone", "compression")
"""Families whose pixels stay where the source has them, in space and in time."""

Floats = npt.NDArray[np.float64]


def eligible(simulators: Mapping[str, Simulator]) -> dict[str, Simulator]:
    """Return the simulators, by name, whose pixels compare with the source's."""
    return {name: simulator for name, simulator in simulators.items() if simulator.family in COMPARABLE}


def drawn_ladders(
    video_ids: Sequence[str], simulators: Mapping[str, Simulator], count: int | None
) -> npt.NDArray[np.bool_]:
    """Draw the simulators whose versions of a video are scored.

    Labels need versions of many videos, not all versions of each. What is drawn for a video follows from its
    id and the simulators' names, so that its scores serve every corpus that it is in.

    Args:
        video_ids: (n,).
        simulators: by name.
        count: of simulators for each video; None: all.

    Returns:
        (n, m), m the number of `eligible` simulators, in their order.
    """
    names = list(eligible(simulators))
    if count is None or count >= len(names):
        return np.ones((len(video_ids), len(names)), dtype=bool)
    keys = b"".join(
        hashlib.blake2b(f"{video} {name}".encode(), digest_size=8).digest()
        for video in video_ids
        for name in names
    )
    drawn = np.frombuffer(keys, dtype=">u8").reshape(len(video_ids), len(names))
    return drawn.argsort(axis=1).argsort(axis=1) < count


def reference_requests(
    videos: Sequence[Video], simulators: Mapping[str, Simulator], ladders: int | None
) -> list[Request]:
    """Return what full-reference metrics are asked for: the videos, and the `drawn_ladders` of each.

    Args:
        videos: (n,).
        simulators: by name.
        ladders: of simulators for each video; None: all.
    """
    drawn = drawn_ladders([video.video_id for video in videos], simulators, ladders)
    return [Request(video) for video in videos] + [
        Request(video, simulator, level + 1)
        for video, own in zip(videos, drawn, strict=True)
        for simulator in compress(eligible(simulators).values(), own)
        for level in range(len(simulator.levels))
    ]


def half_normal_scores(damage: Floats) -> Floats:
    """Map damage to the quantiles of |N(0, 1)|: nothing lost is 0, the median 0.67.

    These are Blom's normal scores of the values and their mirror images together, so that the scale begins at
    the source and does not stretch with the number of versions, as the distance from the best rank would.

    Args:
        damage: (n,), at least 0.

    Returns:
        (n,): rises with damage, equal where it is equal, 0 where it is 0.
    """
    n = len(damage)
    mirrored = (n + rankdata(damage) - 3 / 8) / (2 * n + 1 / 4)
    return np.where(damage > 0, ndtri(mirrored), 0.0)


def reference_versions(
    table: pa.Table,
    video_ids: Sequence[str],
    simulators: Mapping[str, Simulator],
    annotators: Sequence[str],
    *,
    ladders: int | None = None,
    sources: Consensus | None = None,
    spread: float = 1.0,
) -> Versions:
    """Score distorted versions of different sources on one scale.

    A version's score is that of its source less its drop: the mean over the metrics of the
    `half_normal_scores` of what each says was lost, in units in which the median version loses `spread`. Its
    variance is that of the source plus the metrics' disagreement (their variance, divided by their number
    less one), shrunk by `shrink`. That is the variance of the mean drop if the metrics' errors
    correlate at 1/3; METHOD's rule takes the teachers' likewise. Ranks and shrinkage are of all versions in
    the table: where every split is given the same table, they share one scale.

    Args:
        table: of `LabelStore.read`, of one round; sources that were scored are versions without a drop.
        video_ids: the videos whose versions are returned.
        simulators: by name; those not `eligible` are passed over.
        annotators: fingerprints of at least two full-reference metrics, perfect at `PERFECT`.
        ladders: `drawn_ladders` of so many simulators for each video; what the table has of others is passed
            over. None: all.
        sources: teachers' scores of the sources, on any linear scale: they are standardised, and their
            variance with them. Sources that it does not know, or all without it, have mean 0 and variance 1.
        spread: standard deviations of source quality that the median version lies below its source. At 1,
            random pairs of sources of unknown quality fall into the five levels as .02, .10, .76, .10, .02.

    Returns:
        The versions that every one of the metrics scored. Their margins are for pairs of different sources:
        between versions of one source its variance would not count.

    Raises:
        InputError: fewer than two metrics, no version that all of them scored, a spread not above 0, or
            sources whose scores are all equal.
    """
    if len(set(annotators)) < 2:
        raise InputError(
            f"Reference labels were given {len(set(annotators))} full-reference metrics; give at least two, "
            "such as ssim and gmsd, for what they disagree by is the label's doubt."
        )
    if not (math.isfinite(spread) and spread > 0):
        raise InputError(f"The spread of reference labels is {spread}; give a finite number above 0.")
    names = ["", *eligible(simulators)]
    identities = pa.array(["", *(simulators[name].identity for name in names[1:])], pa.string())
    videos = pc.unique(table["video_id"])
    drawn = drawn_ladders(videos.to_pylist(), simulators, ladders)
    scored = np.pad(drawn, ((0, 0), (1, 0)), constant_values=True)  # the sources, always
    scored = np.pad(scored, ((0, 0), (0, 1)))  # at -1: of no eligible simulator
    depth = 1 + (pc.max(table["level"]).as_py() or 0)
    scores = np.full((len(annotators), len(videos) * len(names) * depth), np.nan)
    whole = pc.is_null(table["segment"])
    for row, fingerprint in zip(scores, annotators, strict=True):
        own = table.select(["video_id", "simulator", "level", "score"]).filter(
            pc.and_(whole, pc.equal(table["fingerprint"], fingerprint))
        )
        video = pc.index_in(own["video_id"], videos).to_numpy().astype(np.int64)
        simulator = pc.fill_null(pc.index_in(pc.fill_null(own["simulator"], ""), identities), -1).to_numpy()
        known = scored[video, simulator]
        place = (video * len(names) + simulator) * depth + own["level"].to_numpy()
        row[place[known]] = own["score"].to_numpy()[known]
    complete = np.flatnonzero(np.isfinite(scores).all(axis=0))
    if not len(complete):
        raise InputError(
            f"None of the {len(videos)} videos has a version that all of the metrics {', '.join(annotators)} "
            "scored; annotate the versions with each of them first."
        )
    video, simulator, level = np.unravel_index(complete, (len(videos), len(names), depth))
    drop, doubt = _drops(scores[:, complete], level > 0, spread)
    score, variance = _source_scores(videos, sources)

    kept = pc.is_in(videos, pa.array(list(video_ids), pa.string())).to_numpy(zero_copy_only=False)[video]
    video, simulator = video[kept], simulator[kept]
    consensus = Consensus(
        tuple(np.array(videos.to_pylist(), dtype=object)[video]),
        score[video] - drop[kept],
        variance[video] + doubt[kept],
    )
    return Versions(consensus, tuple(np.array(names, dtype=object)[simulator]), level[kept])


def _drops(scores: Floats, distorted: npt.NDArray[np.bool_], spread: float) -> tuple[Floats, Floats]:
    """Mean and variance (n,) of the drops that metrics' scores (m, n) mean, in source deviations."""
    damage = np.maximum(PERFECT - scores[:, distorted], 0)
    lost = spread / ndtri(0.75) * np.stack([half_normal_scores(row) for row in damage])
    drop, doubt = np.zeros(len(distorted)), np.zeros(len(distorted))
    drop[distorted] = lost.mean(axis=0)
    if distorted.any():
        doubt[distorted] = shrink(lost.var(axis=0, ddof=1), np.full(lost.shape[1], len(scores) - 1.0))
    return drop, doubt


def _source_scores(videos: pa.Array, sources: Consensus | None) -> tuple[Floats, Floats]:
    """Score and variance (n,) of the sources in units of the standard deviation of their quality."""
    score, variance = np.zeros(len(videos)), np.ones(len(videos))
    if sources is None:
        return score, variance
    known = np.isfinite(sources.score) & np.isfinite(sources.variance)
    deviation = sources.score[known].std() if known.any() else 0.0
    if deviation == 0:
        raise InputError(
            f"The {known.sum()} scored sources of the reference labels do not differ in their scores; give "
            "scores of more videos, or none."
        )
    ids = pa.array(sources.video_ids, pa.string()).filter(pa.array(known))
    place = pc.fill_null(pc.index_in(videos, ids), -1).to_numpy()
    found = place >= 0
    score[found] = (sources.score[known] - sources.score[known].mean())[place[found]] / deviation
    variance[found] = sources.variance[known][place[found]] / deviation**2
    return score, variance
