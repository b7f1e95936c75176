"""What crosses to the device, and what is done to it there.

Workers read clips, take them through codecs and stack them as uint8, or list them where whole frames differ
in size; the severities travel beside them as tensors. On the device both sides of every pair are distorted in
one pass for each size of frames, and pairs whose sides then hardly differ are relabelled similar.
"""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import islice
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

_log = logging.getLogger(__name__)

SAME = 1 / 255
"""Root-mean-square difference, on [0, 1], under which two sides of one source are the same to 8 bits (PSNR
48.1 dB)."""


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

    Attributes:
        clips: (2, B, T, 3, H, W), the first sides and the second sides; where frames differ in size, a list
            of 2 B clips (T, 3, H, W), the first sides and then the second sides.
        times: (2, B, T) in seconds from each video's start.
        simulators: (2, B, depth) index into the simulators' names, in the order in which they act, -1 where
            there is none.
        severities: (2, B, depth) level of each, 0 for none.
        done: (2, B, depth) bool, those that a worker has applied already: codecs, and what lies under them.
        levels: (B, 5) the label, inferior first.
        margin: (B,) D / sD where the label comes from scores, else nan.
        source: (B,) index into `pairs.SOURCES`.
        row: (B,) row in the round's pair table.
        seed: of the device pass, the same for all pairs of an epoch; with its row it decides what a pair
            looks like.
        lost: ids of videos of which a clip could not be read; their pairs are not in the batch.
    """

    clips: Tensor | list[Tensor]
    times: Tensor
    simulators: Tensor
    severities: Tensor
    done: Tensor
    levels: Tensor
    margin: Tensor
    source: Tensor
    row: Tensor
    seed: int
    lost: tuple[str, ...] = ()

    def sides(self) -> Tensor | list[Tensor]:
        """All clips in one row, (2 B, T, 3, H, W) or a list of 2 B: those of pair b are b and B + b."""
        return self.clips.flatten(0, 1) if isinstance(self.clips, Tensor) else self.clips

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
        sampling: how clips are cut; without a window they are whole frames.
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

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The pairs of a batch; where not one of them can be read, the next that can be besides.

        A process that has no batch would leave the others waiting for its gradients.
        """
        samples = [self[index] for index in indices]
        if all(sample["lost"] for sample in samples):
            after = (self[(indices[-1] + step) % len(self)] for step in range(1, len(self)))
            samples += islice((sample for sample in after if not sample["lost"]), 1)
        return samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows.slice(index, 1).to_pylist()[0]
        simulators = torch.full((2, self.depth), -1)
        severities = torch.zeros(2, self.depth, dtype=torch.long)
        done = torch.zeros(2, self.depth, dtype=torch.bool)
        sides: list[Clip] = []
        lost: dict[str, str] = {}
        for side, name in enumerate(("first", "second")):
            applied = [(entry["name"], entry["level"]) for entry in row[f"distortions_{name}"]]
            for place, (simulator, level) in enumerate(applied):
                simulators[side, place] = self.position[simulator]
                severities[side, place] = level
            codecs = [i for i, (one, _) in enumerate(applied) if isinstance(self.simulators[one], Codec)]
            here = codecs[-1] + 1 if codecs else 0
            done[side, :here] = True
            try:
                sides.append(self._read(row[name], row[f"draw_{name}"], tuple(applied[:here])))
            except UnreadableVideo as error:
                lost[row[name]] = str(error)
        return {
            "clips": sides,
            "lost": lost,
            "simulators": simulators,
            "severities": severities,
            "done": done,
            "levels": torch.tensor(row["levels"]),
            "margin": float("nan") if row["margin"] is None else row["margin"],
            "source": SOURCES.index(row["source"]),
            "row": index,
        }

    def _read(self, name: str, draw: int, applied: tuple[tuple[str, int], ...]) -> Clip:
        video = self.videos[name]
        clip = self.cache.read(video, self.sampling, draw)
        frames = clip.frames
        for place, (simulator, level) in enumerate(applied):
            operator = self.simulators[simulator]
            if isinstance(operator, Codec):
                frames = encoded(self.codecs, operator, frames, level, video.fps, self.sampling)
                continue
            # Its noise belongs to the clip and to what is done to it: both sides of a pair share it, and
            # every epoch finds the codec's result again.
            changed = operator(
                frames[None] / 255,
                torch.tensor([level]),
                times=clip.times[None],
                generator=_generator((name, draw, applied[: place + 1]), frames.device),
            )
            frames = (changed[0] * 255).round().to(torch.uint8)
        return Clip(frames, clip.times)


