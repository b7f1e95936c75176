"""The language model's sequences for a batch of texts or clips.

Clips of different sizes make sequences of different lengths. They are padded at their end: in a causal model
nothing that counts comes after the padding, so no mask is needed and the fast attention kernels stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from datamodules.devices import for_device


@dataclass(frozen=True)
class Tokens:
    """B sequences of embeddings, each a part of a prompt.

    Attributes:
        embeddings: (B, L, D), zero beyond a sequence's length.
        lengths: of the B sequences.
        positions: (B, L, 3) rotary positions in time, height and width from the part's own start; None where
            they just count.
        advance: by how much positions have moved on after each of the B sequences.
        deep: (B, L, layers, D) features to be added after the first layers (DeepStack), zero where there is
            no picture; None for a model without.
    """

    embeddings: Tensor
    lengths: tuple[int, ...]
    advance: tuple[int, ...]
    positions: Tensor | None = None
    deep: Tensor | None = None

    @classmethod
    def alike(
        cls,
        embeddings: Tensor,
        positions: Tensor | None = None,
        advance: int | None = None,
        deep: Tensor | None = None,
    ) -> "Tokens":
        """Return sequences that are all L long, with the same positions (L, 3) and advance."""
        batch, length = embeddings.shape[:2]
        return cls(
            embeddings,
            (length,) * batch,
            (length if advance is None else advance,) * batch,
            None if positions is None else positions.expand(batch, -1, -1),
            deep,
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, rows: Sequence[int]) -> "Tokens":
        """Return the sequences at these rows, in this order, padded to the longest; a row may come often."""
        lengths = tuple(self.lengths[row] for row in rows)
        longest = max(lengths)
        index = for_device(torch.tensor(rows), self.embeddings.device)

        def taken(values: Tensor) -> Tensor:
            return values[:, :longest].index_select(0, index)

        return Tokens(
            taken(self.embeddings),
            lengths,
            tuple(self.advance[row] for row in rows),
            None if self.positions is None else taken(self.positions),
            None if self.deep is None else taken(self.deep),
        )

    def expand(self, batch: int) -> "Tokens":
        """Return one sequence as a batch of equal sequences."""
        return Tokens(
            self.embeddings.expand(batch, -1, -1),
            self.lengths * batch,
            self.advance * batch,
            None if self.positions is None else self.positions.expand(batch, -1, -1),
            None if self.deep is None else self.deep.expand(batch, -1, -1, -1),
        )

    def after(self, advance: Sequence[int]) -> "Tokens":
        """Return the sequences with their given positions moved on, as they follow a prefix."""
        if self.positions is None:
            return self
        moved = for_device(torch.tensor(advance), self.positions.device)[:, None, None]
        return replace(self, positions=self.positions + moved)

    def place(self) -> Tensor:
        """Return the positions (B, L, 3), counted where none are given."""
        if self.positions is not None:
            return self.positions
        batch, length = self.embeddings.shape[:2]
        counted = torch.arange(length, device=self.embeddings.device)
        return counted[None, :, None].expand(batch, -1, 3)


def stack(groups: Sequence[Tokens]) -> Tokens:
    """Return the sequences of several batches as one batch, in order."""
    if len(groups) == 1:
        return groups[0]
    return Tokens(
        _stack([group.embeddings for group in groups]),
        tuple(length for group in groups for length in group.lengths),
        tuple(moved for group in groups for moved in group.advance),
        None if groups[0].positions is None else _stack([group.place() for group in groups]),
        None if groups[0].deep is None else _stack([_deep(group, groups[0].deep) for group in groups]),
    )


def _stack(batches: Sequence[Tensor]) -> Tensor:
    if len({batch.shape[1] for batch in batches}) == 1:
        return torch.cat(list(batches))
    return pad_sequence([row for batch in batches for row in batch], batch_first=True)


def join(*parts: Tokens) -> Tokens:
    """Join the parts of each of B prompts: row b is the first part's row b, then the second's, and so on."""
    batch = len(parts[0])
    advance = tuple(sum(part.advance[row] for part in parts) for row in range(batch))
    lengths = tuple(sum(part.lengths[row] for part in parts) for row in range(batch))
    positions = deep = None
    if any(part.positions is not None for part in parts):
        moved, placed = [0] * batch, []
        for part in parts:
            start = for_device(torch.tensor(moved), part.embeddings.device)
            placed.append(part.place() + start[:, None, None])
            moved = [before + step for before, step in zip(moved, part.advance, strict=True)]
        positions = _join(placed, parts)
    features = next((part.deep for part in parts if part.deep is not None), None)
    if features is not None:
        deep = _join([_deep(part, features) for part in parts], parts)
    return Tokens(_join([part.embeddings for part in parts], parts), lengths, advance, positions, deep)


def _join(pieces: Sequence[Tensor], parts: Sequence[Tokens]) -> Tensor:
    if all(set(part.lengths) == {part.embeddings.shape[1]} for part in parts):
        return torch.cat(list(pieces), dim=1)
    rows = [
        torch.cat([piece[row, : part.lengths[row]] for piece, part in zip(pieces, parts, strict=True)])
        for row in range(len(parts[0]))
    ]
    return pad_sequence(rows, batch_first=True)


def _deep(part: Tokens, like: Tensor) -> Tensor:
    if part.deep is not None:
        return part.deep
    batch, length = part.embeddings.shape[:2]
    return like.new_zeros(batch, length, *like.shape[2:])
