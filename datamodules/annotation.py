"""Annotation: what is to be scored, who scores it, and the loop that scores only what is missing.

Teachers at round 0 and the student at every later round go through the same loop. A rank's share depends on
the requests alone and never on the state of the store, so that ranks that start at different moments leave no
gap.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.codec_cache import CodecCache
from datamodules.codecs import Codec
from datamodules.decoding import Cut, Sampling, Span, Video, read_clips
from datamodules.distortions import Distortion
from datamodules.errors import UnreadableVideo
from datamodules.label_store import Annotation, Key, LabelStore
from datamodules.simulators import Simulator

PART_ROWS = 4096
PART_SECONDS = 300.0
"""A part is written when it has this many scores or is this old: what a killed process can lose, against the
number of files of a large corpus."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """A video to be scored: the source itself, a distorted version of it, or what it shows for a while.

    Attributes:
        video: the source.
        simulator: None for the source itself.
        level: of the simulator.
        span: seconds between which the clips lie; None: the whole video. The label store knows no spans.
    """

    video: Video
    simulator: Simulator | None = None
    level: int = 0
    span: Span | None = None

    @property
    def key(self) -> Key:
        """Video id, the simulator's identity and level, as the label store keeps them."""
        return self.video.video_id, None if self.simulator is None else self.simulator.identity, self.level


class Annotator(Protocol):
    """Whoever scores videos: a teacher, a file of scores, the student. Higher is better."""

    name: str

    @property
    def fingerprint(self) -> str:
        """Hexadecimal hash of name, settings and fit; where it differs, old scores do not count."""

    @property
    def settings(self) -> Mapping[str, object]:
        """What the fingerprint stands for, in plain types; kept beside the scores."""

    def annotate(self, requests: Sequence[Request], workers: int) -> Iterator[Annotation]:
        """Score the requests; what cannot be read is named in a warning and left out.

        Args:
            requests: what is to be scored.
            workers: processes that read clips; 0 reads in this one.
        """