@cache
def _name_once(reason: str) -> None:
    _log.warning("%s Its pairs are left out.", reason)


class PairCollate:
    """Stacks samples into a PairBatch; a pair with an unreadable side is left out.

    Args:
        seed: of the epoch's device passes.
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
        lost = {name: reason for sample in samples for name, reason in sample["lost"].items()}
        for reason in lost.values():
            _name_once(reason)
        samples = [sample for sample in samples if not sample["lost"]]
        if not samples:
            raise UnreadableVideo("no pair can be read any more: check that data.videos is still there.")
        clips = [self._shown(sample, side) for side in (0, 1) for sample in samples]
        times = [torch.stack([sample["clips"][side].times for sample in samples]) for side in (0, 1)]
        sides = together(clips)
        return PairBatch(
            clips=sides.view(2, -1, *sides.shape[1:]) if isinstance(sides, Tensor) else sides,
            times=torch.stack(times),
            simulators=torch.stack([sample["simulators"] for sample in samples], dim=1),
            severities=torch.stack([sample["severities"] for sample in samples], dim=1),
            done=torch.stack([sample["done"] for sample in samples], dim=1),
            levels=torch.stack([sample["levels"] for sample in samples]),
            margin=torch.tensor([sample["margin"] for sample in samples]),
            source=torch.tensor([sample["source"] for sample in samples]),
            row=torch.tensor([sample["row"] for sample in samples]),
            seed=self.seed,
            lost=tuple(sorted(lost)),
        )

    def _shown(self, sample: dict[str, Any], side: int) -> Tensor:
        frames: Tensor = sample["clips"][side].frames
        turned = self.mirror and (sample["row"] + self.seed // 2**20) % 2  # the other half in the next epoch
        return frames.flip(-1) if turned else frames


def distort(batch: PairBatch, simulators: Mapping[str, Simulator]) -> PairBatch:
    """Applies what no worker has applied on the batch's device, each distortion once for all clips of a size.

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
    for here in _by_size(sides):
        clips = sides if isinstance(sides, Tensor) else torch.stack([sides[side] for side in here])
        generators = [_generator(keys[side], clips.device) for side in here]
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
        clips=clips.view(batch.clips.shape) if isinstance(batch.clips, Tensor) else distorted,
        levels=torch.where(hidden[:, None], similar, batch.levels),
    )


def _generator(key: tuple[Any, ...], device: torch.device) -> torch.Generator:
    # A hash, since the CPU's generators look at the last 32 bits of a seed only.
    seed = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:7])
    return torch.Generator(device).manual_seed(seed)


def _by_size(sides: Tensor | list[Tensor]) -> list[list[int]]:
    places: dict[torch.Size, list[int]] = {}
    for side, clip in enumerate(sides):
        places.setdefault(clip.shape, []).append(side)
    return list(places.values())


class VideoBatch(NamedTuple):
    """Clips of V readable videos, and what else was asked for in the same batch.

    Attributes:
        clips: of each of the V videos n clips (n, T, 3, H, W) uint8; whole frames differ in size.
        rows: which of the datamodule's requests the V videos are.
        errors: row -> sentence, for videos of the batch that cannot be read.
    """

    clips: list[Tensor]
    rows: list[int]
    errors: dict[int, str]


def collate_videos(items: list[ClipItem]) -> VideoBatch:
    """Takes the readable videos; a batch may be left with none."""
    read = [item for item in items if item.error is None]
    return VideoBatch(
        clips=[item.frames for item in read],
        rows=[item.position for item in read],
        errors={item.position: item.error for item in items if item.error is not None},
    )
