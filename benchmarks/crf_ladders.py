"""Files of one source at rising CRF, as a person would encode them, and how far each fell from it.

The frames go to the encoder as they were decoded, without a turn through RGB, so that a rung differs from its
source by nothing but the codec.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import av
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from datamodules.codecs import Codec
from datamodules.codecs.encoders import ENCODERS
from datamodules.fidelity.xpsnr import xpsnr
from datamodules.video import Sampling, Video, probe, read_clip
from datamodules.video.readers import FileReader

CODECS = (
    Codec("x264", "libx264", (23, 29, 35, 41, 47), {"preset": "fast"}),
    Codec("x265", "libx265", (24, 30, 36, 42, 48), {"preset": "fast"}),
    Codec("VP9", "libvpx-vp9", (27, 36, 45, 54, 63), {"deadline": "good", "cpu-used": "4"}),
)
"""From the encoders' defaults, or near them, to their last values; none beyond where a CRF is clamped."""

LOSSLESS = Codec("lossless", "libx264", (0,), {"preset": "ultrafast"})

COMPARED = Sampling(segments=4, frames=1, window=None)
"""The frames that XPSNR compares."""


class Ladder(NamedTuple):
    """Encodes of one source by one codec.

    Attributes:
        source: whose middle was encoded.
        codec: of `CODECS`.
        rungs: the files, mildest first.
        fidelity: XPSNR of each to the source, in dB.
    """

    source: Video
    codec: Codec
    rungs: Sequence[Video]
    fidelity: Sequence[float]

    def pairs(self, least: float) -> Iterator[tuple[int, int]]:
        """Return the milder and the harsher rung of all pairs between which XPSNR falls by `least` dB."""
        for milder, harsher in combinations(range(len(self.rungs)), 2):
            if self.fidelity[milder] - self.fidelity[harsher] >= least:
                yield milder, harsher


def encode_ladders(source: Video, folder: Path, seconds: float) -> list[Ladder]:
    """Encode the middle of a video by every codec at every CRF, unless the files lie there already.

    Args:
        source: the video; a shorter one than `seconds` is encoded whole.
        folder: where files are kept, under names that say all they depend on.
        seconds: how much of the source.

    Returns:
        One ladder a codec.
    """
    count = max(1, round(min(seconds, source.duration) * source.fps))
    with closing(FileReader(source.path)) as reader:
        run = reader.run(max(0.0, source.duration - count / source.fps) / 2, count)
    frames = [frame for _, frame in run]
    (reference,) = _encode(source, LOSSLESS, frames, folder, seconds)
    compared = read_clip(reference, COMPARED).frames
    ladders = []
    for codec in CODECS:
        rungs = _encode(source, codec, frames, folder, seconds)
        fidelity = [xpsnr(read_clip(rung, COMPARED).frames, compared) for rung in rungs]
        ladders.append(Ladder(source, codec, rungs, fidelity))
    return ladders


def _encode(
    source: Video, codec: Codec, frames: Sequence[VideoFrame], folder: Path, seconds: float
) -> list[Video]:
    rungs = []
    for crf in codec.levels:
        file = folder / f"{source.video_id}-{seconds:g}s-{codec.identity}-{crf:g}.mp4"
        if not file.is_file():
            hidden = file.with_name(f".{file.name}")
            options = {**codec.options, **ENCODERS[codec.encoder].options, "crf": f"{crf:g}"}
            _write(
                hidden, codec.encoder, {name: str(value) for name, value in options.items()}, frames, source
            )
            hidden.replace(file)
        rungs.append(probe(file))
    return rungs


def _write(
    file: Path, encoder: str, options: Mapping[str, str], frames: Sequence[VideoFrame], source: Video
) -> None:
    rate = Fraction(source.fps).limit_denominator(1001)
    with av.open(str(file), "w", format="mp4") as container:
        stream = container.add_stream(encoder, rate=rate, options=dict(options))
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.thread_count = 1  # more threads change the bitstream
        context.width, context.height, context.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        context.time_base = 1 / rate
        context.colorspace, context.color_range = frames[0].colorspace, frames[0].color_range
        for place, frame in enumerate(frames):
            frame.pts, frame.time_base = place, context.time_base
            frame.pict_type = PictureType.NONE  # else the encoder would be told the source's frame types
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
