"""Pairs as they cross to the device: uint8 clips of both sides with severities and labels beside them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.devices import for_device
from datamodules.labels import preference
from datamodules.pairs import SOURCES


def together(clips: Sequence[Tensor]) -> Tensor | list[Tensor]:
    """Lay clips (..., H, W) that may differ in size into one piece of memory.

    Returns:
        One tensor (N, ..., H, W) where all have one size, else the N clips as they came.
    """
    if len({clip.shape for clip in clips}) == 1:
        return torch.stack(list(clips))
    # A worker hands over each storage as an open file, of which a process may have few: one a batch, not
    # one a clip.
    packed = torch.cat([clip.flatten() for clip in clips])
    parts = torch.split(packed, [clip.numel() for clip in clips])
    return [values.view(clip.shape) for values, clip in zip(parts, clips, strict=True)]


class PairBatch(NamedTuple):
    """B pairs. Before the device pass `clips` is uint8, after it float in [0, 1].

    What the model reads crosses to the device (`crossing`). The tables of what is done to a pair stay on the
    host, where the device pass is planned: to read them from a device would make the host wait for it.

    Attributes:
        clips: (2, B, T, 3, H, W), the first sides and the second sides; where frames differ in size, a list
            of 2 B clips (T, 3, H, W), the first sides and then the second sides.
        times: (2, B, T) in seconds from each video's start; beside an accelerator from each clip's start.
        simulators: (2, B, depth) index into the simulators' names, in the order in which they act, -1 where
            there is none.
        severities: (2, B, depth) level of each, 0 for none.
        done: (2, B, depth) bool, those that a worker has applied already: codecs, and what lies under them.
        one_clip: (B,) bool, whether both sides began as the same frames of one video.
        levels: (B, 5) the label, inferior first.
        margin: (B,) D / sD where the label comes from scores, else nan.
        places: (2, B) where each side stands on the scale of its source of labels, nan where that is not
            known: between any two sides of one source, of whichever pairs, the margin is the difference.
        source: (B,) index into `pairs.SOURCES`.
        row: (B,) row in the round's pair table.
        seed: of the device pass, the same for all pairs of an epoch; with its row it decides what a pair
            looks like.
        keys: of the 2 B clips, those of pair b at b and B + b: what `SeenClips` knows a clip by, empty where
            its features are not kept. A clip whose features are known is empty.
        lost: ids of videos of which a clip could not be read; their pairs are not in the batch.
    """

    clips: Tensor | list[Tensor]
    times: Tensor
    simulators: Tensor
    severities: Tensor
    done: Tensor
    one_clip: Tensor
    levels: Tensor
    margin: Tensor
    places: Tensor
    source: Tensor
    row: Tensor
    seed: int
    keys: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def sides(self) -> Tensor | list[Tensor]:
        """All clips in one row, (2 B, T, 3, H, W) or a list of 2 B: those of pair b are b and B + b."""
        return self.clips.flatten(0, 1) if isinstance(self.clips, Tensor) else self.clips

    def crossing(self, device: torch.device) -> dict[str, Tensor | list[Tensor]]:
        """Return by name what is to be moved to a device.

        An accelerator is given no float64, which is slow there or missing: seconds count from each clip's
        start, where float32 holds them to a microsecond.
        """
        times = self.times if device.type == "cpu" else (self.times - self.times[..., :1]).float()
        read = {"levels": self.levels, "margin": self.margin, "places": self.places, "source": self.source}
        return {"clips": self.clips, "times": times, **read}

    def simulator(self) -> Tensor:
        """Return the simulator (B,) whose severities a pair compares, -1 for pairs of different videos."""
        differ = (self.simulators[0] != self.simulators[1]) | (self.severities[0] != self.severities[1])
        compared = torch.where(differ, self.simulators.amax(dim=0), -1).amax(dim=-1)
        synthetic = self.source == SOURCES.index("synthetic")
        return torch.where(synthetic, for_device(compared, synthetic.device), -1)

    def order(self) -> Tensor:
        """(B,): 1 where the second side should look better, -1 where the first should, 0 if similar."""
        lean = preference(self.levels) - 0.5
        return torch.where(lean.abs() < 1e-3, 0.0, lean.sign())
