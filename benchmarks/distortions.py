"""Speed of the device distortions: clips/s and MB/s for each, beside two ways of doing without a batch.

    python benchmarks/distortions.py                      # embedded setting: 48 clips of 4 frames of 72 x 72
    python benchmarks/distortions.py --setting real       # 8 clips of 8 frames of 960 x 540 (16 on a GPU)

Each simulator gets the whole batch, its levels in turn, as uint8; on a GPU the upload is part of it. Beside
it stand (a) the same operator on one clip at a time and (b) frame by frame with PIL and NumPy on the CPU, in
as many processes as asked for. MB are those of the uint8 clips. The last line of the embedded setting is a
batch of all simulators in equal parts, and its share of a training step of configs/round.yaml (forward and
backward of the same clips, without the optimiser).
"""

import io
import time
import warnings
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import yaml  # type: ignore[import-untyped]
from experiment import arguments
from PIL import Image, ImageEnhance, ImageFilter
from rich.console import Console
from rich.table import Table
from torch import Tensor

from datamodules.batches import PairBatch
from datamodules.distortions import DISTORTIONS, apply, tone_curve
from datamodules.distortions.compression import BANDS
from datamodules.labels.levels import severity_levels
from datamodules.pairs import SOURCES
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMMConfig
from vqa_lightning.training import RankingModule

Frames = npt.NDArray[np.uint8]
ROUND = Path(__file__).resolve().parents[1] / "configs/round.yaml"


def some_clips(count: int, frames: int, height: int, width: int) -> Tensor:
    """Return clips uint8 with structure of 8 pixels and a little grain, so that JPEG has natural work."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(count * frames, 3, height // 8 + 1, width // 8 + 1, generator=generator)
    large = F.interpolate(small, (height, width), mode="bilinear")
    grain = torch.randn(large.shape, generator=generator) * 0.01
    return ((large + grain).clamp(0, 1) * 255).byte().view(count, frames, 3, height, width)


def distort_frames(task: tuple[str, float, Frames]) -> Frames:
    """Distort one clip (T, H, W, 3) with PIL and NumPy, frame by frame, as scripts without a GPU do."""
    name, strength, frames = task
    draws = np.random.default_rng(0)
    if name in ("stutter", "frame_rate", "freeze"):
        return np.stack([frames[max(0, index - round(strength))] for index in range(len(frames))])
    return np.stack([np.asarray(distort_image(name, strength, Image.fromarray(f), draws)) for f in frames])


def distort_image(name: str, strength: float, image: Image.Image, draws: np.random.Generator) -> Image.Image:
    """Distort one frame by what PIL and NumPy have that is nearest to a simulator."""
    width, height = image.size
    match name:
        case "resize":
            small = (max(1, round(width / strength)), max(1, round(height / strength)))
            return image.resize(small, Image.Resampling.BICUBIC).resize(image.size, Image.Resampling.BILINEAR)
        case "gaussian_blur":
            return image.filter(ImageFilter.GaussianBlur(strength))
        case "motion_blur":
            return image.filter(ImageFilter.BoxBlur(((strength - 1) / 2, 0)))
        case "gaussian_noise":
            noise = draws.normal(0, 255 * strength**0.5, (height, width, 3))
            return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
        case "darken" | "brighten":
            middle = 0.5 - 0.5 * strength if name == "darken" else 0.5 + 0.5 * strength
            curve = tone_curve(torch.linspace(0, 1, 256).view(1, 1, 1, 1, -1), torch.tensor([middle]))
            return image.point((curve.flatten() * 255).round().int().tolist() * 3)
        case "contrast":
            return ImageEnhance.Contrast(image).enhance(1 - strength)
        case "saturation":
            return ImageEnhance.Color(image).enhance(1 - strength)
        case "jpeg":
            stored = io.BytesIO()
            image.save(stored, "jpeg", quality=round(strength))
            return Image.open(stored)
        case "banding":
            luma, *chroma = image.convert("YCbCr").split()
            values = [round(v + strength * (round(v / 255 * BANDS) / BANDS * 255 - v)) for v in range(256)]
            return Image.merge("YCbCr", (luma.point(values), *chroma)).convert("RGB")
        case "jitter":
            right, down = draws.uniform(-strength, strength, 2)
            affine = (1, 0, right, 0, 1, down)
            return image.transform(image.size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
        case _:
            raise ValueError(f"{name} has no counterpart in PIL.")


def seconds(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the least time of several calls: on a shared machine, the call that was disturbed least."""
    taken = []
    for _ in range(repeats + 1):  # the first warms up
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def training_step_seconds(clips: Tensor, device: torch.device, repeats: int) -> float:
    """Return the seconds of the LMM's forward and backward on these clips (2 B, T, 3, H, W), as pairs."""
    settings = yaml.safe_load(ROUND.read_text())["model"]
    sizes = EmbeddedSizes(**settings["lmm"]["embedded"])
    module = RankingModule(lmm=LMMConfig(**{**settings["lmm"], "embedded": sizes}))
    module.configure_model()
    module.to(device).train()
    pairs = (clips.to(device) / 255).view(2, -1, *clips.shape[1:])
    count = pairs.shape[1]
    first, second = torch.zeros(count, dtype=torch.long), torch.full((count,), 2)
    batch = PairBatch(
        clips=pairs,
        times=torch.arange(pairs.shape[2]).expand(*pairs.shape[:3]) / 25,
        simulators=torch.zeros(2, count, 1, dtype=torch.long),
        severities=torch.stack([first, second])[..., None],
        done=torch.zeros(2, count, 1, dtype=torch.bool),
        one_clip=torch.ones(count, dtype=torch.bool),
        levels=severity_levels(first, second).to(device),
        margin=torch.full((count,), torch.nan, device=device),
        places=torch.full((2, count), torch.nan, device=device),
        source=torch.full((count,), SOURCES.index("synthetic"), device=device),
        row=torch.arange(count, device=device),
        seed=0,
    )
    warnings.filterwarnings("ignore", "You are trying to `self.log")  # there is no trainer here
    return seconds(lambda: torch.autograd.backward(module.training_step(batch)["loss"]), device, repeats)


