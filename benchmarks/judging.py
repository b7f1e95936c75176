"""What benchmarks/weak_to_strong.py judges by: versions of contents that no student sees, with their truth.

A version is a video under one level of one simulator, as everywhere in the project. Its truth on the
procedural corpus is what `truth.csv` has for the file, MS-SSIM of the luma against the clean render; on real
clips it is XPSNR against the source, which labels nothing. Clips and truths are made once and kept.
"""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from experiment import XPSNR, versions

from callbacks.rounds.scores import scores_of
from datamodules.codecs import Codec
from datamodules.fidelity.ms_ssim import structural_similarity
from datamodules.labels import ClipDataset, ClipItem, LabelStore, Request, annotate_missing
from datamodules.labels.clips import distorted
from datamodules.procedural.contents import draw_content
from datamodules.procedural.shots import develop, film
from datamodules.simulators import SIMULATORS, comparable
from datamodules.video import Sampling, Video, luma
from vqa_lightning.lmm import LMMConfig
from vqa_lightning.training.defaults import default_sampling

GROUPS = (("sharpness", "temporal"), ("noise", "tone", "geometry"), ("compression",))
"""Families that the student of a seed never sees, six or seven simulators; over three seeds all of them."""

CORPUS_SEED = 1
"""Of the generator; the embedded corpus, on which students train, has 0."""

LADDERS = 32
"""Contents of which whole ladders are scored; of the others one version for each group."""

DRAWS = 4
"""Clips of a version that a student's score is the mean of."""

TRUTH_SAMPLING = Sampling(segments=8, frames=4, window=None)
"""Whole frames around the eight at which `truth.csv` looks: so many that a temporal simulator can act."""


@dataclass(frozen=True)
class Row:
    """One version that is judged, in plain types.

    Attributes:
        video_id: of the source.
        content: what intervals resample.
        simulator: its name; empty for the source.
        level: 0 for the source.
        group: index into `GROUPS`, -1 for the source.
        fold: the seed whose student is judged by it, -1 for all of them.
        across: whether it counts across contents; the others only complete a ladder.
        truth: higher better; nan where there is none.
    """

    video_id: str
    content: str
    simulator: str
    level: int
    group: int
    fold: int
    across: bool
    truth: float

    def request(self, videos: Mapping[str, Video]) -> Request:
        """Return the request of an annotator."""
        return Request(videos[self.video_id], SIMULATORS.get(self.simulator), self.level)


def trained(seed: int) -> list[str]:
    """Return the names of the simulators that the student of a seed learns from."""
    return [name for name, one in SIMULATORS.items() if one.family not in GROUPS[seed % len(GROUPS)]]


def group_of(simulator: str) -> int:
    """Return the index into `GROUPS`."""
    return next(index for index, families in enumerate(GROUPS) if SIMULATORS[simulator].family in families)


def procedural_versions(videos: Sequence[Video]) -> Iterator[tuple[Request, bool]]:
    """Return the sources and, for each group, one version by the simulator whose turn it is, level at random.

    Of the first `LADDERS` videos the rest of that simulator's ladder too, which does not count across
    contents.
    """
    generator = np.random.default_rng(0)
    for place, video in enumerate(videos):
        yield Request(video), True
        for group in range(len(GROUPS)):
            names = [name for name in SIMULATORS if group_of(name) == group]
            simulator = SIMULATORS[names[place % len(names)]]
            chosen = int(generator.integers(1, len(simulator.levels) + 1))
            for level in range(1, len(simulator.levels) + 1):
                if level == chosen or place < LADDERS:
                    yield Request(video, simulator, level), level == chosen


@lru_cache(maxsize=1)
def clean_luma(index: int) -> tuple[torch.Tensor, int]:
    """Return the luma (T, H, W) in [0, 1] of the clean render of a content, and its frames per second."""
    content = draw_content(CORPUS_SEED, index)
    frames = film(content.shots, content.height, content.width, content.fps)
    return torch.stack([luma(develop(light)) for light in frames]), content.fps


