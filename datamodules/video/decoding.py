"""From a video to a clip: probing, which frames and which window, and 8-bit RGB as a display would show it.

The window is cut before the colour conversion, so that a few frames of a long 4K file cost only the decoding
from the keyframe before them. Several clips of one video are read in one pass.
"""

import random
from collections.abc import Sequence
from contextlib import closing
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from datamodules.errors import UnreadableVideo
from datamodules.video.colour import WindowConverter
from datamodules.video.one_file import of_one_file
from datamodules.video.probing import Video
from datamodules.video.sampling import Cut, Sampling, Span


class Clip(NamedTuple):
    """Frames uint8 (T, C, H, W), RGB, and their times float64 (T,) in seconds from the video's start."""

    frames: torch.Tensor
    times: torch.Tensor


class Places(NamedTuple):
    """Parts in [0, 1) of the room that there is: for the window across and down, in time for each segment."""

    window: tuple[float, float]
    segments: list[float]


def read_clip(video: Video, sampling: Sampling, draw: int = 0, span: Span | None = None) -> Clip:
    """Decode a clip of T = segments * frames frames.

    Draw 0 centres each segment in its equal part of the duration (with a spacing: all segments together in
    the whole) and the window in the frame. A draw above 0 places segments and window at random, as a pure
    function of the draw: at the same parts of every video, so that two encodes of one scene are judged by the
    same places. One clip has one window. A segment begins at the frame nearest to its time; where fewer
    frames follow, the segment is made of the last frames, and a video shorter than a segment repeats its last
    frame. A frame smaller than the window is padded with its border pixels.

    A span takes the place of the whole duration. Segments whose spacing does not fit into the span are spread
    evenly; a segment longer than the span reaches beyond it. The window of a draw is the same in every span:
    what is compared over time is seen through one window.

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
        UnreadableVideo: the file gives no frames, or changes its frame size while whole frames are read.

    Example:
        >>> from datamodules.video.memory_video import memory_video
        >>> video = memory_video(torch.randint(256, (50, 3, 48, 64), dtype=torch.uint8), fps=25)
        >>> clip = read_clip(video, Sampling(segments=2, frames=3, window=32))
        >>> clip.frames.shape, [round(time, 2) for time in clip.times.tolist()]
        (torch.Size([6, 3, 32, 32]), [0.44, 0.48, 0.52, 1.44, 1.48, 1.52])
    """
    return read_clips(video, sampling, [Cut(draw, span)])[0]


@of_one_file(attrgetter("path"))
def read_clips(video: Video, sampling: Sampling, cuts: Sequence[Cut]) -> list[Clip]:
    """Decode several clips, each as `read_clip` does, in one pass through the video.

    Raises:
        UnreadableVideo: one of the clips cannot be read.
    """
    wanted: list[tuple[float, int, int]] = []
    converters: dict[int, WindowConverter] = {}
    runs: dict[tuple[int, int], list[tuple[float, npt.NDArray[np.uint8]]]] = {}
    with closing(video.open()) as reader:
        for index, cut in enumerate(cuts):
            places = drawn_places(cut.draw, sampling.segments)
            if cut.draw not in converters:
                converters[cut.draw] = WindowConverter(video.path, sampling.window, places.window)
            starts = _segment_starts(video, sampling, places.segments, cut.span)
            wanted += [(start, index, segment) for segment, start in enumerate(starts)]
        for start, index, segment in sorted(wanted):
            convert = converters[cuts[index].draw]
            run = [(time, convert(frame)) for time, frame in reader.run(start, sampling.frames)]
            if not run:
                raise UnreadableVideo(f"{video.path} gives no frame that can be decoded{reader.reason}.")
            runs[index, segment] = run + run[-1:] * (sampling.frames - len(run))
    clips = []
    for index in range(len(cuts)):
        timed = [one for segment in range(sampling.segments) for one in runs.pop((index, segment))]
        images = [image for _, image in timed]
        if len({image.shape for image in images}) > 1:
            raise UnreadableVideo(f"{video.path} changes its frame size: its whole frames make no clip.")
        times = torch.tensor([time for time, _ in timed], dtype=torch.float64)
        clips.append(Clip(torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()), times))
    return clips


def drawn_places(draw: int, segments: int) -> Places:
    """Return where a draw puts window and segments, whatever the video.

    Example:
        >>> drawn_places(0, segments=2)
        Places(window=(0.5, 0.5), segments=[0.5, 0.5])
    """
    uniform = random.Random(draw).random if draw else lambda: 0.5
    return Places((uniform(), uniform()), [uniform() for _ in range(segments)])


def _segment_starts(video: Video, sampling: Sampling, places: list[float], span: Span | None) -> list[float]:
    """Return the seconds at which segments begin; places in [0, 1) are their positions in their room."""
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
