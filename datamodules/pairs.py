"""The pair table: which clips are compared in a round, how each side is distorted, and the label.

A table is drawn from (seed, round) alone, on the host, before training: no process, worker or device draws
anything later that could change a pair or its label.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from datamodules.errors import InputError
from datamodules.levels import CUTS, LEVELS, severity_levels, soft_levels

SOURCES = ("synthetic", "teacher", "reference", "human")
"""Where a label comes from; `teacher` is the round's annotator, the student included."""

_SIDE = pa.list_(pa.struct([("name", pa.string()), ("level", pa.int64())]))
PAIR_SCHEMA = pa.schema(
    [
        ("first", pa.string()),  # video_id
        ("second", pa.string()),
        ("draw_first", pa.int64()),
        ("draw_second", pa.int64()),
        ("distortions_first", _SIDE),
        ("distortions_second", _SIDE),
        ("source", pa.string()),
        ("hard", pa.bool_()),
        ("margin", pa.float32()),  # D / sD where the label comes from scores, else null
        ("levels", pa.list_(pa.float32(), len(LEVELS))),
    ]
)


def read_pairs(path: str | Path, ladder: Mapping[str, int] | None = None) -> pa.Table:
    """Reads a pair table from Parquet.

    Args:
        path: as a run or `vqa-lightning pairs import` wrote it.
        ladder: simulator name -> number of levels that the pairs may name; None: any.

    Raises:
        InputError: it cannot be read or is no pair table, a label is no distribution over the levels, or a
            pair names a distortion that is not in the ladder.
    """
    try:
        table = pq.read_table(path).cast(PAIR_SCHEMA)
    except (OSError, pa.ArrowInvalid, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"The pairs {path} cannot be read ({reason}): give a Parquet of a run's pairs folder, or one "
            "that `vqa-lightning pairs import` wrote."
        ) from error
    labels = (
        table["levels"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, len(LEVELS))
    )
    if len(labels) != len(table) or not (
        (labels >= 0).all() and np.allclose(labels.sum(axis=1), 1, atol=1e-3)
    ):
        raise InputError(
            f"The pairs {path} have levels that are no distribution: write {len(LEVELS)} numbers from 0 up "
            "whose sum is 1 in every row."
        )
    if ladder is None:
        return table
    for side in ("distortions_first", "distortions_second"):
        used = pa.Table.from_struct_array(table[side].combine_chunks().flatten())
        for name, level in set(zip(*(column.to_pylist() for column in used.columns), strict=True)):
            if not 1 <= level <= ladder.get(name, 0):
                raise InputError(
                    f"The pairs {path} name {name} at level {level}, which data.simulators does not have: "
                    "add the simulator, or leave those pairs out."
                )
    return table


