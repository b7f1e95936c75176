"""What is done to a batch on the device: both sides distorted in one pass for each simulator."""

from collections.abc import Mapping

import torch
from torch import Tensor

from datamodules.batches.pair_batch import PairBatch
from datamodules.batches.pair_dataset import SAME
from datamodules.distortions import Distortion, apply, generator_for
from datamodules.labels.levels import severity_levels
from datamodules.pairs import SOURCES
from datamodules.simulators import Simulator


def distort(batch: PairBatch, simulators: Mapping[str, Simulator]) -> PairBatch:
    """Apply what no worker has applied, on the batch's device, each distortion once for all clips of a size.

    What lies under both sides of a pair is computed once, its noise included. Pairs of one source whose sides
    end up the same to 8 bits (RMS difference under SAME) become similar: their severities differ, but nobody
    could see it. What is drawn for a pair follows from the batch's seed and the pair's row, whatever else is
    in the batch: ranks and batch sizes change nothing.

    Args:
        batch: uint8 clips.
        simulators: in the order that `batch.simulators` points into.

    Returns:
        The batch with float clips in [0, 1].
    """
    names = list(simulators)
    distortions = {name: one for name, one in simulators.items() if isinstance(one, Distortion)}
    count, sides, times = len(batch.row), batch.sides(), batch.times.flatten(0, 1)
    keys = [(batch.seed, row, side) for side in (0, 1) for row in batch.row.tolist()]
    which = batch.simulators.flatten(0, 1).cpu()
    levels = torch.where(batch.done, 0, batch.severities).flatten(0, 1).cpu()
    distorted = list(sides)
    difference = torch.full((count,), torch.inf, device=times.device)
    pending = ((which >= 0) & (levels > 0)).any(dim=1)
    compared = (batch.source == SOURCES.index("synthetic")).repeat(2).cpu() | pending
    compared |= compared.roll(count)  # both sides of a pair
    for side in (~compared).nonzero().flatten().tolist():
        if sides[side].numel():  # else not read, for its features are known
            distorted[side] = sides[side] / 255
    for here in _by_size(sides, compared.nonzero().flatten().tolist()):
        clips = torch.stack([sides[side] for side in here])
        generators = [generator_for(keys[side], clips.device) for side in here]
        place = {side: index for index, side in enumerate(here)}
        pairs = [side for side in here if side + count in place]
        first = torch.tensor([place[pair] for pair in pairs], dtype=torch.long)
        second = torch.tensor([place[pair + count] for pair in pairs], dtype=torch.long)
        alike = (clips[first] == clips[second]).flatten(1).all(dim=1).cpu()
        for depth in range(which.shape[1]):
            simulator, level = which[here, depth], levels[here, depth]
            alike &= (simulator[first] == simulator[second]) & (level[first] == level[second])
            level[second[alike]] = 0
            clips = apply(
                clips,
                [names[index] for index in simulator.tolist()],
                level,
                times=times[here],
                generator=generators,
                distortions=distortions,
            )
            clips[second[alike]] = clips[first[alike]]
        difference[pairs] = (clips[first] - clips[second]).square().mean(dim=(1, 2, 3, 4)).sqrt()
        for side, clip in zip(here, clips, strict=True):
            distorted[side] = clip
    hidden = (batch.source == SOURCES.index("synthetic")) & (difference < SAME)
    similar = severity_levels(torch.zeros_like(batch.source), torch.zeros_like(batch.source))
    return batch._replace(
        clips=torch.stack(distorted).view_as(batch.clips) if isinstance(batch.clips, Tensor) else distorted,
        levels=torch.where(hidden[:, None], similar, batch.levels),
    )


def _by_size(sides: Tensor | list[Tensor], chosen: list[int]) -> list[list[int]]:
    places: dict[torch.Size, list[int]] = {}
    for side in chosen:
        places.setdefault(sides[side].shape, []).append(side)
    return list(places.values())