def fingerprint_of(name: str, settings: Mapping[str, object]) -> str:
    """Hash a name and plain settings to 12 hexadecimal digits."""
    canonical = json.dumps([name, settings], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def annotate_missing(
    annotator: Annotator,
    requests: Sequence[Request],
    store: LabelStore,
    round: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
) -> int:
    """Score this rank's share of the requests that the store does not have yet, and write them in parts.

    Interrupted at any moment, the same call goes on where the last whole part ended. Every rank must be given
    the same requests; wait for all of them before reading the store.

    Args:
        annotator: who scores.
        requests: all that is to be scored, by all ranks together; repeated keys count once.
        store: where scores are kept.
        round: 0 for teachers.
        rank: this process.
        world_size: the number of processes.
        workers: processes that read clips, of this rank.

    Returns:
        How many scores were computed here.

    Raises:
        InputError: if the store cannot be written to.
    """
    by_key = {request.key: request for request in requests}
    keys = sorted(by_key, key=lambda key: (key[0], key[1] or "", key[2]))
    share = keys[rank::world_size]
    fingerprint = annotator.fingerprint
    have = store.have(round, fingerprint)
    missing = [by_key[key] for key in share if key not in have]
    if not missing:
        return 0
    store.require_writable()

    def write(part: list[Annotation]) -> None:
        store.write(round, annotator.name, fingerprint, part, rank=rank, settings=annotator.settings)

    # What an annotator failed on before is all that is missing after a restart: one that it has scored shows
    # that it is not the annotator that fails.
    probe = [by_key[key] for key in keys if key in have][:1]
    computed, part, began = 0, [], time.monotonic()
    try:
        for annotation in annotator.annotate([*probe, *missing], workers):
            if annotation[:3] in have:
                continue
            computed += 1
            part.append(annotation)
            if len(part) >= PART_ROWS or time.monotonic() - began > PART_SECONDS:
                full, part, began = part, [], time.monotonic()
                write(full)
    finally:
        write(part)  # also on Ctrl-C
    if computed < len(missing):
        _log.warning(
            "%s gave no score to %d of %d clips.", annotator.name, len(missing) - computed, len(missing)
        )
    return computed


class ClipItem(NamedTuple):
    """All draws of one request, or why there are none.

    Attributes:
        position: index of the request.
        frames: uint8 (D, T, C, H, W), after the codec's round trip where one was asked for.
        sources: the same before it; the same tensor where none was.
        times: (D, T) in seconds.
        error: one sentence where the video cannot be read; frames and times are then empty.
    """

    position: int
    frames: Tensor
    sources: Tensor
    times: Tensor
    error: str | None


class ClipDataset(Dataset[ClipItem]):
    """The clips of the requests, read and encoded where a DataLoader's workers run.

    Distortions are left to the device that scores (see `distorted`). Videos differ in size, so items are not
    collated.

    Args:
        requests: what is to be scored.
        sampling: how a clip is cut from a video.
        draws: how many clips are cut from each video; clip d is `read_clip(video, sampling, d, span)`.
        pad: True takes the window as it is, small frames padded to it, as a model was trained. False takes it
            as an upper bound: frames that fit into it come whole, larger ones as the largest square that lies
            inside.
    """

    def __init__(
        self, requests: Sequence[Request], sampling: Sampling, draws: int = 1, pad: bool = True
    ) -> None:
        self.requests = requests
        self.sampling = sampling
        self.draws = draws
        self.pad = pad
        self.codecs = CodecCache()
        self._video: Video | None = None
        self._items: dict[Span | None, ClipItem] = {}

    def __len__(self) -> int:
        return len(self.requests)

    def __getitem__(self, index: int) -> ClipItem:
        request = self.requests[index]
        # A ladder asks for the same clips once a level, one after the other.
        if self._video != request.video or request.span not in self._items:
            self._read_draws(request.video, [request.span])
        item = self._items[request.span]._replace(position=index)
        if not isinstance(request.simulator, Codec) or item.error is not None:
            return item
        clips = [
            encoded(self.codecs, request.simulator, clip, request.level, request.video.fps, self.sampling)
            for clip in item.frames
        ]
        return item._replace(frames=torch.stack(clips))

    def __getitems__(self, indices: Sequence[int]) -> list[ClipItem]:
        """The items of a batch; spans of one video that follow each other are read in one pass through it.

        The whole video is read by itself: what is asked besides must not decide what it gives.
        """
        items = []
        for (video, whole), group in groupby(indices, key=self._video_and_kind):
            places = list(group)
            if not whole:
                self._read_draws(video, [self.requests[place].span for place in places])
            items += [self[place] for place in places]
        return items

    def _video_and_kind(self, index: int) -> tuple[Video, bool]:
        request = self.requests[index]
        return request.video, request.span is None

    def _read_draws(self, video: Video, spans: Sequence[Span | None]) -> None:
        sampling = self.sampling
        self._video = video
        try:
            if video.status != "ok":
                raise UnreadableVideo(video.error)
            if not self.pad and sampling.window is not None:
                fits = max(video.width, video.height) <= sampling.window
                sampling = replace(
                    sampling, window=None if fits else min(sampling.window, video.width, video.height)
                )
            cuts = [Cut(draw, span) for span in spans for draw in range(self.draws)]
            clips = read_clips(video, sampling, cuts)
        except UnreadableVideo as error:
            nothing = torch.empty(0, dtype=torch.uint8)
            item = ClipItem(0, nothing, nothing, torch.empty(0), str(error))
            self._items = dict.fromkeys(spans, item)
            return
        self._items = {}
        for place, span in enumerate(spans):
            drawn = clips[place * self.draws : (place + 1) * self.draws]
            frames = torch.stack([clip.frames for clip in drawn])
            times = torch.stack([clip.times for clip in drawn])
            self._items[span] = ClipItem(0, frames, frames, times, None)

    def read(self, workers: int) -> Iterator[ClipItem]:
        """Yield the clips that can be read, in order; what cannot is named in a warning and left out."""
        named = set()
        for item in DataLoader(self, batch_size=None, num_workers=workers):
            path = self.requests[item.position].video.path
            if item.error is None:
                yield item
            elif path not in named:
                named.add(path)
                _log.warning("%s is left out: %s", path, item.error)


def encoded(
    cache: CodecCache, codec: Codec, clip: Tensor, level: int, fps: float, sampling: Sampling
) -> Tensor:
    """A clip uint8 (T, C, H, W) after a codec's round trip, each of its segments by itself.

    What lies between two segments was never seen: a codec must not predict one from the other.
    """
    segments = torch.split(clip, sampling.frames)
    return torch.cat([cache.round_trip(codec, segment, level, fps) for segment in segments])


def distorted(frames: Tensor, times: Tensor, request: Request, first_draw: int = 0) -> Tensor:
    """Turn read clips into what the request asks for, the same at every call.

    The generator's seed is a hash of video, simulator and level, so that a score depends neither on the batch
    nor on the order. What a codec does was done where the clips were read.

    Args:
        frames: uint8 (D, T, C, H, W), the draws of one video, on any device.
        times: (D, T) in seconds.
        request: the simulator and level.
        first_draw: of these; draws that are distorted one by one must not all get the same noise.

    Returns:
        float (D, T, C, H, W) in [0, 1].

    Raises:
        InputError: if the level is out of the simulator's range.
    """
    clips = frames / 255
    if not isinstance(request.simulator, Distortion):
        return clips
    named = (*request.key, first_draw) if first_draw else request.key
    seed = int.from_bytes(hashlib.sha256(repr(named).encode()).digest()[:7])
    generator = torch.Generator(frames.device).manual_seed(seed)
    levels = torch.full((len(frames),), request.level)
    return request.simulator(clips, levels, times=times, generator=generator)