@dataclass(frozen=True)
class Consensus:
    """What the annotators of a round say together of some videos.

    Args:
        video_ids: (n,) the videos.
        score: (n,) on any linear scale, higher better.
        variance: (n,) of the score, on the same scale squared.
        cuts: margins between the levels; round 0 has METHOD's, later rounds cuts that keep round 0's balance.
    """

    video_ids: tuple[str, ...]
    score: np.ndarray
    variance: np.ndarray
    cuts: tuple[float, float] = CUTS

    def margin(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """D / sD (m,) of the videos at positions `second` over those at `first`."""
        spread = np.sqrt(self.variance[first] + self.variance[second])
        return np.asarray((self.score[second] - self.score[first]) / np.maximum(spread, 1e-6))

    def doubt(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """How little the scores of two videos say of them, (m,) from 0 to 1.

        sD^2 / (sD^2 + S^2) with S^2 the variance of the consensus's scores: 0 where annotators agree, one
        half where they disagree on the two by as much as videos differ, whatever the scores' unit. The margin
        D / sD cannot say that: it is small also where annotators agree that two videos look alike.
        """
        spread = self.variance[first] + self.variance[second]
        return np.asarray(spread / np.maximum(spread + np.var(self.score), 1e-12))

    def restrict(self, video_ids: Sequence[str]) -> "Consensus":
        """The consensus on those of `video_ids` that it knows, in their order."""
        position = {name: index for index, name in enumerate(self.video_ids)}
        kept = [name for name in video_ids if name in position]
        return self.at(np.array([position[name] for name in kept], dtype=np.int64))

    def at(self, index: np.ndarray) -> "Consensus":
        """The consensus on the videos at these positions."""
        ids = tuple(self.video_ids[place] for place in index)
        return Consensus(ids, self.score[index], self.variance[index], self.cuts)


def random_margins(consensus: Consensus, count: int = 4096, seed: int = 0) -> np.ndarray:
    """Margins (count,) of random pairs of different videos."""
    generator = np.random.default_rng(seed)
    n = len(consensus.video_ids)
    first = generator.integers(n, size=count)
    second = (first + generator.integers(1, n, size=count)) % n
    return consensus.margin(first, second)


def balance_of(consensus: Consensus) -> tuple[float, float]:
    """Shares of random pairs that are not similar, and that are clearly different."""
    size = np.abs(random_margins(consensus))
    inner, outer = consensus.cuts
    return float((size > inner).mean()), float((size > outer).mean())


def cuts_for_balance(consensus: Consensus, balance: tuple[float, float]) -> tuple[float, float]:
    """The cuts at which random pairs of this consensus fall into the levels as `balance` says."""
    inner, outer = np.quantile(np.abs(random_margins(consensus)), [1 - balance[0], 1 - balance[1]])
    inner = max(float(inner), 1e-3)
    return inner, max(float(outer), inner + 1e-3)


@dataclass(frozen=True)
class Versions:
    """Distorted versions of videos with what full-reference scores say of them.

    Attributes:
        consensus: of the versions; its `video_ids` name the video of each and may repeat.
        simulators: (n,) the name of each version's simulator, empty for the source.
        levels: (n,) its level.
    """

    consensus: Consensus
    simulators: tuple[str, ...]
    levels: npt.NDArray[np.int64]


def _table(columns: Mapping[str, object]) -> pa.Table:
    return pa.table(dict(columns), schema=PAIR_SCHEMA)


def _side(names: Sequence[str], simulators: npt.NDArray[Any], levels: npt.NDArray[Any]) -> pa.Array:
    """The distortions (n,) of one side from indices into `names` and levels, both (n, depth); 0 is none."""
    kept = levels > 0
    offsets = np.concatenate([[0], kept.sum(axis=1).cumsum()]).astype(np.int32)
    # A dictionary of the few names: a list of strings of its own for each pair would cost gigabytes.
    chosen = pa.DictionaryArray.from_arrays(simulators[kept].astype(np.int32), pa.array(names, pa.string()))
    entries = pa.StructArray.from_arrays(
        [chosen.cast(pa.string()), pa.array(levels[kept].astype(np.int64))], names=["name", "level"]
    )
    return pa.ListArray.from_arrays(pa.array(offsets), entries)


def label_column(levels: torch.Tensor) -> pa.Array:
    """The column `levels` of distributions (n, 5)."""
    return pa.FixedSizeListArray.from_arrays(pa.array(levels.float().flatten().numpy()), len(LEVELS))


def _names(video_ids: Sequence[str], chosen: npt.NDArray[Any]) -> pa.Array:
    return pa.array(video_ids, pa.string()).take(pa.array(chosen))


def _synthetic(
    generator: np.random.Generator,
    video_ids: Sequence[str],
    count: int,
    ladder: Mapping[str, int],
    bases: Mapping[str, Sequence[str]],
    composed: float,
    draws: int,
) -> pa.Table:
    names = list(ladder)
    tops = np.array([ladder[name] for name in names])
    # Every simulator gets its share to within one pair: a random draw would leave small rounds uneven.
    simulator = generator.permutation(np.arange(count) % len(names))
    top = tops[simulator]
    first = generator.integers(0, top + 1)
    second = (first + generator.integers(1, top + 1)) % (top + 1)
    video = generator.integers(len(video_ids), size=count)
    draw = generator.integers(draws, size=count)

    base, under = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    if composed:
        for index, name in enumerate(names):
            allowed = np.array([names.index(other) for other in bases.get(name, ())], dtype=np.int64)
            rows = np.flatnonzero(simulator == index)
            rows = rows[generator.random(len(rows)) < composed] if len(allowed) else rows[:0]
            base[rows] = allowed[generator.integers(len(allowed), size=len(rows))] if len(rows) else 0
            under[rows] = generator.integers(1, tops[base[rows]] + 1)

    def side(level: npt.NDArray[Any]) -> pa.Array:
        return _side(names, np.stack([base, simulator], axis=1), np.stack([under, level], axis=1))

    ids = _names(video_ids, video)
    return _table(
        {
            "first": ids,
            "second": ids,
            "draw_first": draw,
            "draw_second": draw,
            "distortions_first": side(first),
            "distortions_second": side(second),
            "source": pa.repeat("synthetic", count),
            "hard": pa.repeat(False, count),
            "margin": pa.nulls(count, pa.float32()),
            "levels": label_column(severity_levels(torch.from_numpy(first), torch.from_numpy(second))),
        }
    )


def labels_from_scores(
    consensus: Consensus,
    first: npt.NDArray[Any],
    second: npt.NDArray[Any],
    blur: float,
    smoothing: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Margins (m,) and labels (m, 5), float32, of the consensus's positions `first` and `second` (m,)."""
    margin = torch.from_numpy(consensus.margin(first, second)).float()
    labels = soft_levels(margin, consensus.cuts, blur)
    if smoothing:
        weight = smoothing * torch.from_numpy(consensus.doubt(first, second)).float()
        labels = torch.lerp(labels, torch.full_like(labels, 1 / len(LEVELS)), weight[:, None])
    return margin, labels


def confident(
    consensus: Consensus,
    first: npt.NDArray[Any],
    second: npt.NDArray[Any],
    blur: float,
    least: float,
) -> npt.NDArray[np.bool_]:
    """Which (m,) of these pairs have a level of probability `least` or more, any smoothing apart."""
    if least <= 0:
        return np.ones(len(first), dtype=bool)
    _, labels = labels_from_scores(consensus, first, second, blur)
    return np.asarray(labels.amax(dim=-1).numpy() >= least)


def pairs_from_scores(
    generator: np.random.Generator,
    consensus: Consensus,
    first: npt.NDArray[Any],
    second: npt.NDArray[Any],
    draws: int,
    blur: float,
    versions: Versions | None = None,
    smoothing: float = 0.0,
    source: str = "teacher",
) -> pa.Table:
    """Pairs of the consensus's positions `first` and `second`, labelled by its margins."""
    margin, labels = labels_from_scores(consensus, first, second, blur, smoothing)
    count = len(first)
    if versions is None:
        names = np.array([""])
        which = levels = np.zeros(len(consensus.video_ids), dtype=np.int64)
    else:
        names, which = np.unique(np.array(versions.simulators), return_inverse=True)
        levels = versions.levels

    def side(chosen: npt.NDArray[Any]) -> pa.Array:
        return _side(list(names), which[chosen][:, None], levels[chosen][:, None])

    return _table(
        {
            "first": _names(consensus.video_ids, first),
            "second": _names(consensus.video_ids, second),
            "draw_first": generator.integers(draws, size=count),
            "draw_second": generator.integers(draws, size=count),
            "distortions_first": side(first),
            "distortions_second": side(second),
            "source": pa.repeat(source, count),
            "hard": pa.repeat(False, count),
            "margin": pa.array(margin.numpy()),
            "levels": label_column(labels),
        }
    )


CANDIDATES = 2**20
"""Random pairs looked at in one go: what drawing from a large corpus needs of memory."""


def balanced(
    generator: np.random.Generator,
    consensus: Consensus,
    count: int,
    blur: float = 0.5,
    min_confidence: float = 0.0,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positions of `count` ordered pairs, as evenly over the five hard levels as the candidates allow.

    Two versions of one video are no candidates, nor are pairs whose likeliest level has less than
    `min_confidence`.

    Raises:
        InputError: no pair is confident enough.
    """
    if not count:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    n = len(consensus.video_ids)
    known = pa.array(consensus.video_ids, pa.string()).dictionary_encode()
    video = known.indices.to_numpy()
    inner, outer = consensus.cuts
    edges = np.array([-outer, -inner, inner, outer])
    total = n * (n - 1)
    few = total <= 2 * CANDIDATES
    kept: list[tuple[npt.NDArray[np.int64], ...]] = []
    counts = np.zeros(len(LEVELS), dtype=np.int64)
    seen = 0
    while seen < max(20 * count, CANDIDATES) and counts.min() < -(-count // len(LEVELS)):
        codes = (
            generator.permutation(n * (n - 1)) if few else generator.integers(n * (n - 1), size=CANDIDATES)
        )
        seen += len(codes)
        first = codes // (n - 1)
        second = codes % (n - 1)
        second += second >= first
        wanted = video[first] != video[second]
        wanted &= confident(consensus, first, second, blur, min_confidence)
        first, second = first[wanted], second[wanted]
        level = np.searchsorted(edges, consensus.margin(first, second))
        kept.append((first, second, level))
        counts += np.bincount(level, minlength=len(LEVELS))
        if few:  # these were all pairs there are
            break
    first, second, level = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    if not len(first):
        raise InputError(
            f"no pair of the {n} scored videos has a label that gives one level {min_confidence}: lower "
            "data.min_confidence, or set data.teacher_pairs to 0."
        )
    # Rank within its level: taking pairs in order of that rank takes each level in turn until one is used up.
    order = np.argsort(level, kind="stable")
    starts = np.searchsorted(level[order], np.arange(len(LEVELS)))
    turn = np.empty(len(level), dtype=np.int64)
    turn[order] = np.arange(len(level)) - starts[level[order]]
    chosen = np.argsort(turn, kind="stable")[:count]
    chosen = np.resize(chosen, count)  # a small corpus has fewer pairs than were asked for: they come again
    return first[chosen], second[chosen]


def draw_pairs(
    video_ids: Sequence[str],
    ladder: Mapping[str, int],
    *,
    seed: int,
    round: int,
    synthetic: int,
    teacher: int = 0,
    reference: int = 0,
    others: pa.Table | None = None,
    consensus: Consensus | None = None,
    versions: Versions | None = None,
    bases: Mapping[str, Sequence[str]] | None = None,
    composed: float = 0.0,
    draws: int = 8,
    blur: float = 0.5,
    min_confidence: float = 0.0,
    smoothing: float = 0.0,
) -> pa.Table:
    """Draws the pair table of one round.

    Args:
        video_ids: the split's videos.
        ladder: simulator name -> number of levels above the source.
        seed: with `round`, all that the draw depends on besides its arguments.
        round: number of the round.
        synthetic: number of pairs of one source under two severities of one simulator.
        teacher: number of pairs of different videos labelled by the consensus, balanced over the five levels.
        reference: number of pairs of versions of different videos labelled by full-reference scores,
            balanced likewise.
        others: pairs to be mixed in.
        consensus: scores of the videos; needed where `teacher` is not 0.
        versions: scores of distorted versions; needed where `reference` is not 0.
        bases: simulator name -> the simulators that may lie under both sides of its pairs.
        composed: share of the synthetic pairs with such a base, where there is one.
        draws: number of different clips (times and windows) of a video that pairs are drawn from.
        blur: of the soft labels, in margins (`levels.soft_levels`).
        min_confidence: pairs labelled by the consensus are not drawn if their likeliest level has less, any
            smoothing apart.
        smoothing: from 0 to less than 1; labels from scores are mixed with the uniform distribution, whose
            weight is this times `Consensus.doubt`. The margin is left as it is, for it holds the variance.

    Returns:
        A table of PAIR_SCHEMA in random order.

    Raises:
        InputError: nothing to draw from.
    """
    if not video_ids or (synthetic and not ladder):
        raise InputError("no pairs can be drawn: the split has no videos or no simulator is named.")
    generator = np.random.default_rng([seed, round])
    parts = []
    if synthetic:
        parts.append(_synthetic(generator, video_ids, synthetic, ladder, bases or {}, composed, draws))
    if teacher:
        known = consensus.restrict(video_ids) if consensus is not None else None
        if known is None or len(known.video_ids) < 2:
            raise InputError(
                "fewer than two videos of the split have teacher scores: name teachers that cover them, "
                "or set data.teacher_pairs to 0."
            )
        first, second = balanced(generator, known, teacher, blur, min_confidence)
        parts.append(pairs_from_scores(generator, known, first, second, draws, blur, smoothing=smoothing))
    if reference:
        if versions is None or len(set(versions.consensus.video_ids)) < 2:
            raise InputError(
                "fewer than two videos of the split have versions with full-reference scores: name "
                "simulators that change pixels in place, or set data.reference_pairs to 0."
            )
        first, second = balanced(generator, versions.consensus, reference)
        scores = versions.consensus
        parts.append(
            pairs_from_scores(
                generator, scores, first, second, draws, blur, versions, smoothing, source="reference"
            )
        )
    if others is not None:
        parts.append(others)
    table = pa.concat_tables(parts)
    return table.take(generator.permutation(len(table)))
