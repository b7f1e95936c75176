"""Pairs of versions of clean sources, labelled by a full-reference metric and by known severity.

Across sources the metric is all that is known. Within a source the strengths of one simulator have a known
order, the source itself included, whatever a metric says of them, and the metric speaks of versions that were
made in other ways.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from datamodules.circuits.steps import STRENGTHS
from datamodules.errors import InputError
from datamodules.labels.consensus import Consensus, Versions
from datamodules.labels.labelling import Labelling
from datamodules.labels.references import CIRCUITS
from datamodules.pairs.scored import balanced, scored_pairs

SEVERITY_DOUBT = 0.1
"""Share of a simulator's range by which two strengths differ as one standard deviation of what is seen."""

ONE_KIND = 0.75
"""Share of the pairs within a source that compare strengths of one simulator; the source itself has none."""

Positions = npt.NDArray[np.int64]


def reference_pairs(
    generator: np.random.Generator,
    versions: Versions | None,
    count: int,
    within: float,
    labelling: Labelling,
) -> pa.Table:
    """Draw pairs of versions, across sources and within them.

    All pairs show the middle of a source, which is what the metric has seen.

    Args:
        generator: draws the pairs.
        versions: what the metric says of the versions; None: nothing.
        count: number of pairs; where there are fewer, pairs come again.
        within: share of them that compare versions of one source.
        labelling: how scores become labels.

    Raises:
        InputError: fewer than two sources have scored versions.
    """
    if versions is None or len(set(versions.consensus.video_ids)) < 2:
        raise InputError(
            "data.counts.reference must be 0 where fewer than two sources of data.references have scored "
            f"versions; got {count}."
        )
    inside = round(within * count)
    of_kind = round(ONE_KIND * inside)
    across = balanced(generator, versions.consensus, count - inside, labelling)
    source = np.unique(np.array(versions.consensus.video_ids), return_inverse=True)[1]
    ranked, kind = _by_severity(versions)
    alone = np.where(kind >= 0, source * len(CIRCUITS.kinds) + kind, -1)
    ordered = _with_sources(generator, versions, source, *_together(generator, alone, of_kind))
    others = _together(generator, source, inside - len(ordered[0]))
    parts = [
        scored_pairs(generator, versions, *across, 1, labelling, "reference"),
        scored_pairs(generator, versions, *others, 1, labelling, "reference"),
        scored_pairs(generator, ranked, *ordered, 1, labelling, "reference", versions.consensus.places),
    ]
    return pa.concat_tables(parts)


def _together(generator: np.random.Generator, group: Positions, count: int) -> tuple[Positions, Positions]:
    """Draw pairs of two different members of one group.

    Args:
        generator: draws them.
        group: (n,) number of each version's group, -1 for none.
        count: number of pairs.

    Returns:
        Positions (count,) of both sides; none where no group has two members.
    """
    order = np.argsort(group, kind="stable")
    order = order[group[order] >= 0]
    _, begin, size = np.unique(group[order], return_index=True, return_counts=True)
    begin, size = begin[size > 1], size[size > 1]
    if not len(begin):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    chosen = generator.integers(len(begin), size=count)
    first = generator.integers(size[chosen])
    second = (first + generator.integers(1, size[chosen])) % size[chosen]
    return order[begin[chosen] + first], order[begin[chosen] + second]


def _with_sources(
    generator: np.random.Generator,
    versions: Versions,
    source: Positions,
    first: Positions,
    second: Positions,
) -> tuple[Positions, Positions]:
    """Put the source, if it is there, in place of the first side, the second or neither, a third each."""
    places = np.full(source.max(initial=0) + 1, -1)
    places[source[versions.levels == 0]] = np.flatnonzero(versions.levels == 0)
    clean = places[source[first]]
    replaced = np.where(clean >= 0, generator.integers(3, size=len(first)), 0)
    return np.where(replaced == 1, clean, first), np.where(replaced == 2, clean, second)


def _by_severity(versions: Versions) -> tuple[Versions, Positions]:
    """Score versions of one step by their severity, and tell of which kind they are.

    Returns:
        The versions with the strength's place in its range as their score, 0 the worst and 1 none; and the
        index (n,) of each one's simulator, -1 for chains and for sources.
    """
    kind, strength = np.divmod(versions.levels - 1, STRENGTHS)
    single = (versions.levels > 0) & (kind < len(CIRCUITS.kinds))
    known = versions.consensus
    score = np.where(single, 1 - (strength + 1) / STRENGTHS, 1.0)
    doubt = np.full(len(score), SEVERITY_DOUBT**2 / 2)
    scored = Consensus(known.video_ids, score, doubt, known.cuts)
    return Versions(scored, versions.simulators, versions.levels), np.where(single, kind, -1)
