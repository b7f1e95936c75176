"""How far each teacher is to be trusted, found without labels from orders that are known.

A distorted version of a video is worse than a milder version. A teacher is weighed by how often it says so,
and by its agreement with the other teachers; a scores file without versions can show agreement alone.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.stats import norm

from datamodules.bootstrap import bootstrap_of_sums
from datamodules.labels.annotation import Request
from datamodules.labels.fitted_consensus import look_up, whole_clips
from datamodules.labels.teacher_scales import Floats, normal_scores

_DISSENT = 0.01  # odds at a correlation of .1


class Agreement(NamedTuple):
    """How well scores follow an order, from -1 (the opposite) over 0 (chance) to 1.

    Attributes:
        value: the agreement; NaN where there was nothing to compare.
        interval: 95 % of a bootstrap over contents.
        comparisons: pairs of versions, or videos, behind it.
    """

    value: float
    interval: tuple[float, float]
    comparisons: int


class TeacherWeight(NamedTuple):
    """The trust that one teacher has earned.

    Attributes:
        name: name of the teacher.
        fingerprint: fingerprint of the teacher.
        agreement: Kendall's tau with the synthetic order or, without `by_order`, correlation with the other
            teachers.
        weight: weight in the consensus, from 0 to 1.
        by_order: whether the teacher scored ladders.
    """

    name: str
    fingerprint: str
    agreement: Agreement
    weight: float
    by_order: bool

    @property
    def verdict(self) -> str:
        """What the agreement shows: sound, noise (the interval holds 0), upside-down (below) or unjudged."""
        if np.isnan(self.agreement.value):
            return "unjudged"
        low, high = self.agreement.interval
        return "upside-down" if high < 0 else "sound" if low > 0 else "noise"


def synthetic_agreement(table: pa.Table, fingerprint: str, ladders: Sequence[Request]) -> Agreement:
    """Return Kendall's tau of an annotator's scores with the mildness of the distortion, over whole ladders.

    The source is the mildest step of each ladder. Pairs of steps of all ladders of a family of simulators
    count alike, and so do all families: an annotator that sees compression alone is not saved by the number
    of codecs. A tie of scores is neither right nor wrong.

    Args:
        table: labels of one round, from `LabelStore.read`.
        fingerprint: fingerprint of the annotator.
        ladders: the distorted versions, each level of each ladder once, of the select split's videos.
    """
    return _mean_over_families(list(_orders(table, fingerprint, ladders).values()))


def agreement_change(
    before: tuple[pa.Table, str], after: tuple[pa.Table, str], ladders: Sequence[Request]
) -> Agreement:
    """Return by how much a second annotator exceeds a first one in `synthetic_agreement` on the same ladders.

    Args:
        before: table and fingerprint of the first annotator.
        after: table and fingerprint of the second annotator.
        ladders: as in `synthetic_agreement`; a ladder that an annotator has not scored whole is left out.

    Returns:
        The difference, from -2 to 2, with the interval of a paired bootstrap over contents.
    """
    first, second = (_orders(*annotator, ladders) for annotator in (before, after))
    both = [(ladder, second[name]) for name, ladder in first.items() if name in second]
    return _mean_over_families([new._replace(right=new.right - old.right) for old, new in both])


class _Ladder(NamedTuple):
    """Right orders less wrong ones among the pairs of steps of one ladder."""

    content: str
    family: str
    right: float
    compared: float


def _orders(table: pa.Table, fingerprint: str, ladders: Sequence[Request]) -> dict[tuple[str, str], _Ladder]:
    """Return the ladders that were scored whole, by simulator and video."""
    own = whole_clips(table, fingerprint)
    versions: defaultdict[tuple[str, str], list[Request]] = defaultdict(list)
    for request in ladders:
        if request.simulator is not None:
            versions[request.simulator.identity, request.simulator.family].append(request)
    found = {}
    for (simulator, family), requests in versions.items():
        content = {request.video.video_id: request.video.content for request in requests}
        levels = range(1, max(request.level for request in requests) + 1)
        steps = [look_up(own, list(content)), *(look_up(own, list(content), simulator, n) for n in levels)]
        scores = np.stack([score for score, _ in steps])
        milder, harsher = np.triu_indices(len(scores), k=1)
        right = np.sign(scores[milder] - scores[harsher]).sum(axis=0).tolist()
        for name, value in zip(content, right, strict=True):
            if np.isfinite(value):
                found[simulator, name] = _Ladder(content[name], family, value, float(len(milder)))
    return found


def _mean_over_families(ladders: Sequence[_Ladder]) -> Agreement:
    """Return the share of right orders less the share of wrong orders, as the mean over families."""
    if not ladders:
        return Agreement(np.nan, (np.nan, np.nan), 0)
    _, family = np.unique([ladder.family for ladder in ladders], return_inverse=True)
    own = np.arange(family.max() + 1)[:, None] == family
    right, compared = np.array([(ladder.right, ladder.compared) for ladder in ladders]).T
    terms = np.concatenate([own * right, own * compared])
    value, interval = bootstrap_of_sums(_mean_tau, terms, [ladder.content for ladder in ladders])
    return Agreement(value, interval, int(compared.sum()))


def weigh_teachers(
    table: pa.Table, teachers: Mapping[str, str], ladders: Sequence[Request]
) -> list[TeacherWeight]:
    """Weigh teachers by their agreement with the synthetic order, and with each other.

    The best linear mean weighs by inverse error variance. If errors are normal, the share p of right orders
    is Phi of step over noise. Phi^-1(p)^2 is then the inverse error variance up to a factor; p <= 1/2 gets 0.
    But order within a content is no proof of order across contents. Where three teachers or more have a
    positive weight, each is therefore also compared, on the ladders' sources, with the weighted mean of the
    others. With r the correlation of normal scores, r^2 / (1 - r^2) estimates the same inverse variance, and
    the weight is the geometric mean of both estimates.

    A teacher without ladders, such as a scores file, has the second estimate alone, against the teachers with
    ladders. Its weight is their mean weight times the ratio of its estimate to theirs. Where fewer than two
    teachers with ladders agree with each other, it is their mean weight times r^2. Where no teacher has a
    ladder, each is compared with the mean of the others. An only teacher without a ladder has the weight 1.

    Args:
        table: labels of one round, from `LabelStore.read`.
        teachers: fingerprints, by name.
        ladders: distorted versions of the select split's videos, see `synthetic_agreement`.

    Returns:
        One row a teacher, in the order of `teachers`. Weights sum to 1, or are all 0 where no teacher is
        better than chance.
    """
    prints = list(teachers.values())
    found = [synthetic_agreement(table, fingerprint, ladders) for fingerprint in prints]
    judges = np.array([agreement.comparisons > 0 for agreement in found])
    weights = np.array([_order_weight(agreement) for agreement in found])
    contents = {request.video.video_id: request.video.content for request in ladders}
    normal = np.stack([_normal_sources(table, fingerprint, list(contents)) for fingerprint in prints])
    against = weights if judges.any() else np.ones(len(prints))
    groups = np.array(list(contents.values()))
    agreed = [_agreement_with_others(normal, against, index, groups) for index in range(len(prints))]
    weights = _combined(weights, judges, np.array([agreement.value for agreement in agreed]))
    shown = [own if own.comparisons else other for own, other in zip(found, agreed, strict=True)]
    share = weights / (weights.sum() or 1.0)
    rows = zip(teachers, prints, shown, share.tolist(), judges.tolist(), strict=True)
    return [TeacherWeight(*row) for row in rows]


def _order_weight(agreement: Agreement) -> float:
    if not agreement.comparisons:
        return 0.0
    # With Jeffreys' half on either side a faultless order does not ask for an infinite weight.
    right = (1 + agreement.value) / 2 * agreement.comparisons
    return float(max(norm.ppf((right + 0.5) / (agreement.comparisons + 1)), 0.0) ** 2)


def _combined(by_order: Floats, judges: npt.NDArray[np.bool_], correlation: Floats) -> Floats:
    """Return the weights that `weigh_teachers` makes of both estimates."""
    if len(by_order) == 1:
        return by_order if judges[0] else np.ones(1)
    explained = np.nan_to_num(np.clip(correlation, 0, 0.99)) ** 2
    odds = explained / (1 - explained)
    if not judges.any():
        return odds
    trusted = by_order > 0
    if not trusted.any():
        return by_order
    # Two would blame each other alike; a lone dissenter of many is doubted but not silenced.
    weights = np.sqrt(by_order * np.maximum(odds, _DISSENT)) if trusted.sum() > 2 else by_order
    shared = odds[trusted].mean()
    ratio = odds / shared if shared > 0 else explained
    return np.where(judges, weights, weights[trusted].mean() * ratio)


def _normal_sources(table: pa.Table, fingerprint: str, video_ids: Sequence[str]) -> Floats:
    score, _ = look_up(whole_clips(table, fingerprint), video_ids)
    known = np.isfinite(score)
    return normal_scores(score[known])(score) if known.any() else score


def _agreement_with_others(
    normal: Floats, weights: Floats, index: int, contents: npt.NDArray[np.str_]
) -> Agreement:
    """Correlate one row of (teachers, videos) with the weighted mean of the other rows."""
    share = np.where(np.isfinite(normal), weights[:, None], 0.0)
    share[index] = 0
    total = share.sum(axis=0)
    both = (total > 0) & np.isfinite(normal[index])
    if both.sum() < 2:
        return Agreement(np.nan, (np.nan, np.nan), 0)
    y = (share * np.nan_to_num(normal)).sum(axis=0)[both] / total[both]
    x = normal[index, both]
    terms = np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y])
    value, interval = bootstrap_of_sums(_correlation, terms, contents[both])
    return Agreement(value, interval, len(x))


def _correlation(sums: Floats) -> float:
    n, x, y, xx, yy, xy = sums
    spread = (n * xx - x * x) * (n * yy - y * y)
    return float((n * xy - x * y) / np.sqrt(spread)) if spread > 1e-9 else np.nan


def _mean_tau(sums: Floats) -> float:
    right, compared = np.split(sums, 2)
    known = compared > 0  # a bootstrap may have drawn no content that has a family
    return float((right[known] / compared[known]).mean())
