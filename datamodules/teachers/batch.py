"""Clips that several teachers look at: distorted once, and what else they share computed once."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence, Set
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from datamodules.labels import ClipItem, Request
from datamodules.labels.clips import distorted
from datamodules.labels.label_store import Key

T = TypeVar("T")


class Batch:
    """Items of one size, read alike.

    Args:
        requests: what is asked of each item.
        items: the clips, as they were read.
        device: where they are distorted and scored.
    """

    def __init__(self, requests: Sequence[Request], items: Sequence[ClipItem], device: torch.device) -> None:
        self.requests = requests
        self.items = items
        self.device = device
        self._known: dict[Hashable, Any] = {}

    @cached_property
    def clips(self) -> Tensor:
        """Distorted clips (V, D, T, C, H, W) in [0, 1] of V items with D draws."""
        clips = [
            distorted(item.frames.to(self.device), item.times, request)
            for request, item in zip(self.requests, self.items, strict=True)
        ]
        return clips[0][None] if len(clips) == 1 else torch.stack(clips)

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return what stands under a key; it is computed once, whoever asks."""
        if key not in self._known:
            self._known[key] = compute()
        found: T = self._known[key]
        return found

    def of(self, keys: Set[Key]) -> "Batch":
        """Return the batch of those items whose requests have one of these keys: itself, if all have."""
        kept = [place for place, request in enumerate(self.requests) if request.key in keys]
        if len(kept) == len(self.items):
            return self
        return Batch([self.requests[one] for one in kept], [self.items[one] for one in kept], self.device)

    def one_by_one(self) -> Iterator["Batch"]:
        """Yield a batch of each item alone."""
        for request, item in zip(self.requests, self.items, strict=True):
            yield Batch([request], [item], self.device)


def batches(
    requests: Sequence[Request], clips: Iterable[ClipItem], device: torch.device, most: int, most_bytes: int
) -> Iterator[Batch]:
    """Yield items that follow each other and are of one size together.

    Args:
        requests: into which the items' positions point.
        clips: that were read.
        device: where they are to be scored.
        most: requests of a batch, which begins at a multiple of them: what cannot be read shifts no other.
        most_bytes: of their frames, as they are read.
    """
    items: list[ClipItem] = []
    for item in clips:
        if items and (
            item.frames.shape != items[0].frames.shape
            or item.position // most != items[0].position // most
            or (len(items) + 1) * item.frames.nbytes > most_bytes
        ):
            yield Batch([requests[one.position] for one in items], items, device)
            items = []
        items.append(item)
    if items:
        yield Batch([requests[one.position] for one in items], items, device)
