"""What crosses to the device, and what is done to it there.

Workers read clips, take them through codecs and stack them as uint8; the severities travel beside them as
tensors. On the device both sides of every pair are distorted in one pass, and pairs whose sides then hardly
differ are relabelled similar.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.annotation import ClipItem, encoded
from datamodules.codec_cache import CodecCache
from datamodules.codecs import Codec
from datamodules.decoding import Clip, Sampling, Video, read_clip
from datamodules.distortions import Distortion, apply
from datamodules.errors import UnreadableVideo
from datamodules.levels import preference, severity_levels
from datamodules.pairs import SOURCES
from datamodules.simulators import Simulator

SAME = 1 / 255
"""Root-mean-square difference, on [0, 1], under which two sides of one source are the same to 8 bits (PSNR
48.1 dB)."""


class PairBatch(NamedTuple):
    """B pairs. Before the device pass `clips` is uint8, after it float in [0, 1].

    Attributes:
        clips: (2, B, T, 3, H, W), the first sides and the second sides.
        times: (2, B, T) in seconds from each video's start.
        simulators: (2, B, depth) index into the simulators' names, in the order in which they act, -1 where
            there is none.
        severities: (2, B, depth) level of each, 0 for none.
        done: (2, B, depth) bool, those that a worker has applied already: codecs, and what lies under them.
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
    done: Tensor
    levels: Tensor
    margin: Tensor
    source: Tensor
    row: Tensor
    seed: int

    def simulator(self) -> Tensor:
        """The simulator (B,) whose severities a pair compares, -1 for pairs of different videos."""
        differ = (self.simulators[0] != self.simulators[1]) | (self.severities[0] != self.severities[1])
        compared = torch.where(differ, self.simulators.amax(dim=0), -1).amax(dim=-1)
        return torch.where(self.source == SOURCES.index("synthetic"), compared, -1)

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
        simulators: those that the table names; the batch carries their positions.
        cache: where clips read before are kept.
    """

    def __init__(
        self,
        pairs: pa.Table,
        videos: dict[str, Video],
        sampling: Sampling,
        simulators: Mapping[str, Simulator],
        cache: ClipCache,
    ) -> None:
        self.rows = pairs
        self.videos = videos
        self.sampling = sampling
        self.simulators = simulators
        self.position = {name: index for index, name in enumerate(simulators)}
        self.cache = cache
        self.codecs = CodecCache()
        both = (pairs["distortions_first"], pairs["distortions_second"])
        self.depth = max(1, *(pc.max(pc.list_value_length(side)).as_py() for side in both))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows.slice(index, 1).to_pylist()[0]
        simulators = torch.full((2, self.depth), -1)
        severities = torch.zeros(2, self.depth, dtype=torch.long)
        done = torch.zeros(2, self.depth, dtype=torch.bool)
        sides: list[Clip | None] = []
        for side, name in enumerate(("first", "second")):
            applied = [(entry["name"], entry["level"]) for entry in row[f"distortions_{name}"]]
            for place, (simulator, level) in enumerate(applied):
                simulators[side, place] = self.position[simulator]
                severities[side, place] = level
            codecs = [i for i, (one, _) in enumerate(applied) if isinstance(self.simulators[one], Codec)]
            here = codecs[-1] + 1 if codecs else 0
            done[side, :here] = True
            sides.append(self._read(row[name], row[f"draw_{name}"], tuple(applied[:here])))
        return {
            "clips": sides,
            "simulators": simulators,
            "severities": severities,
            "done": done,
            "levels": torch.tensor(row["levels"]),
            "margin": float("nan") if row["margin"] is None else row["margin"],
            "source": SOURCES.index(row["source"]),
            "row": index,
        }

    def _read(self, name: str, draw: int, applied: tuple[tuple[str, int], ...]) -> Clip | None:
        video = self.videos[name]
        try:
            clip = self.cache.read(video, self.sampling, draw)
        except UnreadableVideo:
            return None
        frames = clip.frames
        for place, (simulator, level) in enumerate(applied):
            operator = self.simulators[simulator]
            if isinstance(operator, Codec):
                frames = encoded(self.codecs, operator, frames, level, video.fps, self.sampling)
                continue
            # Its noise belongs to the clip and to what is done to it: both sides of a pair share it, and
            # every epoch finds the codec's result again.
            seed = hashlib.sha256(repr((name, draw, applied[: place + 1])).encode()).digest()[:7]
            changed = operator(
                frames[None] / 255,
                torch.tensor([level]),
                times=clip.times[None],
                generator=torch.Generator().manual_seed(int.from_bytes(seed)),
            )
            frames = (changed[0] * 255).round().to(torch.uint8)
        return Clip(frames, clip.times)


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
            done=torch.stack([sample["done"] for sample in samples], dim=1),
            levels=torch.stack([sample["levels"] for sample in samples]),
            margin=torch.tensor([sample["margin"] for sample in samples]),
            source=torch.tensor([sample["source"] for sample in samples]),
            row=rows,
            seed=self.seed + samples[0]["row"],
        )


def distort(batch: PairBatch, simulators: Mapping[str, Simulator]) -> PairBatch:
    """Applies what no worker has applied on the batch's device, each distortion once for all its clips.

    What lies under both sides of a pair is computed once, its noise included. Pairs of one source whose sides
    end up the same to 8 bits (RMS difference under SAME) become similar: their severities differ, but nobody
    could see it.

    Args:
        batch: uint8 clips.
        simulators: in the order that `batch.simulators` points into.

    Returns:
        The batch with float clips in [0, 1].
    """
    names = list(simulators)
    distortions = {name: one for name, one in simulators.items() if isinstance(one, Distortion)}
    generator = torch.Generator(batch.clips.device).manual_seed(batch.seed)
    alike = (batch.clips[0] == batch.clips[1]).flatten(1).all(dim=1)
    clips = batch.clips.flatten(0, 1)  # still uint8: the first pass makes floats of it
    levels = torch.where(batch.done, 0, batch.severities)
    for place in range(levels.shape[2]):
        which, level = batch.simulators[..., place], levels[..., place]
        alike = alike & (which[0] == which[1]) & (level[0] == level[1])
        clips = apply(
            clips,
            [names[index] for index in which.flatten().tolist()],
            torch.cat([level[0], torch.where(alike, 0, level[1])]),
            times=batch.times.flatten(0, 1),
            generator=generator,
            distortions=distortions,
        )
        first, second = clips.chunk(2)
        second[alike] = first[alike]
    clips = clips.view(batch.clips.shape)
    difference = (clips[0] - clips[1]).square().mean(dim=(1, 2, 3, 4)).sqrt()
    hidden = (batch.source == SOURCES.index("synthetic")) & (difference < SAME)
    similar = severity_levels(torch.zeros_like(batch.source), torch.zeros_like(batch.source))
    return batch._replace(clips=clips, levels=torch.where(hidden[:, None], similar, batch.levels))


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
