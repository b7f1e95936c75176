"""The clips of the requests, read and encoded where workers run, distorted on the device that scores."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.circuits import Circuits
from datamodules.codecs import Codec, CodecCache
from datamodules.distortions import Distortion, generator_for
from datamodules.errors import InputError, UnreadableVideo
from datamodules.labels.annotation import Request
from datamodules.labels.label_store import Annotation
from datamodules.processes import WorkerLoader
from datamodules.video import Cut, Sampling, Span, Video, read_clips

_log = logging.getLogger(__name__)


class ClipItem(NamedTuple):
    """All draws of one request, or why there are none.

    Attributes:
        position: index of the request.
        frames: uint8 (D, T, C, H, W), after the round trip where the request names a codec or a circuit.
        sources: the frames before the round trip; the same tensor where the request names neither.
        times: (D, T) in seconds.
        error: one sentence where the video cannot be read; frames and times are then empty.
        said: names of teachers that score where clips are read and their annotations, None where one failed;
            or the mistake that ends the run.
        seen: what a model made of it where it was read.
    """

    position: int
    frames: Tensor
    sources: Tensor
    times: Tensor
    error: str | None
    said: Sequence[tuple[str, Annotation | None]] | InputError = ()
    seen: Tensor | None = None

    def without_clips(self, **made: Any) -> "ClipItem":
        """Return it with what was made of its clips, and without these."""
        return ClipItem(self.position, NOTHING, NOTHING, NOTHING, self.error, **made)


NOTHING = torch.empty(0, dtype=torch.uint8)
"""In place of clips that were not read."""


class ClipDataset(Dataset[ClipItem]):
    """The clips of the requests, read and encoded where a DataLoader's workers run.

    Distortions are left to the device that scores (see `distorted`). Videos differ in size, so items are not
    collated.

    Args:
        requests: what is to be scored.
        sampling: how a clip is cut from a video.
        draws: how many clips are cut from each video; clip d is `read_clip(video, sampling, d, span)`.
        pad: True takes the window as it is, as a model was trained: small frames are padded to it. False
            takes the window as an upper bound: frames that fit into it come whole, larger frames as the
            largest square that lies inside both.
        finish: what is done with a clip where it is read.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        draws: int = 1,
        pad: bool = True,
        finish: Callable[[Request, ClipItem], ClipItem] | None = None,
    ) -> None:
        self.requests = requests
        self.sampling = sampling
        self.draws = draws
        self.pad = pad
        self.finish = finish
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
        if item.error is not None:
            return item
        simulator, level, fps = request.simulator, request.level, request.video.fps
        if isinstance(simulator, Codec | Circuits):
            clips = [encoded(self.codecs, simulator, clip, level, fps, self.sampling) for clip in item.frames]
            item = item._replace(frames=torch.stack(clips))
        return item if self.finish is None else self.finish(request, item)

    def __getitems__(self, indices: Sequence[int]) -> list[ClipItem]:
        """Return the items of a batch; read consecutive spans of one video in one pass through it.

        The whole video is read by itself: other requests must not decide what it gives.
        """
        items = []
        asked = [(self.requests[index], index) for index in indices]
        for (video, whole), group in groupby(asked, key=lambda one: (one[0].video, one[0].span is None)):
            requests, places = zip(*group, strict=True)
            if not whole:
                self._read_draws(video, [request.span for request in requests])
            items += [self[place] for place in places]
        return items

    def _read_draws(self, video: Video, spans: Sequence[Span | None]) -> None:
        sampling, window = self.sampling, self.sampling.window
        if not self.pad and window is not None:
            fits = max(video.width, video.height) <= window
            sampling = replace(sampling, window=None if fits else min(window, video.width, video.height))
        self._video, self._items = video, {}
        try:
            if video.status != "ok":
                raise UnreadableVideo(video.error)
            cuts = [Cut(draw, span) for span in spans for draw in range(self.draws)]
            clips = iter(read_clips(video, sampling, cuts))
        except UnreadableVideo as error:
            self._items = dict.fromkeys(spans, ClipItem(0, NOTHING, NOTHING, NOTHING, str(error)))
            return
        for span in spans:
            frames, times = map(torch.stack, zip(*islice(clips, self.draws), strict=True))
            self._items[span] = ClipItem(0, frames, frames, times, None)

    def read(self, workers: int) -> Iterator[ClipItem]:
        """Yield the clips that can be read, in order; name each unreadable video in a warning and skip it."""
        named = set()
        loader = WorkerLoader(self, batch_size=None, num_workers=workers)
        for item in loader:
            path = self.requests[item.position].video.path
            if item.error is None:
                yield item
            elif path not in named:
                named.add(path)
                _log.warning("%s is left out: %s", path, item.error)


def encoded(
    cache: CodecCache, simulator: Codec | Circuits, clip: Tensor, level: int, fps: float, sampling: Sampling
) -> Tensor:
    """Return a clip uint8 (T, C, H, W) after a codec's round trip or a circuit, each segment by itself.

    The frames between two segments were never seen: a codec must not predict one segment from the other.
    """
    segments = torch.split(clip, sampling.frames)
    if isinstance(simulator, Circuits):
        return torch.cat([simulator(segment, level, fps, cache) for segment in segments])
    return torch.cat([cache.round_trip(simulator, segment, level, fps) for segment in segments])


def distorted(frames: Tensor, times: Tensor, request: Request, first_draw: int = 0) -> Tensor:
    """Turn read clips into what the request asks for, the same at every call.

    The generator's seed is a hash of video, simulator and level, so that a score depends neither on the batch
    nor on the order. A codec's round trip was made where the clips were read.

    Args:
        frames: uint8 (D, T, C, H, W), the draws of one video, on any device.
        times: (D, T) in seconds.
        request: the simulator and level.
        first_draw: number of the first of these draws; draws that are distorted one by one must not all get
            the same noise.

    Returns:
        float (D, T, C, H, W) in [0, 1].

    Raises:
        InputError: the level is out of the simulator's range.
    """
    clips = frames / 255
    if not isinstance(request.simulator, Distortion):
        return clips
    named = (*request.key, first_draw) if first_draw else request.key
    levels = torch.full((len(frames),), request.level)
    return request.simulator(clips, levels, times=times, generator=generator_for(named, frames.device))
