"""From a video to a clip: probing, which frames and which window, and 8-bit RGB as a display would show it.

The window is cut before the colour conversion, so that a few frames of a long 4K file cost only the decoding
since the keyframe before them. Several clips of one video are read in one pass.
"""

import random
from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from datamodules.errors import UnreadableVideo
from datamodules.video.colour import WindowConverter
from datamodules.video.probing import Video
from datamodules.video.sampling import Cut, Sampling, Span


class Clip(NamedTuple):
    """Frames uint8 (T, C, H, W), RGB, and their times float64 (T,) in seconds from the video's start."""

    frames: torch.Tensor
    times: torch.Tensor


def read_clip(video: Video, sampling: Sampling, draw: int = 0, span: Span | None = None) -> Clip:
    """Decode a clip of T = segments * frames frames.

    Draw 0 centres each segment in its equal part of the duration (with a spacing: all of them together in
    the whole) and the window in the frame. A draw above 0 places them at random, as a pure function of the
    draw: at the same parts of every video, so that two encodes of one scene are judged by the same places.
    One clip has one window. A segment begins at the frame nearest to its time; where fewer frames follow, it
    is made of the last ones, and a video shorter than a segment repeats its last frame. A frame smaller than
    the window is padded with its border pixels.

    A span takes the place of the whole duration. Segments whose spacing does not fit into it are spread
    evenly; one that is shorter than a segment is reached beyond. The window of a draw is the same in every
    span: what is compared over time is then seen through one window.

    Colours become full-range RGB of an SDR display, as `datamodules.video.colour` says. Interlaced frames
    stay interlaced, and stored pixels are taken as square. Rotation by 90, 180 or 270 degrees is applied.

    Args:
        video: a readable row of a corpus.
        sampling: which frames and which window.
        draw: 0 for the centred clip, otherwise the number of a random one.
        span: seconds from the video's start between which the clip lies; None: the whole duration.

    Returns:
        frames uint8 (T, 3, H, W) in RGB and times float64 (T,), seconds from the video's start.

    Raises:
        UnreadableVideo: if the file gives no frames or changes its frame size while whole frames are read.
    """
    return read_clips(video, sampling, [Cut(draw, span)])[0]


def read_clips(video: Video, sampling: Sampling, cuts: Sequence[Cut]) -> list[Clip]:
    """Decode several clips, each as `read_clip` does, in one pass through the video.

    Raises:
        UnreadableVideo: if one of them cannot be read.
    """
    wanted: list[tuple[float, int, int]] = []
    converters: dict[int, WindowConverter] = {}
    runs: dict[tuple[int, int], tuple[list[npt.NDArray[np.uint8]], list[float]]] = {}
    with closing(video.open()) as reader:
        for index, cut in enumerate(cuts):
            source = random.Random(cut.draw)
            uniform = source.random if cut.draw else lambda: 0.5
            place = (uniform(), uniform())
            if cut.draw not in converters:
                converters[cut.draw] = WindowConverter(video.path, sampling.window, place)
            places = [uniform() for _ in range(sampling.segments)]
            starts = _segment_starts(video, sampling, places, cut.span)
            wanted += [(start, index, segment) for segment, start in enumerate(starts)]
        for start, index, segment in sorted(wanted):
            run = reader.run(start, sampling.frames)
            if not run:
                raise UnreadableVideo(f"{video.path} gives no frame that can be decoded{reader.reason}.")
            images = [converters[cuts[index].draw](frame) for _, frame in run]
            missing = sampling.frames - len(run)
            times = [time for time, _ in run]
            runs[index, segment] = (images + images[-1:] * missing, times + times[-1:] * missing)
    clips = []
    for index in range(len(cuts)):
        parts = [runs.pop((index, segment)) for segment in range(sampling.segments)]
        frames = [image for images, _ in parts for image in images]
        if len({image.shape for image in frames}) > 1:
            raise UnreadableVideo(
                f"{video.path} changes its frame size, so that its whole frames make no clip."
            )
        seconds = torch.tensor([time for _, some in parts for time in some], dtype=torch.float64)
        clips.append(Clip(torch.from_numpy(np.stack(frames).transpose(0, 3, 1, 2).copy()), seconds))
    return clips


def _segment_starts(video: Video, sampling: Sampling, places: list[float], span: Span | None) -> list[float]:
    """Seconds at which segments begin; places in [0, 1) are their positions in the room they have."""
    length = sampling.frames / video.fps
    begin, end = (0.0, video.duration) if span is None else span
    spacing = sampling.spacing
    if spacing is not None:
        room = end - begin - length - (sampling.segments - 1) * spacing
    if spacing is None or (span is not None and room < 0):
        part = (end - begin) / sampling.segments
        starts = [index * part + (part - length) * place for index, place in enumerate(places)]
    else:
        starts = [max(room, 0.0) * places[0] + index * spacing for index in range(sampling.segments)]
    last = min(end - begin, video.duration - begin) - length
    return [max(0.0, min(begin + max(0.0, min(start, last)), video.duration - length)) for start in starts]
