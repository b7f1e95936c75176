"""How long a fit on the embedded corpus takes without a GPU, to be said before it begins.

Known are two runs of round.yaml on two cores: on a quiet machine, and on one that other work shared
(docs/first_loop.md).
"""

from datamodules.round_data import RoundDataModule

ONCE = (257.0, 361.0)
"""Seconds of all but the later rounds: the corpus, the labels of teachers and metric, and the first round."""

ROUND = (26.0, 49.0)
"""Seconds of each later round."""

PAIRS, CORES = 2400, 2
"""Of a round, and of the machine, that were measured."""


def time_ahead(data: RoundDataModule, rounds: int, cores: int) -> str | None:
    """Return in one line how long a run takes; None for runs that are nothing like the measured ones.

    Args:
        data: of the run.
        rounds: of the run.
        cores: of the machine; more than `data.workers` are of little use.

    Example:
        >>> from datamodules.pairs import PairCounts
        >>> counts = PairCounts(synthetic=144, teacher=384, reference=1872)
        >>> time_ahead(RoundDataModule(workers=2, counts=counts), rounds=3, cores=2)
        'about 5 to 8 minutes on 2 cores; less where corpus and labels are cached'
        >>> time_ahead(RoundDataModule("videos"), rounds=3, cores=2) is None
        True
    """
    if data.embedded is None or data.counts.total(0, data.later) != PAIRS:
        return None
    used = min(cores, max(1, data.workers))
    low, high = (
        CORES / used * (once + (rounds - 1) * one) / 60 for once, one in zip(ONCE, ROUND, strict=True)
    )
    on = "1 core" if used == 1 else f"{used} cores"
    return f"about {low:.0f} to {high:.0f} minutes on {on}; less where corpus and labels are cached"
