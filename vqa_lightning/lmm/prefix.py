"""The beginning of a prompt, read once and kept as each layer's keys and values.

A causal model's states do not depend on what follows: a clip that many others are compared with, each time
after the same words, costs the language model nothing from the second time on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


@dataclass(frozen=True)
class Prefix:
    """The beginnings of B prompts, all L tokens long.

    Attributes:
        layers: of each layer of the language model keys and values, (B, heads, L, width of a head) each.
        advance: how far rotary positions have moved on after each of the B.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    advance: tuple[int, ...]

    @classmethod
    def of(cls, cache: DynamicCache, advance: tuple[int, ...]) -> "Prefix":
        """Take what a cache holds after the language model has read the beginnings."""
        layers = cast(list[DynamicLayer], cache.layers)
        return cls(tuple((cast(Tensor, one.keys), cast(Tensor, one.values)) for one in layers), advance)

    @property
    def length(self) -> int:
        """Tokens in each."""
        return self.layers[0][0].shape[-2]

    def take(self, rows: Sequence[int]) -> "Prefix":
        """Return the beginnings at these rows, in this order; a row may be taken often."""
        index = torch.tensor(rows, device=self.layers[0][0].device)
        layers = tuple((keys[index], values[index]) for keys, values in self.layers)
        return Prefix(layers, tuple(self.advance[row] for row in rows))

    def cache(self) -> DynamicCache:
        """Return a cache that the language model can go on from; the prefix itself stays as it is."""
        cache = DynamicCache()
        cache.layers = [_held(keys, values) for keys, values in self.layers]
        return cache


def _held(keys: Tensor, values: Tensor) -> DynamicLayer:
    # Given to the cache's constructor they would be copied, all layers at once.
    layer = DynamicLayer()  # type: ignore[no-untyped-call]
    layer.lazy_initialization(keys, values)
    layer.keys, layer.values = keys, values
    return layer
