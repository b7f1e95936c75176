"""What crosses to the device, and what is done to it there.

Workers read clips and stack them as uint8; the severities travel beside them as tensors. On the device both
sides of every pair are distorted in one pass, and pairs whose sides then hardly differ are relabelled
similar.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.annotation import ClipItem
from datamodules.decoding import Clip, Sampling, Video, read_clip
from datamodules.distortions import Distortion, apply
from datamodules.errors import UnreadableVideo
from datamodules.levels import preference, severity_levels
from datamodules.pairs import SOURCES

SAME = 1 / 255
"""Root-mean-square difference, on [0, 1], under which two sides of one source are the same to 8 bits (PSNR
48.1 dB)."""


class PairBatch(NamedTuple):
    """B pairs. Before the device pass `clips` is uint8, after it float in [0, 1].

    Attributes:
        clips: (2, B, T, 3, H, W), the first sides and the second sides.
        times: (2, B, T) in seconds from each video's start.
        simulators: (2, B, depth) index into the simulators' names, -1 where there is no distortion.
        severities: (2, B, depth) level of each distortion, 0 for none.
        levels: (B, 5) the label, inferior first.
        margin: (B,) D / sD where the label comes from scores, else nan.
        source: (B,) index into `pairs.SOURCES`.
        row: (B,) row in the round's pair table.
        seed: of the device pass.
    """

    clips: Tensor
    times: Tensor
    simulators: Tensor
    severities: Tensor
    levels: Tensor
    margin: Tensor
    source: Tensor
    row: Tensor
    seed: int

    def simulator(self) -> Tensor:
        """The simulator (B,) whose severities a pair compares, -1 for pairs of different videos."""
        return self.simulators.amax(dim=(0, 2))

    def order(self) -> Tensor:
        """(B,): 1 where the second side should look better, -1 where the first should, 0 if similar."""
        lean = preference(self.levels) - 0.5
        return torch.where(lean.abs() < 1e-3, 0.0, lean.sign())


class ClipCache:
    """The clips read last, up to a number of bytes: small corpora meet the same clips every round.

    Args:
        megabytes: the most that is kept, in each process that reads.
    """

    def __init__(self, megabytes: int) -> None:
        self._limit = megabytes * 2**20
        self._bytes = 0
        self._clips: OrderedDict[tuple[str, int], Clip] = OrderedDict()

    def read(self, video: Video, sampling: Sampling, draw: int) -> Clip:
        """The same as `read_clip`; one cache serves one sampling."""
        key = (video.video_id, draw)
        if key in self._clips:
            self._clips.move_to_end(key)
            return self._clips[key]
        clip = read_clip(video, sampling, draw)
        self._clips[key] = clip
        self._bytes += clip.frames.nbytes
        while self._bytes > self._limit:
            _, dropped = self._clips.popitem(last=False)
            self._bytes -= dropped.frames.nbytes
        return clip


class PairDataset(Dataset[dict[str, Any]]):
    """The rows of a pair table with both clips read.

    Args:
        pairs: table of `pairs.PAIR_SCHEMA`.
        videos: video_id -> Video of everything the table names.
        sampling: how clips are cut; with a window, or the sides cannot be stacked.
        simulators: names whose positions the batch carries.
        cache: where clips read before are kept.
    """

    def __init__(
        self,
        pairs: pa.Table,
        videos: dict[str, Video],
        sampling: Sampling,
        simulators: Sequence[str],
        cache: ClipCache,
    ) -> None:
        self.rows = pairs
        self.videos = videos
        self.sampling = sampling
        self.position = {name: index for index, name in enumerate(simulators)}
        self.cache = cache
        both = (pairs["distortions_first"], pairs["distortions_second"])
        self.depth = max(1, *(pc.max(pc.list_value_length(side)).as_py() for side in both))

    def __len__(self) -> int:
        return len(self.rows)

    def _read(self, name: str, draw: int) -> Clip | None:
        try:
            return self.cache.read(self.videos[name], self.sampling, draw)
        except UnreadableVideo:
            return None

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows.slice(index, 1).to_pylist()[0]
        sides = [self._read(row["first"], row["draw_first"])]
        same = (row["first"], row["draw_first"]) == (row["second"], row["draw_second"])
        sides.append(sides[0] if same else self._read(row["second"], row["draw_second"]))
        simulators = torch.full((2, self.depth), -1)
        severities = torch.zeros(2, self.depth, dtype=torch.long)
        for side, key in enumerate(("distortions_first", "distortions_second")):
            for place, distortion in enumerate(row[key]):
                simulators[side, place] = self.position[distortion["name"]]
                severities[side, place] = distortion["level"]
        return {
            "clips": sides,
            "simulators": simulators,
            "severities": severities,
            "levels": torch.tensor(row["levels"]),
            "margin": float("nan") if row["margin"] is None else row["margin"],
            "source": SOURCES.index(row["source"]),
            "row": index,
        }


class PairCollate:
    """Stacks samples into a PairBatch; a pair with an unreadable side is left out.

    Args:
        seed: of the round's device passes; each batch adds the row of its first pair.
        mirror: shows every other pair left to right reversed, both sides alike: no quality changes by that.
    """

    def __init__(self, seed: int, mirror: bool = False) -> None:
        self.seed = seed
        self.mirror = mirror

    def __call__(self, samples: list[dict[str, Any]]) -> PairBatch:
        """The batch of the readable pairs.

        Raises:
            UnreadableVideo: not one pair of the batch could be read.
        """
        samples = [sample for sample in samples if None not in sample["clips"]]
        if not samples:
            raise UnreadableVideo(
                "no pair of a whole batch can be read any more: check that data.videos is still there."
            )
        clips = [torch.stack([sample["clips"][side].frames for sample in samples]) for side in (0, 1)]
        times = [torch.stack([sample["clips"][side].times for sample in samples]) for side in (0, 1)]
        rows = torch.tensor([sample["row"] for sample in samples])
        stacked = torch.stack(clips)
        if self.mirror:
            turned = (rows + self.seed // 2**20) % 2 == 1  # the other half in the next epoch
            stacked[:, turned] = stacked[:, turned].flip(-1)
        return PairBatch(
            clips=stacked,
            times=torch.stack(times),
            simulators=torch.stack([sample["simulators"] for sample in samples], dim=1),
            severities=torch.stack([sample["severities"] for sample in samples], dim=1),
            levels=torch.stack([sample["levels"] for sample in samples]),
            margin=torch.tensor([sample["margin"] for sample in samples]),
            source=torch.tensor([sample["source"] for sample in samples]),
            row=rows,
            seed=self.seed + samples[0]["row"],
        )


def distort(batch: PairBatch, distortions: Mapping[str, Distortion]) -> PairBatch:
    """Applies every pair's distortions on the batch's device, each simulator once for all its clips.

    Pairs of one source whose sides end up the same to 8 bits (RMS difference under SAME) become similar:
    their severities differ, but nobody could see it.

    Args:
        batch: uint8 clips.
        distortions: the simulators, in the order that `batch.simulators` points into.

    Returns:
        The batch with float clips in [0, 1].
    """
    simulators = list(distortions)
    clips = batch.clips.flatten(0, 1).float() / 255
    times = batch.times.flatten(0, 1)
    which = batch.simulators.flatten(0, 1)
    severity = batch.severities.flatten(0, 1)
    generator = torch.Generator(clips.device).manual_seed(batch.seed)
    for place in range(which.shape[1]):
        names = [simulators[index] for index in which[:, place].tolist()]
        clips = apply(
            clips, names, severity[:, place], times=times, generator=generator, distortions=distortions
        )
    clips = clips.view(batch.clips.shape)
    difference = (clips[0] - clips[1]).square().mean(dim=(1, 2, 3, 4)).sqrt()
    synthetic = batch.source == SOURCES.index("synthetic")
    alike = severity_levels(torch.zeros_like(batch.source), torch.zeros_like(batch.source))
    levels = torch.where((synthetic & (difference < SAME))[:, None], alike, batch.levels)
    return batch._replace(clips=clips, levels=levels)


class VideoBatch(NamedTuple):
    """Clips of V readable videos, and what else was asked for in the same batch.

    Attributes:
        clips: (V, n, T, 3, H, W) uint8, n clips of each video.
        rows: the corpus rows of the V videos.
        errors: corpus row -> sentence, for videos of the batch that cannot be read.
    """

    clips: Tensor
    rows: list[int]
    errors: dict[int, str]


def collate_videos(items: list[ClipItem]) -> VideoBatch:
    """Stacks the readable videos; a batch may be left with none."""
    read = [item for item in items if item.error is None]
    return VideoBatch(
        clips=torch.stack([item.frames for item in read]) if read else torch.empty(0, dtype=torch.uint8),
        rows=[item.position for item in read],
        errors={item.position: item.error for item in items if item.error is not None},
    )
