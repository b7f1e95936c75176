"""From the scores of several annotators to one mean and one variance for each video, without any label.

Every annotator is mapped to the normal scores of its own ranks over the train split, which makes scales of
any unit comparable and stops outliers; the variance is what they disagree by, shrunk because few teachers
estimate it badly.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import norm, rankdata

from datamodules.errors import InputError

SINGLE_VARIANCE = 0.5
"""Variance, in squares of the mapped scale, where neither a second annotator nor a standard error says
anything: what two teachers disagree by whose scores correlate at .5."""

SINGLE_FREEDOM = 3
"""Degrees of freedom granted to a single annotator's own standard error: four segments a video."""

Floats = npt.NDArray[np.float64]


def normal_scores(values: Floats) -> Callable[[Floats], Floats]:
    """Fit the monotone map of these values to Blom's normal scores, Phi^-1((rank - 3/8) / (n + 1/4)).

    Ties share their mean rank. Between the fitted values the map is linear; beyond them it goes on with one
    unit per standard deviation of the values, so that versions worse than every source stay in order.

    Args:
        values: finite, (n,), n at least 1.

    Returns:
        The map, of arrays of any shape; NaN stays NaN.
    """
    knots, index = np.unique(values, return_inverse=True)
    scores = np.empty(len(knots))
    scores[index] = norm.ppf((rankdata(values) - 3 / 8) / (len(values) + 1 / 4))
    deviation = values.std()
    slope = 1 / deviation if deviation > 0 else 0.0

    def apply(x: Floats) -> Floats:
        outside = np.minimum(x - knots[0], 0) + np.maximum(x - knots[-1], 0)
        mapped: Floats = np.interp(x, knots, scores) + slope * outside
        return mapped

    return apply


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
        (n,): positive where the pooled mean is.
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


def ensemble(
    table: pa.Table,
    video_ids: Sequence[str],
    annotators: Sequence[str],
    *,
    fit_ids: Sequence[str] | None = None,
    simulator: str | None = None,
    level: int = 0,
) -> tuple[Floats, Floats]:
    """Return mean and variance over the annotators, for each video.

    Args:
        table: of `LabelStore.read`, of one round.
        video_ids: the videos, in the order of the result.
        annotators: fingerprints of those whose scores count.
        fit_ids: the videos on whose sources the maps are fitted, normally the train split; all of `video_ids`
            by default.
        simulator: score the versions distorted by this simulator; None: the sources.
        level: the simulator's level.

    Returns:
        mean and variance, each (n,), on the scale on which an annotator's scores of the fitted videos are
        standard normal. The mean is over the annotators that have a score, NaN where none has. The variance
        is that between annotators (divided by their number less one), shrunk by `shrink`; for a single
        annotator it is the square of its mapped standard error, shrunk likewise, or `SINGLE_VARIANCE` where
        it has none.

    Raises:
        InputError: if an annotator has no score of any video to be fitted on.
    """
    rows = {video: row for row, video in enumerate(video_ids)}
    mapped = np.full((len(annotators), len(video_ids)), np.nan)
    errors = np.full_like(mapped, np.nan)
    fitted = pa.array(list(video_ids if fit_ids is None else fit_ids), pa.string())
    for index, fingerprint in enumerate(annotators):
        whole = pc.and_(pc.equal(table["fingerprint"], fingerprint), pc.is_null(table["segment"]))
        own = table.filter(whole)
        source = own.filter(
            pc.and_(pc.is_null(own["simulator"]), pc.is_in(own["video_id"], value_set=fitted))
        )
        if not source.num_rows:
            raise InputError(
                f"Annotator {fingerprint} has no score of the {len(fitted)} videos that its scale is fitted "
                "on; annotate them first."
            )
        to_normal = normal_scores(source["score"].to_numpy())
        wanted = pc.is_null(own["simulator"]) if simulator is None else pc.equal(own["simulator"], simulator)
        own = own.filter(pc.and_(wanted, pc.equal(own["level"], level)))
        place = np.array([rows.get(video, -1) for video in own["video_id"].to_pylist()], dtype=int)
        scores, stderr = (own[name].to_numpy()[place >= 0] for name in ("score", "stderr"))
        place = place[place >= 0]
        mapped[index, place] = to_normal(scores)
        errors[index, place] = (to_normal(scores + stderr) - to_normal(scores - stderr)) / 2

    present = np.isfinite(mapped)
    count = present.sum(axis=0)
    mean = np.divide(
        np.where(present, mapped, 0).sum(axis=0), count, out=np.full(len(rows), np.nan), where=count > 0
    )
    squares = (np.where(present, mapped - mean, 0) ** 2).sum(axis=0)
    freedom = np.maximum(count - 1, 0).astype(float)
    variance = np.divide(squares, freedom, out=np.zeros(len(rows)), where=freedom > 0)
    if not freedom.any():  # a single annotator: what it says of itself
        own_error = np.where(np.isfinite(errors), errors, 0).sum(axis=0) ** 2
        freedom = np.where(np.isfinite(errors).any(axis=0), float(SINGLE_FREEDOM), 0.0)
        variance = own_error
    if freedom.any():
        variance = shrink(variance, freedom)
    if not variance.any():
        variance = np.full(len(rows), SINGLE_VARIANCE)
    return mean, np.where(count > 0, variance, np.nan)
