"""How a model agrees with sets of human opinions: figures of each set, averages over the sets of a domain.

An average counts only the sets that are there, and names the missing sets: an average over fewer sets is not
comparable with the published number.
"""

from collections.abc import Sequence
from typing import NamedTuple, get_args

import numpy as np

from datamodules.bootstrap import bootstrap_interval
from datamodules.opinions import BENCHMARKS
from datamodules.opinions.benchmarks import Domain
from vqa_lightning.metrics.correlation import agreement, agreement_intervals, srcc
from vqa_lightning.metrics.logistic import Floats

PARAMETERS = 4
"""Parameters of the logistic: through as few different scores it fits nearly anything."""

Interval = tuple[float, float]

_UNKNOWN = (np.nan, np.nan)


class ScoredSet(NamedTuple):
    """The scored videos of a set, and people's opinions of them.

    Attributes:
        name: name of the set.
        release: source of the list of a known set; None where it is not known.
        scores: (n,) on the published scale.
        stderr: (n,) standard errors of the scores.
        mos: (n,) opinions, higher is better.
        mos_stderr: (n,) standard errors of the opinions; NaN where not known.
        contents: content of each video; versions of one content are resampled together.
        missing: number of listed videos that are not there.
        unreadable: file names of the videos that are there and cannot be read.
    """

    name: str
    release: str | None
    scores: Floats
    stderr: Floats
    mos: Floats
    mos_stderr: Floats
    contents: list[str]
    missing: int
    unreadable: list[str]

    @property
    def domain(self) -> Domain | None:
        """The published average that counts the set; None: neither average."""
        return BENCHMARKS[self.name].domain if self.name in BENCHMARKS else None

    @property
    def fits_curve(self) -> bool:
        """Whether a logistic through the scores means anything."""
        return len(np.unique(self.scores)) > PARAMETERS and bool(np.ptp(self.mos) > 0)


class SetFigures(NamedTuple):
    """A model's agreement with a set's opinions.

    Attributes:
        scored: the set.
        figures: figures of `agreement`; NaN where undefined.
        intervals: 95 % interval of each of `FIGURES`, over contents.
    """

    scored: ScoredSet
    figures: dict[str, float]
    intervals: dict[str, Interval]


def set_figures(scored: ScoredSet, draws: int = 1000) -> SetFigures:
    """Measure how well a set's scores agree with its opinions.

    Args:
        scored: the set.
        draws: draws of the bootstrap behind the intervals.

    Example:
        >>> nothing, names = np.full(4, np.nan), ["a", "b", "c", "d"]
        >>> scores, mos = np.array([40.0, 45.0, 60.0, 55.0]), np.array([1.0, 2.0, 3.0, 4.0])
        >>> scored = ScoredSet("mine", None, scores, nothing, mos, nothing, names, missing=0, unreadable=[])
        >>> figures = set_figures(scored, draws=10).figures
        >>> round(figures["srcc"], 3), figures["plcc"]  # a curve through four points means nothing
        (0.8, nan)
    """
    figures = agreement(scored.scores, scored.mos)
    intervals = agreement_intervals(scored.scores, scored.mos, scored.contents, draws=draws)
    if not scored.fits_curve:  # a curve through so few scores would pass for an agreement
        figures |= {"plcc": np.nan, "rmse": np.nan}
        intervals |= {"plcc": _UNKNOWN, "rmse": _UNKNOWN}
    return SetFigures(scored, figures, intervals)


class DomainAverage(NamedTuple):
    """SRCC over the sets of a domain, weighted by number of videos (METHOD section 7).

    Attributes:
        domain: domain of the sets, as in `BENCHMARKS`.
        srcc: the average; NaN where no set has an SRCC.
        interval: 95 % interval, over contents.
        n: number of videos.
        present: sets that have an SRCC.
        missing: sets of the domain that have none.
    """

    domain: Domain
    srcc: float
    interval: Interval
    n: int
    present: list[str]
    missing: list[str]


def domain_averages(sets: Sequence[SetFigures], draws: int = 1000) -> list[DomainAverage]:
    """Average SRCC in each domain over the sets that are there.

    Args:
        sets: figures of the sets, in any order.
        draws: draws of the bootstrap behind the intervals.

    Example:
        >>> inside, outside = domain_averages([])
        >>> inside.domain, inside.srcc, inside.missing[0]
        ('in-domain', nan, 'LSVQ-test')
    """
    return [_average(domain, sets, draws) for domain in get_args(Domain)]


def _average(domain: Domain, sets: Sequence[SetFigures], draws: int) -> DomainAverage:
    counted = [one.scored for one in sets if one.scored.domain == domain and np.isfinite(one.figures["srcc"])]
    present = [one.name for one in counted]
    members = [name for name, known in BENCHMARKS.items() if known.domain == domain]
    missing = [name for name in members if name not in present]
    if not counted:
        return DomainAverage(domain, np.nan, _UNKNOWN, 0, present, missing)
    weights = [len(one.mos) for one in counted]
    scores = np.concatenate([one.scores for one in counted])
    mos = np.concatenate([one.mos for one in counted])
    which = np.repeat(np.arange(float(len(counted))), weights)
    contents = [f"{one.name}/{content}" for one in counted for content in one.contents]

    def average(scores: Floats, mos: Floats, which: Floats) -> float:
        found = [srcc(scores[which == place], mos[which == place]) for place in range(len(counted))]
        return float(np.average(found, weights=weights))

    interval = bootstrap_interval(average, scores, mos, which, groups=contents, draws=draws)
    return DomainAverage(domain, average(scores, mos, which), interval, len(mos), present, missing)
