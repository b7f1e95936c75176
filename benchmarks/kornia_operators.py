"""Kornia's operators beside the simulators: how far the pixels are apart, and which of the two is faster.

    python benchmarks/kornia_operators.py                      # natural clips, else made-up ones
    python benchmarks/kornia_operators.py --videos FOLDER --threads 2

Each simulator gets 48 clips of 4 frames of 72 x 72 pixels, its levels in turn, and so does the operator of
Kornia that comes nearest to it, with the same strengths and, where something is drawn, the same numbers. The
columns are the largest and the mean difference in code values of 8 bits, and Kornia's time over that of the
simulator, both as a `Distortion`: the medians of several calls of either, taken in turn. A simulator is made
of Kornia's operator where the pixels are the same within a code value and the time at most 1.5 times its own.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from distortions import some_clips
from experiment import arguments
from kornia import augmentation, enhance, filters, geometry
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from datamodules.corpus import build_corpus, videos
from datamodules.distortions import DISTORTIONS, Distortion
from datamodules.distortions.arguments import DistortionFunction, draw
from datamodules.video import Sampling, read_clip

COUNT, FRAMES, SIDE = 48, 4, 72
VIDEOS = Path(__file__).resolve().parents[2] / "shared/data/clips"


class Counterpart(NamedTuple):
    """The operator of Kornia that comes nearest to a simulator.

    Attributes:
        name: of the operator; empty where there is none.
        function: what it does to clips; None where there is none.
        used: what the simulator is made of, and why.
    """

    name: str
    function: DistortionFunction | None
    used: str


def frames_of(clips: Tensor) -> Tensor:
    """Return the frames (B T, 3, H, W) of clips."""
    return clips.flatten(0, 1)


def each_frame(clips: Tensor, strength: Tensor) -> Tensor:
    """Return the strengths (B T,) of frames."""
    return strength.repeat_interleave(clips.shape[1])


def for_each_strength(change: Callable[[Tensor, float], Tensor]) -> DistortionFunction:
    """Return an operator whose sizes follow from the strength, and which therefore takes one at a time."""

    def apply(clips: Tensor, strength: Tensor, *_: object) -> Tensor:
        result = torch.empty_like(clips)
        for value in sorted(set(strength.tolist())):
            here = (strength == value).nonzero().flatten()
            changed = change(frames_of(clips.index_select(0, here)), value)
            result.index_copy_(0, here, changed.view(len(here), *clips.shape[1:]))
        return result

    return apply


def resize(frames: Tensor, factor: float) -> Tensor:
    """Go down by Kornia's blur and the bicubic, and up by the bilinear."""
    size = frames.shape[-2], frames.shape[-1]
    small = size[0] // round(factor), size[1] // round(factor)
    down = geometry.resize(frames, small, interpolation="bicubic", antialias=True)
    return geometry.resize(down.clamp(0, 1), size, interpolation="bilinear")


def gaussian_blur(clips: Tensor, strength: Tensor, *_: object) -> Tensor:
    """Blur all frames in one call, with the kernel's size of the largest deviation."""
    size = 2 * math.ceil(4 * float(strength.max())) + 1
    sigma = each_frame(clips, strength)[:, None].expand(-1, 2)
    return filters.gaussian_blur2d(frames_of(clips), size, sigma).view_as(clips)


