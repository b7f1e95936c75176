"""Where the time of the device pass goes: by operator of torch and by simulator.

    python benchmarks/device_pass.py                       # on the GPU if there is one, else on the CPU
    python benchmarks/device_pass.py --compile             # torch.compile beside it, which takes minutes

The pass is that of a training step: 24 pairs of 4 frames of 224 x 224 pixels, each simulator against its
source, half of them over another. The tables have the time that torch's profiler saw, on the GPU that of
kernels; the whole pass is the median of several. What is compiled is the pass once its numbers are drawn,
by inductor; the differences are in code values of 8 bits.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import torch
from distortions import some_clips
from experiment import arguments
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.autograd.profiler import record_function
from torch.profiler import ProfilerActivity, profile

from datamodules.batches import PairBatch
from datamodules.batches.device import distort, planned, run
from datamodules.distortions import DISTORTIONS
from datamodules.labels.levels import severity_levels
from datamodules.pairs import SOURCES
from datamodules.simulators import bases

NAMES = list(DISTORTIONS)


class Size(NamedTuple):
    """Of a batch: pairs, frames of a clip, and the side of a frame in pixels."""

    pairs: int = 24
    frames: int = 4
    side: int = 224


SIZE = Size()


def some_pairs(size: Size, device: torch.device) -> PairBatch:
    """Return pairs of a source and one of its levels, as they are when they have crossed to a device.

    Every second pair has another simulator at its mildest under both sides, where one may lie there.
    """
    count = size.pairs
    under = bases(DISTORTIONS)
    simulators = torch.full((2, count, 2), -1)
    severities = torch.zeros(2, count, 2, dtype=torch.long)
    for pair in range(count):
        name = NAMES[pair % len(NAMES)]
        simulators[:, pair, 1] = NAMES.index(name)
        severities[1, pair, 1] = 1 + pair // len(NAMES) % len(DISTORTIONS[name].levels)
        if pair % 2 and under.get(name):
            simulators[:, pair, 0] = NAMES.index(under[name][pair % len(under[name])])
            severities[:, pair, 0] = 1
    first, second = severities[..., 1]
    clips = some_clips(count, size.frames, size.side, size.side).to(device)
    return PairBatch(
        clips=torch.stack([clips, clips]),
        times=(torch.arange(size.frames, device=device) / 25).expand(2, count, -1),
        simulators=simulators,
        severities=severities,
        done=torch.zeros(2, count, 2, dtype=torch.bool),
        one_clip=torch.ones(count, dtype=torch.bool),
        levels=severity_levels(first, second).to(device),
        margin=torch.full((count,), torch.nan, device=device),
        places=torch.full((2, count), torch.nan, device=device),
        source=torch.full((count,), SOURCES.index("synthetic"), device=device),
        row=torch.arange(count),
        seed=0,
    )


def profile_pass(device: torch.device, size: Size = SIZE) -> list[tuple[str, float]]:
    """Profile one device pass after another that warms up.

    Args:
        device: the CPU or a GPU.
        size: of the batch.

    Returns:
        Operators of torch and microseconds of their own on the device, the most expensive first.
    """
    batch = some_pairs(size, device)
    return profiled(lambda: distort(batch, DISTORTIONS), device)


def profile_simulators(device: torch.device, size: Size = SIZE) -> list[tuple[str, float]]:
    """Profile each simulator on as many clips as the batch has, its levels in turn.

    Returns:
        Simulators and microseconds on the device, the most expensive first.
    """
    clips = some_clips(size.pairs, size.frames, size.side, size.side).to(device) / 255
    times = (torch.arange(size.frames, device=device) / 25).expand(size.pairs, -1)
    found = []
    for name, one in DISTORTIONS.items():
        levels = [index % len(one.levels) + 1 for index in range(size.pairs)]
        generator = torch.Generator(device).manual_seed(0)

        def apply(one=one, levels=levels, generator=generator):  # type: ignore[no-untyped-def]
            return one(clips, levels, times=times, generator=generator)

        found.append((name, sum(spent for _, spent in profiled(apply, device))))
    return sorted(found, key=lambda row: -row[1])


def profiled(call: Callable[[], object], device: torch.device) -> list[tuple[str, float]]:
    """Profile the second of two calls: torch's operators and their own microseconds, most expensive first."""
    call()
    on_card = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_card else [])]
    with profile(activities=activities) as seen, record_function("the pass"):
        call()
        if on_card:
            torch.cuda.synchronize()
    spent = [
        (event.key, float(event.self_device_time_total if on_card else event.self_cpu_time_total))
        for event in seen.key_averages()
        if event.key.startswith("aten::")
    ]
    return sorted((row for row in spent if row[1]), key=lambda row: -row[1])


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of a call."""
    began = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def compare_compiled(device: torch.device, size: Size, repeats: int) -> str:
    """Compile the pass of one batch; return what that gives and costs."""
    batch = some_pairs(size, device)
    sides, times = batch.sides(), batch.times.flatten(0, 1)
    assert isinstance(sides, Tensor)
    steps = planned(batch, range(len(sides)), NAMES, DISTORTIONS, sides)
    compiled = torch.compile(run, fullgraph=True)

    def eager() -> Tensor:
        return run(sides, steps, times, DISTORTIONS)

    def made() -> Tensor:
        return compiled(sides, steps, times, DISTORTIONS)

    compiling = seconds(made, device)
    apart = (made() - eager()).abs().flatten(1) * 255
    taken = [(seconds(eager, device), seconds(made, device)) for _ in range(repeats)]
    before, after = (median(column) for column in zip(*taken, strict=True))
    named = [NAMES[pair % len(NAMES)] for pair in range(size.pairs)] * 2
    far = sorted({name for name, one in zip(named, apart.amax(dim=1).tolist(), strict=True) if one > 1})
    return (
        f"torch.compile: one graph, compiled in {compiling:.0f} s, {before / after:.2f} times as fast; "
        f"mean difference {apart.mean():.2g}, more than 1 in {(apart > 1).float().mean():.2%} of the values "
        f"({', '.join(far) or 'no simulator'})"
    )


def main() -> None:
    """Print the tables."""
    parser = arguments(__doc__)
    parser.add_argument("--pairs", type=int, default=SIZE.pairs)
    parser.add_argument("--frames", type=int, default=SIZE.frames)
    parser.add_argument("--side", type=int, default=SIZE.side)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch on the CPU")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = Size(options.pairs, options.frames, options.side)
    batch = some_pairs(size, device)
    whole = median(seconds(lambda: distort(batch, DISTORTIONS), device) for _ in range(options.repeats))
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {options.threads} threads"
    console = Console()
    console.print(
        f"{size.pairs} pairs of {size.frames} x {size.side} x {size.side} on {where}: {whole * 1e3:.1f} ms"
    )
    for what, rows in (
        ("operator", profile_pass(device, size)[:15]),
        ("simulator", profile_simulators(device, size)),
    ):
        table = Table(what, "microseconds")
        for name, spent in rows:
            table.add_row(name, f"{spent:.0f}")
        console.print(table)
    if options.compile:
        console.print(compare_compiled(device, size, options.repeats))


if __name__ == "__main__":
    main()
