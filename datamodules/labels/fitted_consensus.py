"""From the scores of several annotators to one mean and one variance for each video, without any label.

Each annotator gets the monotone map under which it agrees best with the weighted mean of the others. The mean
is over the mapped scores. The variance is the annotators' disagreement, shrunk because few annotators
estimate it badly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.optimize import brentq

from datamodules.errors import InputError
from datamodules.labels.teacher_scales import Floats, TeacherScale, fit_logistic, logistic, normal_scores

SINGLE_VARIANCE = 0.5
"""Variance, in squares of the mapped scale, where there is neither a second annotator nor a standard error:
the disagreement of two teachers whose scores correlate at .5."""

SINGLE_FREEDOM = 3
"""Degrees of freedom granted to a single annotator's own standard error: four segments a video."""

_FIT_VIDEOS = 100_000  # middle and width are then known to a thousandth

_ROUNDS, _CONVERGED = 8, 1e-3


def shrink(variance: Floats, freedom: Floats) -> Floats:
    """Shrink sample variances towards their pooled mean by the best linear (credibility) weight.

    With v0 the mean weighted by freedom and t the squared coefficient of variation of the true variances, a
    sample variance with d degrees of freedom keeps the weight t / (t + (1 + t) 2 / d); t is estimated by
    moments from E[s^4] = v0^2 (1 + t) (1 + 2 / d). The estimate is zero, and all variances equal, where the
    spread of the sample variances is no more than chance.

    Args:
        variance: (n,), ignored where freedom is 0.
        freedom: (n,), degrees of freedom, 0 where there is no sample variance; not all 0.

    Returns:
        (n,), positive where the pooled mean is.

    Example:
        >>> shrink(np.array([1.0, 4.0, 0.0]), np.array([3.0, 3.0, 0.0]))
        array([2.5, 2.5, 2.5])
    """
    known = freedom > 0
    s2, d = variance[known], freedom[known]
    pooled = float(np.average(s2, weights=d))
    if pooled == 0:
        return np.zeros_like(variance)
    spread = max(0.0, float(np.sum(s2**2) / np.sum(pooled**2 * (1 + 2 / d))) - 1)
    weight = np.zeros_like(variance)
    weight[known] = spread / (spread + (1 + spread) * 2 / d)
    return weight * np.where(known, variance, 0) + (1 - weight) * pooled


def whole_clips(table: pa.Table, fingerprint: str) -> pa.Table:
    """Return an annotator's scores of whole clips, from a table of `LabelStore.read` of one round."""
    own = pc.and_(pc.equal(table["fingerprint"], fingerprint), pc.is_null(table["segment"]))
    table = table.select(["video_id", "simulator", "level", "score", "stderr"])
    rows = np.flatnonzero(own)
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1:  # as in a store: a million ids are not copied
        return table.slice(rows[0], len(rows))
    return table.take(rows)


def look_up(
    own: pa.Table, video_ids: Sequence[str], simulator: str | None = None, level: int = 0
) -> tuple[Floats, Floats]:
    """Return score and standard error, each (n,), of the videos in one version; NaN where there is none.

    Args:
        own: scores of one annotator, from `whole_clips`.
        video_ids: (n,) in the order of the result.
        simulator: identity of the simulator; None: the sources.
        level: the simulator's level.
    """
    wanted = pc.is_null(own["simulator"]) if simulator is None else pc.equal(own["simulator"], simulator)
    rows = own.filter(pc.and_(wanted, pc.equal(own["level"], level)))
    place = pc.index_in(pa.array(video_ids, pa.string()), value_set=rows["video_id"].combine_chunks())
    score, stderr = (
        np.asarray(pc.fill_null(rows[name].take(place), np.nan), dtype=np.float64)
        for name in ("score", "stderr")
    )
    return score, stderr


