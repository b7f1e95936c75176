"""What the annotators of a round say together, of videos and of distorted versions of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.labels.levels import CUTS


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
        """Return D / sD (m,) of the videos at positions `second` over those at `first`."""
        spread = np.sqrt(self.variance[first] + self.variance[second])
        return np.asarray((self.score[second] - self.score[first]) / np.maximum(spread, 1e-6))

    @property
    def places(self) -> np.ndarray:
        """The scores (n,) in standard deviations of a typical difference.

        Where all variances are equal, the margin of two videos is the difference of their places.
        """
        return np.asarray(self.score / np.sqrt(np.maximum(2 * np.mean(self.variance), 1e-12)))

    def doubt(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return how little the scores of two videos say of them, (m,) from 0 to 1.

        sD^2 / (sD^2 + S^2) with S^2 the variance of the consensus's scores: 0 where annotators agree, one
        half where they disagree on the two by as much as videos differ, whatever the scores' unit. The margin
        D / sD cannot say that: it is small also where annotators agree that two videos look alike.
        """
        spread = self.variance[first] + self.variance[second]
        return np.asarray(spread / np.maximum(spread + np.var(self.score), 1e-12))

    def restrict(self, video_ids: Sequence[str]) -> "Consensus":
        """Return the consensus on those of `video_ids` that it knows, in their order."""
        position = {name: index for index, name in enumerate(self.video_ids)}
        kept = [name for name in video_ids if name in position]
        return self.at(np.array([position[name] for name in kept], dtype=np.int64))

    def at(self, index: np.ndarray) -> "Consensus":
        """Return the consensus on the videos at these positions."""
        ids = tuple(self.video_ids[place] for place in index)
        return Consensus(ids, self.score[index], self.variance[index], self.cuts)


def random_margins(consensus: Consensus, count: int = 4096, seed: int = 0) -> np.ndarray:
    """Return margins (count,) of random pairs of different videos."""
    generator = np.random.default_rng(seed)
    n = len(consensus.video_ids)
    first = generator.integers(n, size=count)
    second = (first + generator.integers(1, n, size=count)) % n
    return consensus.margin(first, second)


def balance_of(consensus: Consensus) -> tuple[float, float]:
    """Return the shares of random pairs that are not similar, and that are clearly different."""
    size = np.abs(random_margins(consensus))
    inner, outer = consensus.cuts
    return float((size > inner).mean()), float((size > outer).mean())


def cuts_for_balance(consensus: Consensus, balance: tuple[float, float]) -> tuple[float, float]:
    """Return the cuts at which random pairs of this consensus fall into the levels as `balance` says."""
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

    def restrict(self, video_ids: Sequence[str]) -> "Versions":
        """Return the versions of these videos."""
        scores, wanted = self.consensus, pa.array(video_ids, pa.string())
        kept = np.flatnonzero(pc.is_in(pa.array(scores.video_ids, pa.string()), wanted))
        return Versions(scores.at(kept), tuple(self.simulators[index] for index in kept), self.levels[kept])