def motion_blur(frames: Tensor, length: float) -> Tensor:
    """Blur along the lines by the next odd number of pixels."""
    return filters.motion_blur(frames, 2 * (int(length) // 2) + 1, 0.0, 0.0)


def gaussian_noise(clips: Tensor, strength: Tensor, _: object, generator: torch.Generator) -> Tensor:
    """Add noise that is drawn and scaled beforehand: the augmentation draws at one deviation for all."""
    deviation = each_frame(clips, strength.sqrt())[:, None, None, None]
    noise = frames_of(draw("gaussian_noise", generator, clips)) * deviation
    made = augmentation.RandomGaussianNoise(p=1.0).apply_transform(
        frames_of(clips), {"gaussian_noise": noise}, {}
    )
    return made.clamp(0, 1).view_as(clips)


def gamma(sign: float) -> DistortionFunction:
    """Return a curve through the same middle value, where there is one, by a power."""

    def apply(clips: Tensor, strength: Tensor, *_: object) -> Tensor:
        power = (0.5 + sign * 0.5 * strength).clamp(max=0.999).log() / math.log(0.5)
        return enhance.adjust_gamma(frames_of(clips), each_frame(clips, power)).view_as(clips)

    return apply


def contrast(clips: Tensor, strength: Tensor, *_: object) -> Tensor:
    """Take contrast away around the mean of a clip, whose frames stand below each other."""
    whole = clips.transpose(1, 2).flatten(2, 3)
    made = enhance.adjust_contrast_with_mean_subtraction(whole, 1 - strength)
    return made.unflatten(2, (clips.shape[1], -1)).transpose(1, 2)


def saturation(clips: Tensor, strength: Tensor, *_: object) -> Tensor:
    """Take colour away by blending with the grey picture."""
    return enhance.adjust_saturation_with_gray_subtraction(clips, 1 - strength)


def jpeg(clips: Tensor, strength: Tensor, *_: object) -> Tensor:
    """Encode and decode by the differentiable codec."""
    return enhance.jpeg_codec_differentiable(frames_of(clips), each_frame(clips, strength)).view_as(clips)


def banding(clips: Tensor, strength: Tensor, *_: object) -> Tensor:
    """Leave R, G and B three bits each, and fewer where the strength is larger."""
    bits = (6 - (strength * 4).round()).clamp(min=2).long()
    made = enhance.posterize(frames_of(clips), each_frame(clips, bits))
    return made.view_as(clips)


def jitter(clips: Tensor, strength: Tensor, _: object, generator: torch.Generator) -> Tensor:
    """Warp by the matrices of the simulator's own draws, in pixels."""
    height, width = clips.shape[-2:]
    own = strength[:, None]
    shift, way, crop = draw("jitter", generator, clips).unbind(dim=1)
    length, turn = own * (0.75 + 0.25 * shift), math.pi * (0.5 + way)
    turn[:, 0] = 2 * math.pi * way[:, 0]
    angle, scale = turn.cumsum(dim=1), 1 / (1 - 2 * own * crop / min(height, width))
    matrix = clips.new_zeros(*clips.shape[:2], 2, 3)
    matrix[..., 0, 0] = matrix[..., 1, 1] = scale
    matrix[..., 0, 2] = (1 - scale) * (width - 1) / 2 - scale * length * angle.cos()
    matrix[..., 1, 2] = (1 - scale) * (height - 1) / 2 - scale * length * angle.sin()
    return geometry.warp_affine(
        frames_of(clips), matrix.flatten(0, 1), (height, width), padding_mode="reflection"
    ).view_as(clips)


ABSENT = Counterpart("", None, "ours")
COUNTERPARTS = {
    "resize": Counterpart("geometry.resize", for_each_strength(resize), "torch's antialiased kernels"),
    "gaussian_blur": Counterpart("filters.gaussian_blur2d", gaussian_blur, "Kornia's, a call for each level"),
    "motion_blur": Counterpart("filters.motion_blur", for_each_strength(motion_blur), "Kornia's filter2d"),
    "gaussian_noise": Counterpart("augmentation.RandomGaussianNoise", gaussian_noise, "ours"),
    "darken": Counterpart("enhance.adjust_gamma", gamma(-1), "ours"),
    "brighten": Counterpart("enhance.adjust_gamma", gamma(1), "ours"),
    "contrast": Counterpart("enhance.adjust_contrast_with_mean_subtraction", contrast, "ours"),
    "saturation": Counterpart("enhance.adjust_saturation_with_gray_subtraction", saturation, "ours"),
    "jpeg": Counterpart("enhance.jpeg_codec_differentiable", jpeg, "ours"),
    "banding": Counterpart("enhance.posterize", banding, "ours"),
    "jitter": Counterpart("geometry.warp_affine", jitter, "torch's grid_sample"),
    "stutter": ABSENT,
    "frame_rate": ABSENT,
    "freeze": ABSENT,
}


class Compared(NamedTuple):
    """Kornia's operator beside a simulator.

    Attributes:
        largest: difference of a pixel, in code values.
        mean: of all pixels.
        times: Kornia's time over the simulator's.
    """

    largest: float
    mean: float
    times: float


def compare(name: str, clips: Tensor, device: torch.device, repeats: int) -> Compared | None:
    """Run a simulator and its counterpart on a device; None where there is no counterpart."""
    function, one = COUNTERPARTS[name].function, DISTORTIONS[name]
    if function is None:
        return None
    levels = [index % len(one.levels) + 1 for index in range(len(clips))]
    here = clips.to(device)
    both = one, Distortion(f"{name} of Kornia", function, one.levels)

    def made(simulator: Distortion) -> Tensor:
        return simulator(here, levels, generator=torch.Generator(device).manual_seed(0))

    apart = (made(both[0]) - made(both[1])).abs() * 255
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for simulator, seconds in zip(both, taken, strict=True):
            began = time.perf_counter()
            made(simulator)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
    return Compared(apart.max().item(), apart.mean().item(), median(taken[1]) / median(taken[0]))


def natural_clips(folder: Path) -> Tensor:
    """Return clips (COUNT, FRAMES, 3, SIDE, SIDE) of a folder's videos in turn, or made-up ones."""
    if not folder.is_dir():
        return some_clips(COUNT, FRAMES, SIDE, SIDE) / 255
    found = videos(build_corpus(folder, progress=False))
    sampling = Sampling(frames=FRAMES, window=SIDE)
    read = [read_clip(found[index % len(found)], sampling, draw=index) for index in range(COUNT)]
    return torch.stack([clip.frames for clip in read]) / 255


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", type=Path, default=VIDEOS, help="a folder of natural videos")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU")
    parser.add_argument("--repeats", type=int, default=25)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clips = natural_clips(options.videos)
    card = torch.device("cuda") if torch.cuda.is_available() else None
    table = Table(
        *("simulator", "Kornia's operator", "largest", "mean", "CPU: times ours", "GPU: times ours", "used"),
        title=f"{COUNT} clips of {FRAMES} x {SIDE} x {SIDE}, CPU threads: {options.threads}",
        title_justify="left",
        box=box.MARKDOWN,
    )
    for name, counterpart in COUNTERPARTS.items():
        cpu = compare(name, clips, torch.device("cpu"), options.repeats)
        gpu = compare(name, clips, card, options.repeats) if card else None
        figures = (
            ["", "", ""] if cpu is None else [f"{cpu.largest:.3g}", f"{cpu.mean:.2g}", f"{cpu.times:.2f}"]
        )
        on_card = "" if cpu is None else "not measured" if gpu is None else f"{gpu.times:.2f}"
        table.add_row(name, counterpart.name or "none", *figures, on_card, counterpart.used)
    Console(width=180).print(table)


if __name__ == "__main__":
    main()
