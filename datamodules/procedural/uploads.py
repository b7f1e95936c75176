"""Hidden chains: from the light of a scene through lens, sensor and encoder to a scored H.264 file.

The score against the clean render is MS-SSIM on luma, fixed before any model was trained. A chain is drawn
from a stream of random numbers of its own: a content looks the same through every chain.
"""

import io
import itertools
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.bitstream import BitStreamFilterContext

from datamodules.fidelity.ms_ssim import structural_similarity
from datamodules.procedural.shots import Shot, develop, draw_shot, film
from datamodules.video.colour import LUMA_WEIGHTS

_SCENE, _CHAIN, _NOISE = range(3)  # streams of random numbers of one content
_TRUTH_FRAMES = 8  # evenly spaced

# Weights of R and B in luma (the rest is G's), and ITU-T H.273's numbers of matrix, primaries and transfer.
_COLOURS = {"bt709": ((0.2126, 0.0722), 1, 1, 1), "smpte170m": (LUMA_WEIGHTS[::2], 6, 6, 6)}


@dataclass(frozen=True)
class Content:
    """What is filmed: size in pixels, frames per second, and the takes."""

    height: int
    width: int
    fps: int
    shots: list[Shot]


@dataclass(frozen=True)
class Chain:
    """What happens to the light on its way to the file; the defaults are a nearly pristine upload."""

    blur: float = 0.0  # sigma of the lens, pixels
    shake: float = 0.0  # sigma added along one axis, pixels
    shake_axis: int = 0  # 0 vertical, 1 horizontal
    exposure: float = 0.0  # stops of gain before the sensor saturates
    gamma: float = 1.0  # of the tone curve after it
    noise: float = 0.0  # standard deviation at saturation, in linear light
    grain: float = 0.0  # sigma of the noise's own blur, pixels: coarse noise
    scale: float = 1.0  # factor by which the upload was reduced and enlarged again
    crf: float = 18.0  # of x264
    preset: str = "veryfast"
    keyframes: int = 12  # at most so many frames from one to the next
    matrix: str = "bt709"


def draw_content(seed: int, index: int) -> Content:
    """Draw the clean content `index` of the corpus `seed`; nothing else enters."""
    rng = np.random.default_rng([seed, index, _SCENE])
    height, width = (2 * round(rng.triangular(128, 128, 180)) for _ in range(2))
    fps = int(rng.choice([24, 25, 30], p=[0.4, 0.4, 0.2]))
    frames = math.ceil(fps * (2 + 2 * rng.random() ** 3))
    cuts = int(rng.choice([0, 1, 2], p=[0.8, 0.15, 0.05]))
    lengths = [len(part) for part in np.array_split(np.arange(frames), cuts + 1)]
    return Content(height, width, fps, [draw_shot(rng, height, width, length, fps) for length in lengths])


def draw_chain(seed: int, index: int) -> Chain:
    """Draw the hidden chain of content `index`, independently of what the content shows.

    An overall severity runs evenly over [0, 1) (a golden-ratio sequence over the index, so that any run of
    contents covers it) and is spent on one to four parts; below .06 the upload is pristine.
    """
    rng = np.random.default_rng([seed, index, _CHAIN])
    offset = np.random.default_rng([seed, _CHAIN]).random()
    severity = (offset + index * (math.sqrt(5) - 1) / 2) % 1.0
    parts = ("blur", "noise", "exposure", "scale", "crf")
    count = 0 if severity < 0.06 else int(rng.choice([1, 2, 3, 4], p=[0.3, 0.3, 0.25, 0.15]))
    chosen = rng.choice(parts, count, replace=False, p=[0.22, 0.22, 0.16, 0.16, 0.24])
    dose = dict.fromkeys(parts, 0.0)
    for part in chosen:
        dose[str(part)] = severity**0.7 * rng.uniform(0.65, 1.0)
    shaken, brighter = rng.random(2) < (0.4, 0.4)
    return Chain(
        blur=2.6 * dose["blur"] * (0.7 if shaken else 1.0),
        shake=6.0 * dose["blur"] * shaken,
        shake_axis=int(rng.integers(2)),
        exposure=(2.8 if brighter else -4.0) * dose["exposure"],
        gamma=1 + rng.uniform(-0.3, 0.5) * dose["exposure"],
        noise=0.45 * dose["noise"] ** 1.3,
        grain=float(rng.choice([0.0, 0.0, 0.8])),
        scale=1 + 7.0 * dose["scale"],
        crf=rng.uniform(18, 23) * (1 - dose["crf"]) + 46 * dose["crf"],
        preset=str(rng.choice(["superfast", "veryfast"])),
        keyframes=int(rng.integers(12, 25)),
        matrix=str(rng.choice(list(_COLOURS))),
    )


