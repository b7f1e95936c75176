"""The pair table: which clips are compared in a round, how each side is distorted, and the label.

A table is drawn from (seed, round) alone, on the host, before training: no process, worker or device draws
anything later that could change a pair or its label.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from datamodules.errors import InputError
from datamodules.levels import CUTS, LEVELS, hard_levels, severity_levels, soft_levels

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

    def restrict(self, video_ids: Sequence[str]) -> "Consensus":
        """The consensus on those of `video_ids` that it knows, in their order."""
        position = {name: index for index, name in enumerate(self.video_ids)}
        kept = [name for name in video_ids if name in position]
        index = np.array([position[name] for name in kept], dtype=np.int64)
        return Consensus(tuple(kept), self.score[index], self.variance[index], self.cuts)


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


def _table(columns: Mapping[str, object]) -> pa.Table:
    return pa.table(dict(columns), schema=PAIR_SCHEMA)


def _synthetic(
    generator: np.random.Generator,
    video_ids: Sequence[str],
    count: int,
    ladder: Mapping[str, int],
    draws: int,
) -> pa.Table:
    names = list(ladder)
    # Every simulator gets its share to within one pair: a random draw would leave small rounds uneven.
    simulator = generator.permutation(np.arange(count) % len(names))
    tops = np.array([ladder[name] for name in names])[simulator]
    first = generator.integers(0, tops + 1)
    second = (first + generator.integers(1, tops + 1)) % (tops + 1)
    video = generator.integers(len(video_ids), size=count)
    draw = generator.integers(draws, size=count)
    label = severity_levels(torch.from_numpy(first), torch.from_numpy(second))

    def side(levels: np.ndarray) -> list[list[dict[str, object]]]:
        return [
            [{"name": names[s], "level": int(level)}] if level else []
            for s, level in zip(simulator, levels, strict=True)
        ]

    ids = [video_ids[v] for v in video]
    return _table(
        {
            "first": ids,
            "second": ids,
            "draw_first": draw,
            "draw_second": draw,
            "distortions_first": side(first),
            "distortions_second": side(second),
            "source": ["synthetic"] * count,
            "hard": [False] * count,
            "margin": [None] * count,
            "levels": label.tolist(),
        }
    )


def _from_scores(
    generator: np.random.Generator,
    consensus: Consensus,
    first: np.ndarray,
    second: np.ndarray,
    draws: int,
    blur: float,
) -> pa.Table:
    margin = torch.from_numpy(consensus.margin(first, second)).float()
    count = len(first)
    return _table(
        {
            "first": [consensus.video_ids[v] for v in first],
            "second": [consensus.video_ids[v] for v in second],
            "draw_first": generator.integers(draws, size=count),
            "draw_second": generator.integers(draws, size=count),
            "distortions_first": [[]] * count,
            "distortions_second": [[]] * count,
            "source": ["teacher"] * count,
            "hard": [False] * count,
            "margin": margin.tolist(),
            "levels": soft_levels(margin, consensus.cuts, blur).tolist(),
        }
    )


def _balanced(
    generator: np.random.Generator, consensus: Consensus, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of `count` ordered pairs, as evenly over the five hard levels as the candidates allow."""
    n = len(consensus.video_ids)
    candidates = min(n * (n - 1), 20 * count)
    codes = generator.choice(n * (n - 1), size=candidates, replace=False) if n < 2048 else None
    if codes is None:  # no room for a list of all pairs; a repeated pair is then rare enough
        codes = generator.integers(n * (n - 1), size=candidates)
    first = codes // (n - 1)
    second = codes % (n - 1)
    second += second >= first
    margin = torch.from_numpy(consensus.margin(first, second))
    level = hard_levels(soft_levels(margin, consensus.cuts, blur=0)).numpy()
    # Rank within its level: taking pairs in order of that rank takes each level in turn until one is used up.
    order = np.argsort(level, kind="stable")
    starts = np.searchsorted(level[order], np.arange(len(LEVELS)))
    turn = np.empty(candidates, dtype=np.int64)
    turn[order] = np.arange(candidates) - starts[level[order]]
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
    hard: pa.Table | None = None,
    consensus: Consensus | None = None,
    draws: int = 8,
    blur: float = 0.5,
) -> pa.Table:
    """Draws the pair table of one round.

    Args:
        video_ids: the split's videos.
        ladder: simulator name -> number of levels above the source.
        seed: with `round`, all that the draw depends on besides its arguments.
        round: number of the round.
        synthetic: number of pairs of one source under two severities of one simulator.
        teacher: number of pairs of different videos labelled by the consensus, balanced over the five levels.
        hard: pairs to be mixed in.
        consensus: scores of the videos; needed where `teacher` is not 0.
        draws: number of different clips (times and windows) of a video that pairs are drawn from.
        blur: of the soft labels, in margins (`levels.soft_levels`).

    Returns:
        A table of PAIR_SCHEMA in random order.

    Raises:
        InputError: nothing to draw from.
    """
    if not video_ids or (synthetic and not ladder):
        raise InputError("no pairs can be drawn: the split has no videos or no simulator is named.")
    generator = np.random.default_rng([seed, round])
    parts = [_synthetic(generator, video_ids, synthetic, ladder, draws)] if synthetic else []
    if teacher:
        known = consensus.restrict(video_ids) if consensus is not None else None
        if known is None or len(known.video_ids) < 2:
            raise InputError(
                "fewer than two videos of the split have teacher scores: name teachers that cover them, "
                "or set data.teacher_pairs to 0."
            )
        first, second = _balanced(generator, known, teacher)
        parts.append(_from_scores(generator, known, first, second, draws, blur))
    if hard is not None:
        parts.append(hard)
    table = pa.concat_tables(parts)
    return table.take(generator.permutation(len(table)))