def measure(
    name: str, clips: Tensor, device: torch.device, pool: Pool | None, repeats: int
) -> tuple[float, float, float]:
    """Return the seconds for the batch: at once, clip by clip, and frame by frame with PIL."""
    distortion = DISTORTIONS[name]
    count, frames = clips.shape[:2]
    level = torch.arange(count) % len(distortion.levels) + 1
    times = (torch.arange(frames) / 25).expand(count, -1)
    generator = torch.Generator(device).manual_seed(0)

    def together() -> None:
        apply(clips.to(device), [name] * count, level, times=times, generator=generator)

    def one_by_one() -> None:
        for clip in range(count):
            here = slice(clip, clip + 1)
            apply(clips[here].to(device), [name], level[here], times=times[here], generator=generator)

    arrays = clips.permute(0, 1, 3, 4, 2).contiguous().numpy()
    strengths = [distortion.levels[k] for k in (level - 1).tolist()]
    tasks = [(name, strength, array) for strength, array in zip(strengths, arrays, strict=True)]

    def by_frame() -> None:
        _ = pool.map(distort_frames, tasks) if pool else [distort_frames(task) for task in tasks]

    return (
        seconds(together, device, repeats),
        seconds(one_by_one, device, repeats),
        seconds(by_frame, torch.device("cpu"), repeats),
    )


def print_table(
    clips: Tensor, names: Sequence[str], device: torch.device, pool: Pool | None, repeats: int
) -> None:
    """Print one row a simulator."""
    count, frames, _, height, width = clips.shape
    threads = torch.get_num_threads()
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {threads} threads"
    processes = pool._processes if pool else 1  # type: ignore[attr-defined]
    table = Table(
        "simulator",
        *("clips/s", "MB/s", "x (a) clip by clip", f"x (b) PIL, {processes} processes"),
        title=f"{count} clips of {frames} x {width} x {height} on {where}",
        title_justify="left",
    )
    for name in names:
        batch, single, by_frame = measure(name, clips, device, pool, repeats)
        figures = (count / batch, clips.nbytes / 1e6 / batch, single / batch, by_frame / batch)
        table.add_row(name, *(f"{figure:.3g}" for figure in figures))
    Console().print(table)


def print_share(clips: Tensor, names: Sequence[str], device: torch.device, repeats: int) -> None:
    """Print the speed of a batch of all simulators in equal parts, beside a training step."""
    chosen = [names[index % len(names)] for index in range(len(clips))]
    levels = [1 + index // len(names) % len(DISTORTIONS[name].levels) for index, name in enumerate(chosen)]
    generator = torch.Generator(device).manual_seed(0)

    def mixed() -> None:
        apply(clips.to(device), chosen, torch.tensor(levels), generator=generator)

    def one_by_one() -> None:
        for clip, (name, level) in enumerate(zip(chosen, levels, strict=True)):
            one = clips[clip : clip + 1].to(device)
            apply(one, [name], torch.tensor([level]), generator=generator)

    taken, single = seconds(mixed, device, repeats), seconds(one_by_one, device, repeats)
    step = training_step_seconds(clips, device, repeats)
    Console().print(
        f"All {len(names)} simulators in one batch: {taken * 1e3:.1f} ms, {len(clips) / taken:.0f} clips/s, "
        f"{single / taken:.2f} x (a); "
        f"training step {step * 1e3:.0f} ms; share {taken / step:.0%}"
    )


def main() -> None:
    """Print the table of each device."""
    parser = arguments(__doc__)
    parser.add_argument("--setting", choices=("embedded", "real"), default="embedded")
    parser.add_argument("--simulators", nargs="+", choices=list(DISTORTIONS), default=list(DISTORTIONS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch on the CPU")
    parser.add_argument("--processes", type=int, default=1, help="of the pipeline with PIL")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pool = get_context("spawn").Pool(options.processes) if options.processes > 1 else None
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices.append(torch.device("cuda"))
    else:
        Console().print("No CUDA device: the figures of the GPU were not measured.")
    for device in devices:
        if options.setting == "real":
            clips = some_clips(16 if device.type == "cuda" else 8, 8, 540, 960)
        else:
            clips = some_clips(48, 4, 72, 72)
        print_table(clips, options.simulators, device, pool, options.repeats)
        if options.setting == "embedded":
            print_share(clips, options.simulators, device, options.repeats)
    if pool:
        pool.terminate()


if __name__ == "__main__":
    main()
