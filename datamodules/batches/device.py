"""What is done to a batch on the device: both sides distorted in one pass for each simulator.

The pass is planned on the host, from tables that never crossed, and its numbers are drawn before it begins.
What is left is a function of tensors, lists of numbers and names: nothing in it makes the host wait for the
device, and `torch.compile` makes one graph of it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.batches.pair_batch import PairBatch
from datamodules.batches.pair_dataset import SAME
from datamodules.devices import for_device
from datamodules.distortions import Distortion, apply, generator_for
from datamodules.distortions.arguments import Generators
from datamodules.labels.levels import severity_levels
from datamodules.pairs import SOURCES
from datamodules.simulators import Simulator


class Step(NamedTuple):
    """One distortion for each of N clips, and what then is the same on both sides of a pair.

    Attributes:
        names: of the simulators.
        levels: 0 where nothing is done.
        generators: of the clips, or in their place the numbers that have been drawn from them.
        first: clips that others then are copies of.
        second: the copies.
    """

    names: list[str]
    levels: list[int]
    generators: Generators
    first: list[int]
    second: list[int]


def distort(batch: PairBatch, simulators: Mapping[str, Simulator]) -> PairBatch:
    """Apply what no worker has applied, on the batch's device, each distortion once for all clips of a size.

    What lies under both sides of a pair is computed once, its noise included. Pairs of one source whose sides
    end up the same to 8 bits (RMS difference under SAME) become similar: their severities differ, but nobody
    could see it. What is drawn for a pair follows from the batch's seed and the pair's row, whatever else is
    in the batch: ranks and batch sizes change nothing.

    Args:
        batch: uint8 clips on the device, and the tables of what is done on the host.
        simulators: in the order that `batch.simulators` points into.

    Returns:
        The batch with float clips in [0, 1].
    """
    distortions = {name: one for name, one in simulators.items() if isinstance(one, Distortion)}
    count, sides, times = len(batch.row), batch.sides(), batch.times.flatten(0, 1)
    compared = batch.one_clip.tolist()
    difference = torch.full((count,), torch.inf, device=times.device)
    distorted = sides if isinstance(sides, Tensor) else list(sides)
    for here in _by_size(sides):
        clips = sides if isinstance(sides, Tensor) else torch.stack([sides[side] for side in here])
        steps = planned(batch, here, list(simulators), distortions, clips)
        clips = run(clips, steps, times.index_select(0, _places(here, times)), distortions)
        place = {side: index for index, side in enumerate(here)}
        pairs = [side for side in here if side < count and compared[side] and side + count in place]
        if pairs:
            first, second = (
                clips.index_select(0, _places([place[pair + other] for pair in pairs], clips))
                for other in (0, count)
            )
            apart = first.sub_(second).square_().mean(dim=(1, 2, 3, 4)).sqrt()
            difference.index_copy_(0, _places(pairs, clips), apart)
        if isinstance(distorted, Tensor):
            distorted = clips  # all are of one size
        else:
            for side, clip in zip(here, clips, strict=True):
                distorted[side] = clip
    hidden = (batch.source == SOURCES.index("synthetic")) & (difference < SAME)
    similar = severity_levels(torch.zeros_like(batch.source), torch.zeros_like(batch.source))
    return batch._replace(
        clips=distorted.view(2, count, *distorted.shape[1:]) if isinstance(distorted, Tensor) else distorted,
        levels=torch.where(hidden[:, None], similar, batch.levels),
    )


def planned(
    batch: PairBatch,
    here: Sequence[int],
    names: Sequence[str],
    distortions: Mapping[str, Distortion],
    clips: Tensor,
) -> list[Step]:
    """Plan the pass of some sides of a batch on the host, and draw its numbers.

    Args:
        batch: its tables are read.
        here: the sides, first and second ones of any pairs.
        names: of all simulators, that the batch points into.
        distortions: those among them that run on the device.
        clips: (N, T, 3, H, W) of the sides, on the device.

    Returns:
        One step for each depth at which something is done.
    """
    count, place = len(batch.row), {side: index for index, side in enumerate(here)}
    rows = batch.row.tolist()
    which = batch.simulators.flatten(0, 1).tolist()
    levels = batch.severities.masked_fill(batch.done, 0).flatten(0, 1).tolist()
    made = batch.severities.where(batch.done, 0).flatten(0, 1).tolist()  # by workers
    alike = {
        pair
        for pair, one in enumerate(batch.one_clip.tolist())
        if one and {pair, pair + count} <= place.keys() and made[pair] == made[pair + count]
    }
    generators = [
        generator_for((batch.seed, rows[side % count], side // count), clips.device) for side in here
    ]
    steps = []
    for depth in range(batch.simulators.shape[-1]):
        alike = {
            pair
            for pair in alike
            if (which[pair][depth], levels[pair][depth])
            == (which[pair + count][depth], levels[pair + count][depth])
        }
        shared = [pair for pair in sorted(alike) if levels[pair][depth]]
        copies = {pair + count for pair in shared}
        at = [0 if side in copies else levels[side][depth] for side in here]
        named = [names[which[side][depth]] if level else "" for side, level in zip(here, at, strict=True)]
        if not any(at):
            continue
        drawn = [
            distortions[name].ahead(generator, clip) if name in distortions else generator
            for name, generator, clip in zip(named, generators, clips, strict=True)
        ]
        first = [place[pair] for pair in shared]
        second = [place[pair + count] for pair in shared]
        steps.append(Step(named, at, drawn, first, second))
    return steps


def run(clips: Tensor, steps: Sequence[Step], times: Tensor, distortions: Mapping[str, Distortion]) -> Tensor:
    """Take clips through the steps of a plan.

    Args:
        clips: (N, T, 3, H, W) uint8, on a device.
        steps: of `planned`.
        times: (N, T) in seconds, on the device.
        distortions: that the steps name.

    Returns:
        (N, T, 3, H, W) in [0, 1], float32.
    """
    if not steps:
        return clips / 255
    for step in steps:  # the first makes floats of them
        clips = apply(
            clips, step.names, step.levels, times=times, generator=step.generators, distortions=distortions
        )
        if step.first:
            original = clips.index_select(0, _places(step.first, clips))
            clips = clips.index_copy_(0, _places(step.second, clips), original)
    return clips


def _places(rows: Sequence[int], like: Tensor) -> Tensor:
    return for_device(torch.tensor(rows), like.device)


def _by_size(sides: Tensor | list[Tensor]) -> list[list[int]]:
    """Return the sides of each size; empty sides are left out, for their features are known."""
    places: dict[torch.Size, list[int]] = {}
    for side, clip in enumerate(sides):
        if clip.numel():
            places.setdefault(clip.shape, []).append(side)
    return list(places.values())
