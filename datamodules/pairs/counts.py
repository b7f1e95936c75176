"""How many pairs of each source a round has: the settings `data.counts` and `data.later`.

All sizes are known before the first round, because the schedule of learning rates needs them: pairs that a
round cannot keep or find are replaced by pairs drawn afresh.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from datamodules.checks import check_least
from datamodules.errors import InputError
from datamodules.pairs.families import check_families, check_weights, shared_out
from datamodules.pairs.hard.recorded import HardPairs
from datamodules.pairs.table import SOURCES
from datamodules.simulators import Simulator


@dataclass(frozen=True)
class LaterRounds:
    """What the rounds after the first draw and keep.

    Args:
        shares: source (synthetic, teacher, reference, human) -> share of the first round's pairs of that
            source that each later round draws anew; 1 where no share is given.
        union: a round also trains on the pairs of all rounds before, the annotators' pairs labelled anew.
        hard: which of the pairs that are drawn anew are hard pairs.
        families: as `data.counts.families`, for the synthetic pairs that later rounds draw anew; null: as in
            the first round.

    Raises:
        InputError: a source is unknown, or a share is negative or not finite.
    """

    shares: dict[str, float] = field(default_factory=dict)
    union: bool = False
    hard: HardPairs = HardPairs()  # noqa: RUF009 - frozen
    families: dict[str, float] | None = None

    def __post_init__(self) -> None:
        """Check the shares."""
        for source, share in self.shares.items():
            if source not in SOURCES or not 0 <= share < float("inf"):
                raise InputError(
                    "data.later.shares must have a number of 0 or more for any of "
                    f"{', '.join(SOURCES)}; got {source}: {share}."
                )
        check_weights("data.later.families", self.families)


@dataclass(frozen=True)
class PairCounts:
    """How many pairs a round has, by the source of their label.

    Args:
        synthetic: pairs of one video under two severities of a simulator.
        families: family of simulators -> its part of the synthetic pairs, in any unit, for each family that
            data.simulators has; the simulators of a family share its pairs alike. Null: all simulators alike.
        teacher: pairs of different videos, labelled by the teachers and in later rounds by the student.
        reference: pairs of distorted versions of different videos, labelled by how far full-reference scores
            put each version below its source; with 0 no such score is computed.
        human: pairs of different videos, labelled by their MOS; with 0 no human label is read.
        evaluation: synthetic pairs on the select split and on the report split, the same in every round.

    Raises:
        InputError: a count is negative, or nothing is evaluated.
    """

    synthetic: int = 2400
    teacher: int = 1200
    reference: int = 0
    human: int = 0
    evaluation: int = 480
    families: dict[str, float] | None = None

    def __post_init__(self) -> None:
        """Check the counts."""
        for source in SOURCES:
            check_least(f"data.counts.{source}", self.of(source), 0)
        check_least("data.counts.evaluation", self.evaluation, 1)
        check_weights("data.counts.families", self.families)

    def of(self, source: str) -> int:
        """Return the number of the first round's pairs of a source."""
        return int(getattr(self, source))

    def drawn(self, source: str, round: int, later: LaterRounds) -> int:
        """Return how many pairs of a source a round draws anew."""
        return self.of(source) if round == 0 else part(later.shares.get(source, 1.0), self.of(source))

    def trained(self, source: str, round: int, later: LaterRounds) -> int:
        """Return how many pairs of a source a round trains on, imported pairs apart."""
        rounds = range(round + 1) if later.union else (round,)
        return sum(self.drawn(source, each, later) for each in rounds)

    def synthetic_drawn(
        self, round: int, later: LaterRounds, simulators: Mapping[str, Simulator]
    ) -> dict[str, int] | None:
        """Return how many synthetic pairs of each simulator a round draws anew; None: all alike."""
        if self.families is None and later.families is None:
            return None
        weights = later.families if round and later.families is not None else self.families
        return shared_out(self.drawn("synthetic", round, later), simulators, weights)

    def synthetic_trained(
        self, round: int, later: LaterRounds, simulators: Mapping[str, Simulator]
    ) -> Counter[str] | None:
        """Return how many synthetic pairs of each simulator a round trains on; None: nobody asks."""
        rounds = range(round + 1) if later.union else (round,)
        each = [self.synthetic_drawn(one, later, simulators) for one in rounds]
        return None if None in each else sum(map(Counter, filter(None, each)), Counter())

    def check_families(self, later: LaterRounds, simulators: Mapping[str, Simulator]) -> None:
        """Check that the families that have a part are those of the simulators.

        Raises:
            InputError: they are not.
        """
        check_families("data.counts.families", self.families, simulators)
        check_families("data.later.families", later.families, simulators)

    def total(self, round: int, later: LaterRounds) -> int:
        """Return how many pairs a round trains on, imported pairs apart."""
        return sum(self.trained(source, round, later) for source in SOURCES)

    def check_batches(self, batch_size: int, later: LaterRounds) -> None:
        """Check that every round fills a batch.

        Raises:
            InputError: a round does not.
        """
        for round, settings in enumerate(("data.counts", "data.counts and data.later.shares")):
            total = self.total(round, later)
            if total < batch_size:
                raise InputError(
                    f"{settings} must give a round at least data.batch_size {batch_size} pairs; got {total}."
                )


def part(share: float, count: int) -> int:
    """Return a share of a number, rounded down.

    Example:
        >>> part(0.29, 100), int(0.29 * 100)
        (29, 28)
    """
    return int(round(share * count, 6))


def counted(pairs: pa.Table) -> Mapping[str, int]:
    """Count the pairs of a table by source."""
    return {source: pc.sum(pc.equal(pairs["source"], source)).as_py() or 0 for source in SOURCES}