def ms_ssim(requests: Sequence[Request]) -> Iterator[float]:
    """Return MS-SSIM of procedural versions against the clean render, mean over `TRUTH_SAMPLING`."""
    for item in ClipDataset(requests, TRUTH_SAMPLING).read(0):
        request = requests[item.position]
        clean, fps = clean_luma(int(request.video.content.removeprefix("content_")))
        clip = distorted(item.frames, item.times, request)[0]
        places = (item.times[0] * fps).round().long().clamp(max=len(clean) - 1)
        similarity, _ = structural_similarity(luma(clip), clean[places])
        yield float(similarity.mean())


def procedural_rows(videos: Sequence[Video]) -> list[Row]:
    """Return what all students are judged by on the procedural corpus."""
    found = list(procedural_versions(videos))
    truth = ms_ssim([request for request, across in found if across])
    return [_row(request, -1, across, next(truth) if across else math.nan) for request, across in found]


def clip_rows(folds: Sequence[Sequence[Video]], store: LabelStore) -> list[Row]:
    """Return all versions of real clips, each for the student of its fold, with XPSNR where it applies."""
    judge = XPSNR()
    in_place = comparable(SIMULATORS)
    requests = [request for fold in folds for request in versions(fold, SIMULATORS.values())]
    compared = [
        request
        for request in requests
        if request.simulator is not None and request.simulator.name in in_place
    ]
    annotate_missing(judge, compared, store, 0)
    truth = scores_of(store.read(round=0), judge.fingerprint)
    place = {video.video_id: fold for fold, videos in enumerate(folds) for video in videos}
    return [
        _row(request, place[request.video.video_id], request.key in truth, truth.get(request.key, math.nan))
        for request in requests
    ]


def _row(request: Request, fold: int, across: bool, truth: float) -> Row:
    video, simulator = request.video, request.simulator
    name, group = ("", -1) if simulator is None else (simulator.name, group_of(simulator.name))
    return Row(video.video_id, video.content, name, request.level, group, fold, across, truth)


def write_rows(file: Path, rows: Sequence[Row]) -> None:
    """Write the rows whole or not at all."""
    hidden = file.with_suffix(".tmp")
    with hidden.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(field.name for field in fields(Row))
        table.writerows(astuple(row) for row in rows)
    hidden.replace(file)


def read_rows(file: Path) -> list[Row]:
    """Read what `write_rows` wrote."""
    with file.open(newline="") as stream:
        return [
            Row(
                video_id=row["video_id"],
                content=row["content"],
                simulator=row["simulator"],
                level=int(row["level"]),
                group=int(row["group"]),
                fold=int(row["fold"]),
                across=row["across"] == "True",
                truth=float(row["truth"]),
            )
            for row in csv.DictReader(stream)
        ]


class KeptClips:
    """The clips of sources, and of codecs' versions of them, read and encoded once for all students.

    Args:
        folder: where they lie.
        requests: all that will be asked for.
    """

    def __init__(self, folder: Path, requests: Sequence[Request]) -> None:
        places: dict[tuple[str, str, int], int] = {}
        first: list[Request] = []
        for request in requests:
            if self._key(request) not in places:
                places[self._key(request)] = len(first)
                first.append(request if isinstance(request.simulator, Codec) else Request(request.video))
        self._places = places
        frames, times = folder / "clips.npy", folder / "times.npy"
        if not times.is_file():
            items = list(ClipDataset(first, default_sampling(LMMConfig()), DRAWS).read(0))
            folder.mkdir(exist_ok=True)
            np.save(frames, torch.stack([item.frames for item in items]).numpy())
            np.save(times, torch.stack([item.times for item in items]).numpy())
        self._frames, self._times = np.load(frames, mmap_mode="r"), np.load(times)

    @staticmethod
    def _key(request: Request) -> tuple[str, str, int]:
        if not isinstance(request.simulator, Codec):
            return request.video.video_id, "", 0
        return request.video.video_id, request.simulator.name, request.level

    def items(self, requests: Sequence[Request]) -> Iterator[ClipItem]:
        """Yield what `ClipDataset` gives for the same requests, but for the sources of codecs' versions."""
        for position, request in enumerate(requests):
            place = self._places[self._key(request)]
            frames = torch.from_numpy(self._frames[place].copy())
            yield ClipItem(position, frames, frames, torch.from_numpy(self._times[place]), None)