# ---------------------------------------------------------------- capture


def _gaussian(size: int, sigma: float) -> torch.Tensor:
    """Return the matrix (size, size) that blurs a line of pixels, its ends replicated; identity at sigma 0.

    A product with it is faster on a processor than the depthwise convolution.
    """
    reach = 24  # over three times the largest sigma
    places = torch.arange(-reach, size + reach)
    weights = torch.exp(-0.5 * ((torch.arange(size)[:, None] - places) / max(sigma, 1e-3)) ** 2)
    matrix = weights[:, reach:-reach].clone()
    matrix[:, 0] += weights[:, :reach].sum(1)
    matrix[:, -1] += weights[:, -reach:].sum(1)
    return matrix / weights.sum(1, keepdim=True)


class Camera:
    """Lens, sensor and tone curve of a chain, then the resizing of its upload.

    The noise is photon noise, which grows with the square root of the light, over a floor. One block of it is
    drawn per content and each frame takes a window at a random place, mirrored at random: to eye and encoder
    fresh noise, at a tenth of the time.
    """

    def __init__(self, rng: np.random.Generator, height: int, width: int, chain: Chain) -> None:
        self._rng, self._chain = rng, chain
        sigmas = [chain.blur, chain.blur]
        sigmas[chain.shake_axis] = math.hypot(chain.blur, chain.shake)
        self._down, self._across = _gaussian(height, sigmas[0]), _gaussian(width, sigmas[1]).T.contiguous()
        block = torch.from_numpy(rng.standard_normal((3, height + 96, width + 96), dtype=np.float32))
        if chain.grain:
            block = _gaussian(height + 96, chain.grain) @ block @ _gaussian(width + 96, chain.grain).T
            block *= 0.7 / block.std()  # coarse noise is the more visible
        self._block = block

    def _noise(self, light: torch.Tensor) -> torch.Tensor:
        _, height, width = light.shape
        y, x = self._rng.integers(0, 97, 2)
        mirrored = [axis for axis, chance in zip((1, 2), self._rng.random(2), strict=True) if chance < 0.5]
        window = self._block[:, y : y + height, x : x + width].flip(mirrored)
        return self._chain.noise * torch.sqrt(light.clamp(0, 1) * 0.9 + 0.02) * window

    def __call__(self, light: torch.Tensor) -> torch.Tensor:
        """Take linear light (3, H, W), 1 saturating, into display values (3, H, W) in [0, 1]."""
        chain = self._chain
        if chain.blur or chain.shake:
            light = self._down @ light @ self._across
        if chain.exposure:
            light = light * 2**chain.exposure
        if chain.noise:
            light = light + self._noise(light)
        picture = develop(light)
        if chain.gamma != 1:
            picture = picture**chain.gamma
        if chain.scale > 1:
            size = picture.shape[1:]
            small = [round(side / chain.scale) for side in size]
            reduced = F.interpolate(picture[None], small, mode="bilinear", antialias=True)
            picture = F.interpolate(reduced, size, mode="bicubic")[0].clamp(0, 1)
        return picture


# ---------------------------------------------------------------- encoding


def _luma(picture: torch.Tensor, matrix: str) -> torch.Tensor:
    red, blue = _COLOURS[matrix][0]
    return red * picture[0] + (1 - red - blue) * picture[1] + blue * picture[2]


