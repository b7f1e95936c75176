"""Real encoders as simulators of known severity: a clip is encoded and decoded in memory, where workers run.

Every encoder runs on one thread and with the settings under which its bitstream repeats, so that the pixels
depend on clip, codec, level and frame rate alone, and a cache may keep the bitstream in place of the pixels.
"""

import hashlib
import json
import math
import os
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import ClassVar, Literal

import av
import torch
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from torch import Tensor

from datamodules.checks import check_between, check_choice, check_least, check_that
from datamodules.codecs.encoders import ENCODERS, in_build, open_context, scheduling_kept
from datamodules.codecs.pictures import join_packets, split_packets, to_rgb, to_yuv, without_signature
from datamodules.errors import InputError

# SVT-AV1 prints its settings past FFmpeg's log; only this variable silences it.
os.environ.setdefault("SVT_LOG", "-1")

VERSION = 2
"""Raise it when the code changes what a level is: identities of users' codecs and cached streams then end."""

MINIMUM_SIDE = 16
"""Pixels, a macroblock of H.264; in smaller frames the padding is coded more than the picture."""

FRAME_RATES = (1.0, 240.0)
"""Frames/s that every encoder takes; SVT-AV1 refuses more. A clip outside is coded as at the nearer end."""

LADDER_BITS = 0.125
"""Bits per pixel at a ladder's top, the clip's own size: 1080p at 7.8 Mbit/s and 30 frames/s, the top rung
for H.264 in Apple's HLS Authoring Specification."""

LADDER_GOP = 2.0
"""Seconds between key frames in a service's stream (same specification): the bits of a clip's intra frame are
spread over as many, since the clip itself is shorter."""

LADDER_CRF = 18
"""The finest CRF of a ladder: with it, easy content does not use up its bits, as in services' capped CRF."""

LADDER_SLOPE = 6
"""CRF steps for each halving of a rung's sides. Six halve the bit rate at one size (FFmpeg's guide to H.264);
Apple's rungs, too, get fewer bits per pixel as they get smaller: .125 at 1080p, .050 at 234p."""

Strength = Literal["crf", "downscale"]