def hard_synthetic(
    pairs: pa.Table, wrong: torch.Tensor, count: int, generator: np.random.Generator
) -> pa.Table:
    """Draws at most `count` of a round's synthetic pairs that were ranked wrongly, flagged hard.

    Args:
        pairs: the round's table.
        wrong: (len(pairs),) bool.
        count: how many at most.
        generator: draws them.
    """
    synthetic = pc.equal(pairs["source"], "synthetic").to_numpy()
    rows = np.flatnonzero(synthetic & wrong.numpy())
    found = pairs.take(generator.permutation(rows)[:count])
    return _flagged_hard(found)


def hard_teacher(
    attacker: Consensus,
    defender: Consensus,
    count: int,
    generator: np.random.Generator,
    *,
    draws: int,
    blur: float,
    bins: int = 5,
) -> pa.Table:
    """Finds pairs of different videos by maximum differentiation (gMAD, Ma et al. 2018), flagged hard.

    Inside each quality bin of one side, which finds the bin's videos alike, the pairs on which the other
    side's scores differ most: half of the pairs with the attacker attacking, half with the roles swapped.

    Args:
        attacker: this round's annotator.
        defender: the teachers.
        count: how many at most.
        generator: draws the order of the sides and the clips.
        draws: clips of a video to draw from.
        blur: of the soft labels, in margins.
        bins: quality bins.
    """
    common = defender.restrict(attacker.video_ids)
    attacker = attacker.restrict(common.video_ids)
    chosen: list[tuple[int, int]] = []
    for attacks, defends in ((attacker, common), (common, attacker)):
        for members in np.array_split(np.argsort(defends.score, kind="stable"), bins):
            ranked = members[np.argsort(attacks.score[members], kind="stable")]
            most = min(len(ranked) // 2, -(-count // (2 * bins)))
            chosen += [(int(ranked[i]), int(ranked[-1 - i])) for i in range(most)]
    ordered = np.array(chosen[:count], dtype=np.int64).reshape(-1, 2)
    swap = generator.integers(2, size=len(ordered)).astype(bool)
    ordered[swap] = ordered[swap][:, ::-1]
    return _flagged_hard(_from_scores(generator, attacker, ordered[:, 0], ordered[:, 1], draws, blur))


def _flagged_hard(pairs: pa.Table) -> pa.Table:
    column = pairs.schema.get_field_index("hard")
    return pairs.set_column(column, PAIR_SCHEMA.field("hard"), pa.array([True] * len(pairs), pa.bool_()))


def flipped(pairs: pa.Table, consensus: Consensus, blur: float = 0.5) -> float:
    """Share of the pairs labelled from scores whose level another consensus changes; nan without any.

    Pairs of a video that the other consensus does not know are left out.
    """
    real = pairs.filter(pc.equal(pairs["source"], "teacher"))
    known = pa.array(consensus.video_ids, pa.string())
    real = real.filter(pc.and_(pc.is_in(real["first"], known), pc.is_in(real["second"], known)))
    if not len(real):
        return float("nan")
    first = pc.index_in(real["first"], known).to_numpy()
    second = pc.index_in(real["second"], known).to_numpy()
    before = hard_levels(torch.tensor(real["levels"].to_pylist()))
    margin = torch.from_numpy(consensus.margin(first, second))
    after = hard_levels(soft_levels(margin, consensus.cuts, blur))
    return float((before != after).float().mean())