@dataclass(frozen=True)
class FittedConsensus:
    """Annotators brought to one scale by `fit_consensus`.

    Args:
        rows: scores of whole clips, of each annotator.
        scales: map to the common scale, of each annotator.
        weights: (annotators,), positive, of sum 1.
        precision: (annotators,) the variance of an annotator's own error is 1 / (1 + precision) on its scale.
        centre: mean of the weighted mean over the fitted sources.
        unit: standard deviation of the weighted mean over the fitted sources.
    """

    rows: tuple[pa.Table, ...]
    scales: tuple[TeacherScale, ...]
    weights: Floats
    precision: Floats
    centre: float
    unit: float

    def scores(
        self, video_ids: Sequence[str], simulator: str | None = None, level: int = 0
    ) -> tuple[Floats, Floats]:
        """Return mean and variance of each video.

        Args:
            video_ids: (n,) in the order of the result.
            simulator: identity of the simulator; None: the sources.
            level: the simulator's level.

        Returns:
            Mean and variance, each (n,), on the scale on which the fitted sources have mean 0 and standard
            deviation 1. The mean is the weighted mean over the annotators that have a score, NaN where no
            annotator has a score. The variance is METHOD's s^2, the variance of one annotator, shrunk by
            `shrink`. With equal weights it is the sample variance, else the variance of the mean, from the
            weighted disagreement, times n, the effective number of annotators present (Kish: 1 / sum of
            squared weights). If errors are independent, the mean of a video is n times better: P(B over A)
            is then Phi(D / sD sqrt(n)); it is Phi(D / sD) if errors are shared. For a single annotator the
            variance is the square of its mapped standard error, shrunk likewise, or `SINGLE_VARIANCE` where
            it has no standard error.
        """
        found = [look_up(own, video_ids, simulator, level) for own in self.rows]
        mapped = np.stack([scale(score) for scale, (score, _) in zip(self.scales, found, strict=True)])
        mean, variance, freedom = _weighted_moments(mapped, self.weights, 1 / (1 + self.precision))
        if len(mapped) == 1:  # its own standard error is all there is
            (scale,), ((score, stderr),) = self.scales, found
            error = (scale(score + stderr) - scale(score - stderr)) / 2
            freedom = np.where(np.isfinite(error), float(SINGLE_FREEDOM), 0.0)
            variance = np.nan_to_num(error) ** 2
        if freedom.any():
            variance = shrink(variance, freedom)
        if not variance.any():
            variance = np.full(len(mean), SINGLE_VARIANCE)
        variance = np.where(np.isfinite(mean), variance, np.nan) / self.unit**2
        return (mean - self.centre) / self.unit, variance