def _video_frame(picture: torch.Tensor, matrix: str) -> av.VideoFrame:
    """Make a 4:2:0 frame of limited range from display values (3, H, W) in [0, 1], both sides even."""
    red, blue = _COLOURS[matrix][0]
    luma = _luma(picture, matrix)
    differences = F.avg_pool2d(torch.stack([picture[2] - luma, picture[0] - luma]), 2)
    scales = torch.tensor([112 / (1 - blue), 112 / (1 - red)])
    planes = (219 * luma + 16).flatten(), (differences * scales[:, None, None] + 128).flatten()
    height, width = luma.shape
    packed = torch.cat(planes).round_().to(torch.uint8).view(height * 3 // 2, width)
    return av.VideoFrame.from_ndarray(packed.numpy(), format="yuv420p")


def _encode(frames: Iterator[av.VideoFrame], content: Content, chain: Chain) -> bytes:
    """Encode frames as an .mp4 file, the same bytes every time.

    With more threads x264's bitstream varies. On one thread it still varies from one encode to the next where
    its macroblock tree meets B-frames and AVX-512: the tree stays off.
    """
    _, matrix, primaries, transfer = _COLOURS[chain.matrix]
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        options = {"preset": chain.preset, "crf": f"{chain.crf:.3f}", "mbtree": "0"}
        stream = container.add_stream("libx264", rate=content.fps, options=options)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = content.width, content.height, "yuv420p"
        context.thread_count = 1
        context.gop_size = chain.keyframes  # short: seeking decodes from the keyframe before
        context.color_range, context.colorspace = 1, matrix
        context.color_primaries, context.color_trc = primaries, transfer
        # x264 writes its settings into the bitstream: a chain that can be read there is not hidden.
        strip = BitStreamFilterContext("filter_units=remove_types=6", stream)
        for frame in itertools.chain(frames, (None,)):  # None flushes
            for packet in stream.encode(frame):
                container.mux(strip.filter(packet))
    return file.getvalue()


# ---------------------------------------------------------------- files


def _decoded_luma(file: bytes, wanted: list[int]) -> torch.Tensor:
    """Return the luma in [0, 1], (N, H, W), of the wanted frames of a file, in order."""
    with av.open(io.BytesIO(file), "r") as container:
        frames = [frame for index, frame in enumerate(container.decode(video=0)) if index in wanted]
    planes = np.stack([frame.to_ndarray(format="yuv420p")[: frame.height] for frame in frames])
    return ((torch.from_numpy(planes).float() - 16) / 219).clamp(0, 1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: bits of sums depend on the number of threads, and workers share the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def write_content(path: Path, seed: int, index: int, chain: Chain | None = None) -> dict[str, float]:
    """Film a content through a chain into an H.264 file and score the file against the clean render.

    The file appears under its name when it is whole.

    Args:
        path: the .mp4 file to write.
        seed: seed of the corpus.
        index: number of the content in it.
        chain: what degrades it; by default the content's own hidden chain.

    Returns:
        `ms_ssim` and `ssim` on luma in [0, 1], each the mean over eight evenly spaced frames of the decoded
        file against the clean render; higher is better, at most 1.
    """
    chain = draw_chain(seed, index) if chain is None else chain
    clean: list[torch.Tensor] = []

    def upload() -> Iterator[av.VideoFrame]:
        for number, light in enumerate(film(content.shots, content.height, content.width, content.fps)):
            if number in scored:
                clean.append(_luma(develop(light), chain.matrix))
            yield _video_frame(camera(light), chain.matrix)

    with _one_thread():
        content = draw_content(seed, index)
        count = sum(shot.frames for shot in content.shots)
        scored = [(2 * k + 1) * count // (2 * _TRUTH_FRAMES) for k in range(_TRUTH_FRAMES)]
        noise = np.random.default_rng([seed, index, _NOISE])
        camera = Camera(noise, content.height, content.width, chain)
        file = _encode(upload(), content, chain)
        ms_ssim, ssim = structural_similarity(_decoded_luma(file, scored), torch.stack(clean))
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_bytes(file)
    os.replace(unfinished, path)
    return {"ms_ssim": float(ms_ssim.mean()), "ssim": float(ssim.mean())}
