"""The clips of the requests, read and encoded where workers run, distorted on the device that scores."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.codecs import Codec, CodecCache
from datamodules.distortions import Distortion, generator_for
from datamodules.errors import UnreadableVideo
from datamodules.labels.annotation import Request
from datamodules.video import Cut, Sampling, Span, Video, read_clips

_log = logging.getLogger(__name__)


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
    levels = torch.full((len(frames),), request.level)
    return request.simulator(clips, levels, times=times, generator=generator_for(named, frames.device))
