"""Which losses are trained, and how much the pairs of each source count."""

from collections.abc import Callable
from dataclasses import dataclass

from datamodules.checks import check_choice, check_least
from datamodules.pairs import SOURCES
from vqa_lightning.losses.ordinal import PointwiseLoss
from vqa_lightning.losses.pairwise import LevelCrossEntropy, PairwiseLoss
from vqa_lightning.losses.pointwise import OrdinalThurstone


@dataclass(frozen=True)
class Losses:
    """Which losses are trained, and how much the pairs of each source count.

    Args:
        pairwise: loss on the logits of the level words.
        pointwise: loss on the difference of the scores.
        across: weight, beside the pointwise loss of a pair, of its sides' comparisons with all other sides of
            the batch whose labels share a scale (`across_batch`); 0 leaves them out.
        source_weights: factor on the loss of a pair, by the source of its label (`synthetic`, `teacher`,
            `reference`, `human`); 1 for a source that is not named.

    Raises:
        InputError: `source_weights` names an unknown source, or a weight is negative.

    Example:
        >>> Losses(source_weights={"teacher": 0.5}).weights()
        [1.0, 0.5, 1.0, 1.0]
    """

    pairwise: Callable[[], PairwiseLoss] = LevelCrossEntropy
    pointwise: Callable[[], PointwiseLoss] = OrdinalThurstone
    across: float = 1.0
    source_weights: dict[str, float] | None = None

    def __post_init__(self) -> None:
        """Check the factors."""
        check_least("model.loss.across", self.across, 0)
        for source, weight in (self.source_weights or {}).items():
            check_choice("a source of model.loss.source_weights", source, SOURCES)
            check_least(f"model.loss.source_weights.{source}", weight, 0)

    def weights(self) -> list[float]:
        """Return the factor of every source, in the order of `pairs.SOURCES`."""
        return [(self.source_weights or {}).get(source, 1.0) for source in SOURCES]
