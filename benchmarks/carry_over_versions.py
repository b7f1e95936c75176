"""Versions of real clips at known strength: ladders and chains, as files that a user could have.

A source is stored without loss in 4:2:0, and everything follows from that file: encoders get its very pixels,
and what a simulator changed is stored without loss, too. No version differs from its source by a chroma
subsampling or a colour matrix, so that a judge sees the distortion and nothing else.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
import torch
import torch.nn.functional as F
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream
from torch import Tensor

from datamodules.codecs.encoders import ENCODERS, scheduling_kept
from datamodules.codecs.pictures import to_yuv
from datamodules.distortions import frame_rate, gaussian_blur, gaussian_noise, generator_for
from datamodules.files import written_whole
from datamodules.video import Sampling, Video, probe, read_clip
from datamodules.video.frame_runs import read_runs

RECIPE = 1
"""Raise it when the code makes other versions: folders of older ones are then left alone."""

FRAMES, LINES, COLUMNS = 16, 360, 640

LEVELS: Mapping[str, tuple[float, ...]] = {
    "x264": (18, 26, 33, 41, 48),
    "x265": (20, 28, 35, 43, 50),
    "vp9": (20, 31, 42, 52, 63),
    "av1": (20, 31, 42, 52, 63),
    "blur": (0.68, 1.36, 2.04, 2.72, 3.4),
    "grain": (5.2, 10.4, 15.6, 20.8, 26),
    "drop": (2, 3, 4, 6, 8),
    "downup": (1.72, 2.44, 3.16, 3.88, 4.6),
    "gamma": (1.44, 1.88, 2.32, 2.76, 3.2),
}
"""Ladder -> strengths, mildest first: CRF; sigma in pixels; deviation in steps of 8 bits; one new picture in
so many frames; factor; exponent. Evenly spread over the ranges, but for drop."""

WITHOUT: Mapping[str, float] = {"blur": 0, "grain": 0, "downup": 1, "gamma": 1}
"""Strengths that change nothing, of the simulators that begin chains."""

CHAIN_SHARE, CHAIN_CRF = 0.6, (18, 44)
"""Of a simulator's range in a chain; of the x264 that follows."""

CODECS: Mapping[str, tuple[str, dict[str, str]]] = {
    "x264": ("libx264", {"preset": "fast"}),
    "x265": ("libx265", {"preset": "fast"}),
    "vp9": ("libvpx-vp9", {"deadline": "good", "cpu-used": "4"}),
    "av1": ("libsvtav1", {"preset": "8"}),
}

LOSSLESS = {"preset": "ultrafast", "qp": "0"}

AT_ONCE = 4
"""Frames that a simulator of single frames is given together: 1080p as floats is large."""


class Version(NamedTuple):
    """What is done to a source.

    Attributes:
        ladder: of `LEVELS`, "chain" or "source".
        level: from 1, the mildest; of chains a number; of the source 0.
        steps: simulators and encoders with their strengths, in order.
    """

    ladder: str
    level: int
    steps: tuple[tuple[str, float], ...] = ()

    @property
    def name(self) -> str:
        """The stem of its file."""
        return "+".join(f"{kind}_{strength:g}" for kind, strength in self.steps) or "source"


def versions(clip: str, ladders: Sequence[str] = tuple(LEVELS), chains: bool = True) -> list[Version]:
    """Return the versions of a clip, the source first; chains follow from its name alone.

    Example:
        >>> [version.name for version in versions("a.mp4", ["x264"], chains=False)]
        ['source', 'x264_18', 'x264_26', 'x264_33', 'x264_41', 'x264_48']
    """
    found = [Version("source", 0)]
    for ladder in ladders:
        steps = enumerate(LEVELS[ladder], start=1)
        found += [Version(ladder, level, ((ladder, strength),)) for level, strength in steps]
    if chains:
        for number, (kind, neutral) in enumerate(WITHOUT.items(), start=1):
            drawn = random.Random(f"{clip} {kind}")
            reach = CHAIN_SHARE * (LEVELS[kind][-1] - neutral)
            strength = round(neutral + reach * drawn.random(), 3)
            found.append(Version("chain", number, ((kind, strength), ("x264", drawn.randint(*CHAIN_CRF)))))
    return found


def make_version(source: Video, clip: str, version: Version, folder: Path, native: bool) -> Path:
    """Return the file of a version, made unless it lies there.

    Args:
        source: the whole real clip.
        clip: its name, from which grain and dropped frames follow.
        version: what is done to it.
        folder: where the versions of this clip lie.
        native: whether the frames keep their size.
    """
    file = folder / f"{version.name}.mp4"
    if file.is_file():
        return file
    if not version.steps:
        frames = fitted(next(read_runs(source, [source.duration / 4], FRAMES)), native)
        write(file, "libx264", LOSSLESS, pictures(frames), source.fps)
        return file
    origin = folder / "source.mp4"
    *simulated, (last, strength) = version.steps
    if last not in CODECS:
        simulated = list(version.steps)
    coded = stored(origin)
    if last == "drop":  # frames are repeated as they are stored, without a turn through RGB
        coded = [coded[place] for place in repeated(len(coded), strength, clip)]
    elif simulated:
        frames = read_clip(probe(origin), Sampling(1, len(coded), window=None)).frames
        for kind, value in simulated:
            frames = simulate(frames, kind, value, clip)
        coded = pictures(frames)
    encoder, options = "libx264", LOSSLESS
    if last in CODECS:
        encoder, options = CODECS[last]
        options = {**options, **ENCODERS[encoder].options, "crf": f"{strength:g}"}
    write(file, encoder, options, coded, source.fps)
    return file