def fit_consensus(
    table: pa.Table,
    fit_ids: Sequence[str],
    annotators: Sequence[str],
    *,
    weights: Mapping[str, float] | None = None,
) -> FittedConsensus:
    """Bring annotators to one scale without labels.

    Annotators start as the normal scores of their ranks. Each in turn gets the logistic (`fit_logistic`) that
    agrees best with the weighted mean of the others, until no score moves. The mean is turned into normal
    scores before each fit: bent curves fitted to bent curves would end as steps.

    Args:
        table: labels of one round, from `LabelStore.read`.
        fit_ids: the videos on whose sources the maps are fitted, normally the train split.
        annotators: fingerprints of the annotators.
        weights: by fingerprint, 0 for an annotator to be left out (see `teacher_weights`); None: equal.

    Raises:
        InputError: an annotator has no score of any video to be fitted on, or no weight is positive.
    """
    if weights is None:
        weights = dict.fromkeys(annotators, 1.0)
    kept = [name for name in annotators if weights[name] > 0]
    if not kept:
        raise InputError(
            f"A weight of the annotators {', '.join(annotators)} must be above 0; got none: name a teacher "
            "that agrees with the known order of distorted versions, or use equal weights."
        )
    share = np.array([weights[name] for name in kept], dtype=np.float64)
    share /= share.sum()
    rows = tuple(whole_clips(table, name) for name in kept)
    ranks, normal = [], np.empty((len(kept), len(fit_ids)))
    for index, (name, own) in enumerate(zip(kept, rows, strict=True)):
        score, _ = look_up(own, fit_ids)
        known = np.isfinite(score)
        if not known.any():
            raise InputError(
                f"Annotator {name} needs scores of the {len(fit_ids)} videos that its scale is fitted on; "
                "got none: annotate the videos first."
            )
        ranks.append(normal_scores(score[known]))
        normal[index] = ranks[-1](score)
    curves = _fit_curves(normal[:, :: -(-len(fit_ids) // _FIT_VIDEOS)], share)
    scales = []
    for to_normal, curve, values in zip(ranks, curves, normal, strict=True):
        bent = values if curve is None else logistic(values, *curve)
        scales.append(TeacherScale(to_normal, curve, float(np.nanmean(bent)), float(np.nanstd(bent)) or 1.0))
        values[:] = (bent - scales[-1].mean) / scales[-1].deviation
    precision = _precision(normal, share)
    mean, _, _ = _weighted_moments(normal, share, 1 / (1 + precision))
    centre, unit = float(np.nanmean(mean)), float(np.nanstd(mean)) or 1.0
    return FittedConsensus(rows, tuple(scales), share, precision, centre, unit)


def _fit_curves(normal: Floats, share: Floats) -> list[tuple[float, float] | None]:
    curves: list[tuple[float, float] | None] = [None] * len(normal)
    bent = normal.copy()
    for _ in range(_ROUNDS if len(normal) > 1 else 0):
        before = bent.copy()
        for index, values in enumerate(normal):
            others = np.arange(len(normal)) != index
            target, _, _ = _weighted_moments(bent[others], share[others], np.ones(others.sum()))
            both = np.isfinite(values) & np.isfinite(target)
            if both.any():
                target = normal_scores(target[both])(target[both])
                curves[index] = fit_logistic(values[both], target)
            bent[index] = values
            if curve := curves[index]:
                moved = logistic(values, *curve)
                bent[index] = (moved - np.nanmean(moved)) / np.nanstd(moved)
        if np.nanmax(np.abs(bent - before)) < _CONVERGED:
            break
    return curves


def _precision(mapped: Floats, share: Floats) -> Floats:
    """Find each annotator's ratio of signal to error variance, its weight times a factor fitted to the data.

    Weights stand for inverse error variances up to a factor. Every mapped score has variance 1, so that an
    error has the share 1 / (1 + factor * weight) of it. Under the fitted factor the expected disagreement
    equals the disagreement seen.
    """
    if len(mapped) == 1:
        return np.zeros(1)
    seen = _disagreement(mapped, share).sum()
    groups = [
        (len(videos), share[present] / share[present].sum(), present) for present, videos in _patterns(mapped)
    ]

    def excess(factor: float) -> float:
        error = 1 / (1 + factor * share)
        return float(sum(count * ((w - w**2) @ error[present]) for count, w, present in groups) - seen)

    if excess(0.0) <= 0:
        return np.zeros(len(share))
    largest = 1e6
    return share * (brentq(excess, 0.0, largest) if excess(largest) < 0 else largest)


def _patterns(mapped: Floats) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """List which annotators are present together, and for which videos; videos without any are left out."""
    known, pattern = np.unique(np.packbits(np.isfinite(mapped), axis=0), axis=1, return_inverse=True)
    members = np.split(np.argsort(pattern, kind="stable"), np.cumsum(np.bincount(pattern.ravel()))[:-1])
    bits = np.unpackbits(known, axis=0, count=len(mapped))
    found = [(np.flatnonzero(present), videos) for present, videos in zip(bits.T, members, strict=True)]
    return [(present, videos) for present, videos in found if len(present)]


def _disagreement(mapped: Floats, share: Floats) -> Floats:
    """Return the weighted mean square (n,) of the scores (annotators, n) about their weighted mean."""
    weight = np.where(np.isfinite(mapped), share[:, None], 0.0)
    total = weight.sum(axis=0)
    weight = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
    filled = np.nan_to_num(mapped)
    mean = (weight * filled).sum(axis=0)
    squares: Floats = (weight * (filled - mean) ** 2).sum(axis=0)
    return squares


def _weighted_moments(mapped: Floats, share: Floats, error: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the weighted mean (n,) of (annotators, n), one annotator's variance, and its degrees of freedom.

    The disagreement of a video is a quadratic form Q = diag(w) - w w' in errors of covariance
    V = diag(error). Its expectation is tr(Q V), and its freedom, by Satterthwaite (1946), is
    tr(Q V)^2 / tr((Q V)^2). The variance of the mean itself is w' V w.
    """
    mean, variance, freedom = np.full((3, mapped.shape[1]), [[np.nan], [0.0], [0.0]])
    squares = _disagreement(mapped, share)
    for present, videos in _patterns(mapped):
        w = share[present] / share[present].sum()
        mean[videos] = w @ mapped[np.ix_(present, videos)]
        if len(present) > 1:
            form = (np.diag(w) - np.outer(w, w)) * error[present]
            of_mean = w**2 @ error[present] / np.trace(form)
            variance[videos] = squares[videos] * of_mean / (w @ w)
            freedom[videos] = np.trace(form) ** 2 / np.sum(form * form.T)
    return mean, variance, freedom
