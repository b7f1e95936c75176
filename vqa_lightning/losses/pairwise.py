"""Losses of the pairwise judgement: what a pair costs by the level logits at its answer position.

Each pair is weighed by itself and nothing is mixed within a batch, so that a loss is the same however pairs
are spread over devices and accumulated batches.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from datamodules.checks import check_above, check_least
from datamodules.labels import hard_levels


def level_cross_entropy(logits: Tensor, target: Tensor, hard: bool = False) -> Tensor:
    """Return the cross-entropy (B,), float32, of level logits (B, 5) against distributions (B, 5).

    Args:
        logits: of the levels, inferior first.
        target: the labels.
        hard: take the likeliest level of each label for the label. That is METHOD's own level where pairs are
            drawn with `data.labelling.blur` 0; a blurred label near a cut may lean the other way.

    Example:
        >>> level_cross_entropy(torch.zeros(1, 5), torch.tensor([[0.0, 0.0, 0.5, 0.5, 0.0]]))
        tensor([1.6094])
    """
    return F.cross_entropy(logits.float(), hard_levels(target) if hard else target.float(), reduction="none")


def entropy_of(logits: Tensor) -> Tensor:
    """Return the entropy (...) in nats, float32, of the distributions whose logits (..., n) are given.

    Example:
        >>> entropy_of(torch.zeros(2, 5))
        tensor([1.6094, 1.6094])
    """
    log_probabilities = logits.float().log_softmax(-1)
    # Not torch.special.entr: its gradient is infinite where a probability underflows to 0.
    return -(log_probabilities.exp() * log_probabilities).sum(-1)


def position_entropy(hidden: Tensor, weight: Tensor, lengths: Sequence[int], *, chunk: int = 512) -> Tensor:
    """Return the mean entropy of the predicted token over all positions of each sequence.

    The logits of thousands of positions over a vocabulary of 150 000 would take gigabytes. They are made for
    `chunk` positions at a time, and made again in the backward pass, so that no more of them ever exist.

    Args:
        hidden: (B, L, D) last hidden states.
        weight: (vocabulary, D) of the language head, which has no bias in any family.
        lengths: of the B sequences; positions beyond a length are padding and do not count.
        chunk: positions at a time.

    Returns:
        (B,) in nats, float32.

    Example:
        >>> position_entropy(torch.zeros(2, 7, 3), torch.ones(100, 3), [7, 4])
        tensor([4.6052, 4.6052])
    """
    rows = torch.cat([states[:length] for states, length in zip(hidden, lengths, strict=True)])
    entropies = [
        checkpoint(_token_entropy, part, weight, use_reentrant=False)
        for part in torch.split(rows.to(weight.dtype), chunk)
    ]
    return torch.stack([own.mean() for own in torch.split(torch.cat(entropies), list(lengths))])


def _token_entropy(hidden: Tensor, weight: Tensor) -> Tensor:
    return entropy_of(hidden @ weight.T)


class PairwiseLoss(nn.Module, ABC):
    """The cost of a pairwise answer.

    Attributes:
        needs_all_positions: whether `entropy` must be given in training.

    Example:
        >>> class SquaredError(PairwiseLoss):
        ...     def forward(self, logits, target, *, progress, entropy=None):
        ...         return (logits.softmax(-1) - target).square().sum(-1)
        >>> SquaredError()(torch.zeros(1, 5), torch.full((1, 5), 0.2), progress=0.0)
        tensor([0.])
    """

    needs_all_positions = False

    @abstractmethod
    def forward(
        self, logits: Tensor, target: Tensor, *, progress: float, entropy: Tensor | None = None
    ) -> Tensor:
        """Return the loss of each pair (B,), float32.

        Args:
            logits: (B, 5) of the levels, inferior first.
            target: (B, 5) the labels.
            progress: share of the training that is done, from 0 to 1.
            entropy: (B,) of `position_entropy`.
        """


class LevelCrossEntropy(PairwiseLoss):
    """Cross-entropy over the five levels.

    Args:
        hard: against the likeliest level instead of the whole distribution.

    Example:
        >>> LevelCrossEntropy()(torch.zeros(1, 5), torch.eye(5)[[3]], progress=0.0)
        tensor([1.6094])
    """

    def __init__(self, hard: bool = False) -> None:
        super().__init__()
        self.hard = hard

    def forward(
        self, logits: Tensor, target: Tensor, *, progress: float, entropy: Tensor | None = None
    ) -> Tensor:
        """Return the loss of each pair (B,); `progress` and `entropy` do not matter."""
        return level_cross_entropy(logits, target, self.hard)


class ConfidenceCrossEntropy(PairwiseLoss):
    """Cross-entropy that gives way to the model's own confidence where labels are weak (METHOD section 4).

    The loss is (1 - l) CE + l H with H the entropy of the prediction, l = a min(1, t / warmup) and
    a = e^(H / T) / (e^(H / T) + e^(CE / T)), which passes no gradient; t is the share of training done and T
    falls linearly from `start` to `end` while t goes from 0 to `warmup`. Source: arXiv 2505.03631, after the
    auxiliary confidence loss of Burns et al., "Weak-to-Strong Generalization" (2023).

    CE, H and a belong to a pair and are not a batch's means. With one pair a step and device, as in the
    released code, both are the same; with more pairs a sure mistake is not excused by its neighbours. In
    evaluation mode the loss is CE alone, so that epochs can be compared.

    Args:
        entropy: over the level words at the answer (`word`), or the mean over the whole vocabulary at all
            positions of the prompt (`all`), as the released code has it. That mean is easily above CE (ln V
            for an untrained model); l is then nearly 1 and the labels hardly count.
        warmup: share of training over which l rises and T falls, at least 0; with 0 there is no warm-up.
        start: T at the beginning, above 0.
        end: T after the warm-up, above 0.
        hard: CE against the likeliest level instead of the whole distribution.

    Raises:
        InputError: a number out of its range.

    Example:
        >>> loss = ConfidenceCrossEntropy()
        >>> unsure, label = torch.tensor([[1.5, 0.0, 0.0, 0.0, 0.0]]), torch.eye(5)[[0]]
        >>> loss(unsure, label, progress=0.0), loss(unsure, label, progress=1.0)
        (tensor([0.6379]), tensor([1.3447]))
    """

    def __init__(
        self,
        entropy: Literal["word", "all"] = "word",
        warmup: float = 0.1,
        start: float = 0.5,
        end: float = 0.1,
        hard: bool = False,
    ) -> None:
        super().__init__()
        check_least("model.loss.pairwise.warmup", warmup, 0)
        check_above("model.loss.pairwise.start", start, 0)
        check_above("model.loss.pairwise.end", end, 0)
        self.needs_all_positions = entropy == "all"
        self.warmup = warmup
        self.start = start
        self.end = end
        self.hard = hard

    def schedule(self, progress: float) -> tuple[float, float]:
        """Return the largest l and the temperature T when the share `progress` of training is done."""
        warm = min(1.0, progress / self.warmup) if self.warmup else 1.0
        return warm, self.start + (self.end - self.start) * warm

    def forward(
        self, logits: Tensor, target: Tensor, *, progress: float, entropy: Tensor | None = None
    ) -> Tensor:
        """Return the loss of each pair (B,), float32.

        Raises:
            ValueError: in training, `entropy` is needed and not given.
        """
        cross_entropy = level_cross_entropy(logits, target, self.hard)
        if not self.training:
            return cross_entropy
        if not self.needs_all_positions:
            entropy = entropy_of(logits)
        elif entropy is None:
            raise ValueError("the entropy over all positions is needed: see position_entropy.")
        largest, temperature = self.schedule(progress)
        # The ratio of exponentials as a logistic, which cannot overflow.
        weight = largest * torch.sigmoid((entropy - cross_entropy).detach() / temperature)
        return torch.lerp(cross_entropy, entropy.float(), weight)