@dataclass(frozen=True)
class Codec:
    """An encoder with ordered levels: level 0 is the source, level k has the strength `levels[k - 1]`.

    RGB becomes 4:2:0 of ITU-R BT.709 in limited range and comes back by the same matrix, whatever the frame
    size. Odd sizes are padded by their border pixels to what the encoder takes, and cut again.

    Attributes:
        name: what pairs, labels and configs call it.
        encoder: FFmpeg's name of the encoder, one of `ENCODERS`.
        levels: the strengths, mildest first. CRF: whole numbers from 0 (libx264: to 63, above 51 as 51;
            libx265: to 51; libvpx-vp9: to 63; libsvtav1: 1 to 63). Downscale: factors from 1.
        options: further options of the encoder by FFmpeg's names, such as preset.
        strength: what `levels` are. "crf": the encoder's constant rate factor. "downscale": a rung of a
            streaming ladder, by which factor its sides are smaller than the clip's; it is enlarged again as
            by a player. The clip at its own size is given the mildest CRF, from 18, that keeps within .125
            bits per pixel; a rung has 6 CRF steps more for each halving of the sides. So bits fall with the
            size as in Apple's ladder, hard content looks worse than easy, and in no rung does a finer
            quantiser make good what the size takes.

    Raises:
        InputError: the encoder is unknown or not in this build of PyAV, there are no levels, one is not
            finite or out of range, they do not rise, or the encoder does not take the options.
    """

    name: str
    encoder: str
    levels: tuple[float, ...]
    options: Mapping[str, str | int | float] = field(default_factory=dict, hash=False)
    strength: Strength = "crf"

    family: ClassVar[str] = "compression"

    def __post_init__(self) -> None:
        in_this_build = filter(in_build, ENCODERS)
        check_choice(f"The encoder of {self.name!r}, in this build of PyAV,", self.encoder, in_this_build)
        self._check_levels()
        self._check_options()

    @property
    def identity(self) -> str:
        """The name under which scores of its clips are kept: `NAME-HASH` of all that defines it.

        The releases of PyAV and FFmpeg belong to it, since the pixels may change with them.
        """
        definition = self.definition + av.__version__ + av.ffmpeg_version_info
        return f"{self.name}-{hashlib.sha256(definition.encode()).hexdigest()[:8]}"

    @property
    def definition(self) -> str:
        """All that a level's pixels depend on besides the clip and the encoder's release, as JSON."""
        fixed = ENCODERS[self.encoder].options
        levels = [float(level) for level in self.levels]
        return json.dumps(
            [VERSION, self.encoder, self.strength, levels, self._options, dict(fixed)], sort_keys=True
        )

    @property
    def _options(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.options.items()}

    def __call__(self, clip: Tensor, level: int, fps: float) -> Tensor:
        """Encode and decode a clip, the same at every call.

        Args:
            clip: uint8 (T, 3, H, W) on the host, full-range RGB; sides of at least 16 pixels.
            level: 0 (the source, returned as it is) to `len(levels)`.
            fps: frames per second, above 0; rate control weighs a frame by how long it is shown.

        Returns:
            uint8 of the clip's shape.

        Raises:
            InputError: the clip, level or fps is not as said, or the frames are too small for the level.

        Example:
            >>> clip = torch.randint(256, (4, 3, 48, 64), dtype=torch.uint8)
            >>> codec = Codec("low", "libx264", levels=(40, 50))
            >>> codec(clip, 2, fps=25).shape
            torch.Size([4, 3, 48, 64])
        """
        self._check_clip(clip, level, fps)
        return self.decode(self.encode(clip, level, fps), clip.shape) if level else clip

    def encode(self, clip: Tensor, level: int, fps: float) -> bytes:
        """Encode a clip as in `__call__`, at a level from 1, to its packets, each after its length."""
        self._check_clip(clip, level, fps)
        fps = min(max(fps, FRAME_RATES[0]), FRAME_RATES[1])
        strength, size = self.levels[level - 1], self._padded(clip.shape)
        pictures = to_yuv(clip, size, size)
        if self.strength == "crf":
            return join_packets(self._packets(pictures, round(strength), fps))
        finest = self._ladder_crf(pictures, fps)
        crf = min(round(finest + LADDER_SLOPE * math.log2(strength)), ENCODERS[self.encoder].clamp)
        rung = (2 * round(size[0] / strength / 2), 2 * round(size[1] / strength / 2))
        return join_packets(self._packets(to_yuv(clip, size, rung), crf, fps))

    def decode(self, bitstream: bytes, shape: Sequence[int]) -> Tensor:
        """Decode what `encode` made of a clip of this shape: uint8 (T, 3, H, W)."""
        decoder = open_context(ENCODERS[self.encoder].decoder, "r")
        packets = (*map(av.Packet, split_packets(bitstream)), None)
        frames = (frame for packet in packets for frame in decoder.decode(packet))
        return to_rgb(frames, self._padded(shape))[..., : shape[-2], : shape[-1]].contiguous()

    def _padded(self, shape: Sequence[int]) -> tuple[int, int]:
        """Return the (height, width) that are coded at full size: even, at least the encoder's minimum."""
        minimum = ENCODERS[self.encoder].minimum
        height, width = (max(side + side % 2, minimum) for side in shape[-2:])
        return height, width

    def _ladder_crf(self, pictures: Sequence[VideoFrame], fps: float) -> int:
        """Return the mildest CRF whose stream, extended to a whole GOP, keeps within a ladder's bits."""
        crfs = range(LADDER_CRF, ENCODERS[self.encoder].clamp)
        budget = LADDER_BITS * pictures[0].width * pictures[0].height

        def fits(crf: int) -> bool:
            first, *others = (8 * len(packet) for packet in self._packets(pictures, crf, fps))
            frames = max(round(LADDER_GOP * fps), len(pictures))
            between = sum(others) / max(len(others), 1)
            return first + (frames - 1) * between <= frames * budget

        return crfs.start + bisect_left(crfs, True, key=fits)

    def _packets(self, pictures: Sequence[VideoFrame], crf: int, fps: float) -> list[bytes]:
        size = (pictures[0].height, pictures[0].width)
        try:
            context = self._open(size, crf, fps)
            for time, picture in enumerate(pictures):
                picture.pts, picture.time_base = time, context.time_base
            packets = [bytes(packet) for picture in (*pictures, None) for packet in context.encode(picture)]
        except av.FFmpegError as error:
            raise InputError(
                f"The frames must be smaller for the encoder {self.encoder} of {self.name!r}; "
                f"got {size[1]} x {size[0]} ({error.strerror})."
            ) from error
        if self.encoder == "libx264":
            packets[0] = without_signature(packets[0])
        return packets

    def _open(self, size: tuple[int, int], crf: int, fps: float) -> VideoCodecContext:
        known = ENCODERS[self.encoder]
        context = open_context(self.encoder, "w")
        context.height, context.width = size
        context.pix_fmt = "yuv420p"
        context.framerate = Fraction(fps).limit_denominator(1001)
        context.time_base = 1 / context.framerate
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        context.options = {**self._options, **known.options, "crf": str(crf)}
        if known.parameters in self.options:  # ours come last and count
            joined = f"{self.options[known.parameters]}:{known.options[known.parameters]}"
            context.options[known.parameters] = joined
        with scheduling_kept():
            context.open()
        return context

    def _check_levels(self) -> None:
        known = ENCODERS[self.encoder]
        check_least(f"The number of levels of {self.name!r}", len(self.levels), 1)
        rising, highest = "rising, mildest first", math.inf
        if self.strength == "crf":
            rising += f" ({self.encoder} takes a CRF above {known.clamp} as {known.clamp})"
            highest = known.clamp
        for level in self.levels:
            if self.strength == "crf":
                whole = f"a whole number from {known.crf.start} to {known.crf.stop - 1} for {self.encoder}"
                check_that(level in known.crf, f"A CRF of {self.name!r}", whole, level)
            else:
                finite = 1 <= level < math.inf
                check_that(finite, f"A downscale of {self.name!r}", "a finite factor from 1 up", level)
        rise = all(first < min(second, highest) for first, second in pairwise(self.levels))
        check_that(rise, f"The levels of {self.name!r}", rising, ", ".join(f"{one:g}" for one in self.levels))

    def _check_options(self) -> None:
        known, name = ENCODERS[self.encoder], f"The options of {self.name!r}"
        refused = {"crf", "threads", *known.options} - {known.parameters}
        unknown = sorted(refused & self.options.keys())
        if not unknown:
            try:
                unknown = sorted(self._open((64, 64), known.crf[-1], 25.0).options)
            except av.FFmpegError as error:
                given = ", ".join(f"{key} {value}" for key, value in self.options.items())
                raise InputError(
                    f"{name} must be what {self.encoder} takes; got {given} ({error.strerror})."
                ) from error
        own = f"{self.encoder}'s, without what the levels and the one encoder thread decide"
        check_that(not unknown, name, own, ", ".join(unknown))

    def _check_clip(self, clip: Tensor, level: int, fps: float) -> None:
        given = f"{clip.dtype} of shape {tuple(clip.shape)}"
        is_clip = clip.dtype == torch.uint8 and clip.ndim == 4 and clip.shape[1] == 3 and len(clip) > 0
        check_that(is_clip, f"A clip for {self.name!r}", "torch.uint8 of shape (T, 3, H, W)", given)
        check_between(f"The level of {self.name!r}", level, 0, len(self.levels))
        check_that(0 < fps < math.inf, "The frames per second", "a finite number above 0", fps)
        if level:
            least, (height, width) = MINIMUM_SIDE, clip.shape[-2:]
            if self.strength == "downscale":
                least = max(least, math.ceil(ENCODERS[self.encoder].minimum * self.levels[level - 1]))
            name = f"Frames for level {level} of {self.name!r}"
            check_that(min(height, width) >= least, name, f"{least} x {least} or more", f"{width} x {height}")


_BUILT_IN: tuple[tuple[str, str, tuple[float, ...], dict[str, str], Strength], ...] = (
    ("h264", "libx264", (24, 36, 48, 63), {"preset": "fast"}, "crf"),
    ("h265", "libx265", (36, 40, 44, 48), {"preset": "veryslow"}, "crf"),
    ("vp9", "libvpx-vp9", (32, 42, 52, 63), {"deadline": "good", "cpu-used": "2"}, "crf"),
    ("av1", "libsvtav1", (32, 42, 52, 63), {"preset": "8"}, "crf"),
    ("ladder", "libx264", (1.5, 2, 3, 4.6), {"preset": "fast"}, "downscale"),
)

CODECS: dict[str, Codec] = {built_in[0]: Codec(*built_in) for built_in in _BUILT_IN if in_build(built_in[1])}
"""The built-in codecs by name, without codecs whose encoder this build of PyAV lacks. Levels of h264 and h265
are W2S-VQA's (arXiv 2505.03631); the last of h264, 63, is CRF 51 to 8-bit x264. The other levels are ours."""