def simulate(frames: Tensor, kind: str, strength: float, clip: str) -> Tensor:
    """Return frames uint8 (T, 3, H, W) changed by a simulator; its random numbers follow from the clip."""
    generator = _generator(clip, kind, strength)
    change = _SIMULATORS[kind]
    parts = [change(part.float() / 255, strength, generator).clamp(0, 1) for part in frames.split(AT_ONCE)]
    return (torch.cat(parts) * 255).round().byte()


def repeated(count: int, strength: float, clip: str) -> list[int]:
    """Return which of `count` frames is shown at each place when one in `strength` is new.

    Example:
        >>> len(set(repeated(16, 8.0, "a.mp4")))
        2
    """
    places = torch.arange(count, dtype=torch.float32).view(1, -1, 1, 1, 1)
    shown = frame_rate(places, torch.tensor([strength]), None, _generator(clip, "drop", strength))
    return [int(place) for place in shown.flatten()]


def fitted(frames: Tensor, native: bool) -> Tensor:
    """Bring frames uint8 (T, 3, H, W) to at most 360 lines by area and cut 640 columns, even sides."""
    height, width = frames.shape[-2:]
    if not native:
        if height > LINES:
            small = area(frames.float(), LINES, round(width * LINES / height))
            frames = small.round().clamp(0, 255).byte()
            height, width = frames.shape[-2:]
        left = max(0, width - COLUMNS) // 2
        frames = frames[..., left : left + COLUMNS]
        width = frames.shape[-1]
    return frames[..., : height - height % 2, : width - width % 2].contiguous()


def area(frames: Tensor, height: int, width: int) -> Tensor:
    """Scale frames (..., H, W) down by the mean over the area of each new pixel, whole or not.

    Example:
        >>> area(torch.tensor([[0.0, 3.0, 6.0]]), 1, 2)
        tensor([[1., 5.]])
    """
    rows, columns = (_coverage(old, new) for old, new in zip(frames.shape[-2:], (height, width), strict=True))
    return rows @ frames @ columns.mT


def pictures(frames: Tensor) -> list[VideoFrame]:
    """Bring RGB uint8 (T, 3, H, W) of even sides to 4:2:0 of BT.709 in limited range."""
    size = (frames.shape[-2], frames.shape[-1])
    return to_yuv(frames, size, size)


def stored(file: Path) -> list[VideoFrame]:
    """Return the frames of a version as they are stored."""
    with av.open(str(file)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return list(container.decode(video=0))


def write(
    file: Path, encoder: str, options: Mapping[str, str], frames: Sequence[VideoFrame], fps: float
) -> None:
    """Encode frames in 4:2:0 of BT.709 to a file, on one thread."""
    rate = Fraction(fps).limit_denominator(1001)
    with written_whole(file) as hidden, av.open(str(hidden), "w", format="mp4") as container:
        stream = container.add_stream(encoder, rate=rate, options=dict(options))
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.thread_count = 1  # more threads change the bitstream
        context.width, context.height, context.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        context.time_base = 1 / rate
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        with scheduling_kept():
            context.open()
        for place, frame in enumerate(frames):
            # A copy has neither the frame type nor the other data of the stream it was decoded from.
            copy = VideoFrame.from_ndarray(frame.to_ndarray(), format="yuv420p")
            copy.colorspace, copy.color_range = Colorspace.ITU709, ColorRange.MPEG
            copy.pts, copy.time_base = place, context.time_base
            container.mux(stream.encode(copy))
        container.mux(stream.encode(None))


def _generator(clip: str, kind: str, strength: float) -> torch.Generator:
    return generator_for(("carry over", clip, kind, strength), torch.device("cpu"))


def _coverage(old: int, new: int) -> Tensor:
    """Return the share (new, old) that each old pixel has in each new one."""
    edges = torch.linspace(0, old, new + 1, dtype=torch.float64)
    pixels = torch.arange(old, dtype=torch.float64)
    shares = [
        ((pixels + 1).minimum(end) - pixels.maximum(start)).clamp(min=0) for start, end in pairwise(edges)
    ]
    return (torch.stack(shares) * new / old).float()


def _down_up(frames: Tensor, factor: float, _: torch.Generator) -> Tensor:
    height, width = frames.shape[-2:]
    small = area(frames, max(1, round(height / factor)), max(1, round(width / factor)))
    return F.interpolate(small, (height, width), mode="bicubic")


_SIMULATORS: Mapping[str, Callable[[Tensor, float, torch.Generator], Tensor]] = {
    "blur": lambda frames, sigma, _: gaussian_blur(frames[None], torch.tensor([sigma]))[0],
    "grain": lambda frames, deviation, generator: gaussian_noise(
        frames[None], torch.tensor([(deviation / 255) ** 2]), generator=generator
    )[0],
    "downup": _down_up,
    "gamma": lambda frames, exponent, _: frames**exponent,
}
