"""What crosses to the device, and what is done to it there.

Workers read clips, take them through codecs and stack them as uint8, or list them where whole frames differ
in size; the severities travel beside them as tensors. On the device both sides of every pair are distorted in
one pass for each size of frames, and pairs whose sides then hardly differ are relabelled similar.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.batches.clip_cache import ClipCache
from datamodules.batches.pair_batch import PairBatch, together
from datamodules.circuits import Circuits
from datamodules.codecs import Codec, CodecCache
from datamodules.distortions import generator_for
from datamodules.errors import UnreadableVideo
from datamodules.labels.clips import encoded
from datamodules.labels.seen_clips import SeenClips, clip_key
from datamodules.pairs import SOURCES
from datamodules.pairs.table import PLACES
from datamodules.simulators import Simulator
from datamodules.video import Clip, Sampling, Video

_log = logging.getLogger(__name__)

SAME = 1 / 255
"""Root-mean-square difference, on [0, 1], under which two sides of one source are the same to 8 bits (PSNR
48.1 dB)."""


class PairDataset(Dataset[dict[str, Any]]):
    """The rows of a pair table with both clips read.

    Args:
        pairs: table of `pairs.PAIR_SCHEMA`.
        videos: video_id -> Video of everything the table names.
        sampling: how clips are cut; without a window they are whole frames.
        simulators: those that the table names; the batch carries their positions.
        cache: where clips read before are kept.
        seen: clips whose features are known: they are not read. None: all clips are read.
    """

    def __init__(
        self,
        pairs: pa.Table,
        videos: dict[str, Video],
        sampling: Sampling,
        simulators: Mapping[str, Simulator],
        cache: ClipCache,
        seen: SeenClips | None = None,
    ) -> None:
        self.rows = pairs
        self.videos = videos
        self.sampling = sampling
        self.simulators = simulators
        self.position = {name: index for index, name in enumerate(simulators)}
        self.cache = cache
        self.seen = seen
        times = torch.zeros(sampling.segments * sampling.frames, dtype=torch.float64)
        self.unread = Clip(torch.empty(0, dtype=torch.uint8), times)
        """In place of a clip whose features are known."""
        self.codecs = CodecCache()
        both = (pairs["distortions_first"], pairs["distortions_second"])
        self.depth = max(1, *(pc.max(pc.list_value_length(side)).as_py() for side in both))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Read the pairs of a batch; where none of them can be read, the next readable pair besides.

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
        keys: list[str] = []
        lost: dict[str, str] = {}
        for side, name in enumerate(("first", "second")):
            applied = [(entry["name"], entry["level"]) for entry in row[f"distortions_{name}"]]
            for place, (simulator, level) in enumerate(applied):
                simulators[side, place] = self.position[simulator]
                severities[side, place] = level
            in_workers = [isinstance(self.simulators[one], Codec | Circuits) for one, _ in applied]
            here = len(applied) - in_workers[::-1].index(True) if any(in_workers) else 0
            done[side, :here] = True
            # Pixels of synthetic pairs are compared on the device, and its noise is the pair's own.
            whole = self.seen is not None and here == len(applied) and row["source"] != "synthetic"
            keys.append(self._key(row[name], row[f"draw_{name}"], applied) if whole else "")
            try:
                if self.seen is not None and keys[-1] in self.seen:
                    sides.append(self.unread)
                    continue
                sides.append(self._read(row[name], row[f"draw_{name}"], tuple(applied[:here])))
            except UnreadableVideo as error:
                lost[row[name]] = str(error)
        return {
            "clips": sides,
            "keys": keys,
            "lost": lost,
            "simulators": simulators,
            "severities": severities,
            "done": done,
            "one_clip": (row["first"], row["draw_first"]) == (row["second"], row["draw_second"]),
            "levels": torch.tensor(row["levels"]),
            "margin": _number(row["margin"]),
            "places": torch.tensor([_number(row[name]) for name in PLACES]),
            "source": SOURCES.index(row["source"]),
            "row": index,
        }

    def _key(self, name: str, draw: int, applied: Sequence[tuple[str, int]]) -> str:
        return clip_key(name, draw, [(self.simulators[one], level) for one, level in applied])

    def _read(self, name: str, draw: int, applied: tuple[tuple[str, int], ...]) -> Clip:
        video = self.videos[name]
        clip = self.cache.read(video, self.sampling, draw)
        frames = clip.frames
        for place, (simulator, level) in enumerate(applied):
            operator = self.simulators[simulator]
            if isinstance(operator, Codec | Circuits):
                frames = encoded(self.codecs, operator, frames, level, video.fps, self.sampling)
                continue
            # Its noise belongs to the clip and to what is done to it: both sides of a pair share it, and
            # every epoch finds the codec's result again.
            changed = operator(
                frames[None] / 255,
                torch.tensor([level]),
                times=clip.times[None],
                generator=generator_for((name, draw, applied[: place + 1]), frames.device),
            )
            frames = (changed[0] * 255).round().to(torch.uint8)
        return Clip(frames, clip.times)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


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
        """Collate the readable pairs to a batch.

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
            clips=sides.view(2, len(samples), *sides.shape[1:]) if isinstance(sides, Tensor) else sides,
            times=torch.stack(times),
            simulators=torch.stack([sample["simulators"] for sample in samples], dim=1),
            severities=torch.stack([sample["severities"] for sample in samples], dim=1),
            done=torch.stack([sample["done"] for sample in samples], dim=1),
            one_clip=torch.tensor([sample["one_clip"] for sample in samples]),
            levels=torch.stack([sample["levels"] for sample in samples]),
            margin=torch.tensor([sample["margin"] for sample in samples]),
            places=torch.stack([sample["places"] for sample in samples], dim=1),
            source=torch.tensor([sample["source"] for sample in samples]),
            row=torch.tensor([sample["row"] for sample in samples]),
            seed=self.seed,
            keys=tuple(sample["keys"][side] for side in (0, 1) for sample in samples),
            lost=tuple(sorted(lost)),
        )

    def _shown(self, sample: dict[str, Any], side: int) -> Tensor:
        frames: Tensor = sample["clips"][side].frames
        # The other half in the next epoch; a clip whose features are kept stays as it is.
        turned = self.mirror and not any(sample["keys"]) and (sample["row"] + self.seed // 2**20) % 2
        return frames.flip(-1) if turned else frames
