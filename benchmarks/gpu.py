"""What only a GPU can say, in ten minutes on one card of 80 GB or more and without a network.

    python benchmarks/gpu.py [--minutes 10] [--output gpu.json]
    python benchmarks/gpu.py --tiny                       # a rehearsal of every line on the CPU

In this order, so that what the time cuts off matters least:

- the device pass: clips distorted a second, as windows and as whole frames; the operators that took longest;
- labels: frames a second of VMAF, NIQE, BRISQUE and Artefacts;
- a training step of models of the sizes of LLaVA-OneVision 0.5B and 7B with random weights: pairs a second,
  the share of the card's bfloat16 peak that the operations which the step needs come to (MFU), and peak
  memory beside what `vqa_lightning/budget` says;
- scoring by the same models: videos a second, by part, against anchors and pointwise, and peak memory.

A part that fails or does not come to its turn is a row that says so. The table is printed, and written as
JSON after every part. Models and pictures are made here. A rehearsal's figures say nothing of a GPU.
"""

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from device_pass import profiled
from experiment import arguments, now
from lightning.pytorch import seed_everything
from rich.console import Console
from rich.table import Table
from scoring import FRAMES
from scoring_ways import WAYS, Clock, Setting
from step import NOT_MEASURED, PEAKS, TimedRounds, Turns, fit

from datamodules.distortions import DISTORTIONS, apply, generator_for
from datamodules.fidelity import vmaf
from datamodules.labels import LEVELS
from datamodules.pairs import Drawing, PairCounts
from datamodules.procedural import write_corpus
from datamodules.teachers.artefacts import Artefacts
from datamodules.teachers.natural_scenes.brisque import BRISQUE
from datamodules.teachers.natural_scenes.niqe import NIQE
from datamodules.video import Sampling, probe
from vqa_lightning.budget.flops import Step, step_flops, step_shape
from vqa_lightning.budget.memory import estimate
from vqa_lightning.budget.stand_in import write_stand_in
from vqa_lightning.families import FAMILIES, EmbeddedSizes
from vqa_lightning.lmm import LMM, LMMConfig, TrainedParts
from vqa_lightning.lmm.prompt import ANSWER, QUESTION, QWEN_CHAT, SYSTEM
from vqa_lightning.training import RankingModule

OPERATORS = 12
"""Rows of the profile."""


class Row(NamedTuple):
    """One figure; the number is None where there is none."""

    part: str
    what: str
    number: float | None
    unit: str


Rows = Iterator[Row]


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        windows: clips of a device pass in windows (B, T, 3, side, side).
        frames: clips of a device pass of whole frames (B, T, 3, H, W).
        labelled: versions that are labelled (B, T, 3, H, W).
        models: published sizes, or `tiny`.
        window: side of the windows that are trained on, in pixels.
        pairs: of a step.
        steps: that are counted.
        warmup: steps before them.
        draws: clips of a video that is scored.
    """

    windows: tuple[int, int, int] = (48, 8, 224)
    frames: tuple[int, int, int, int] = (2, 64, 1080, 1920)
    labelled: tuple[int, int, int, int] = (32, 8, 360, 640)
    models: tuple[str, ...] = (
        "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        "llava-hf/llava-onevision-qwen2-7b-ov-hf",
    )
    window: int = 432
    pairs: int = 4
    steps: int = 10
    warmup: int = 3
    draws: int = 4


TINY = Sizes((28, 4, 48), (2, 4, 96, 128), (2, 4, 64, 96), ("tiny",), 112, 2, 2, 1, 2)


class RandomModule(RankingModule):
    """A model of a published checkpoint's sizes, with random weights made on the device."""

    made_on: torch.device

    def build_lmm(self, *, half: bool, weights: bool = True) -> LMM:
        """Build it without reading weights."""
        with self.made_on:
            return super().build_lmm(half=half, weights=False)


def lmm_config(name: str, folder: Path) -> LMMConfig:
    """Return the config of a checkpoint of published or of tiny sizes, which has no weights."""
    if name == "tiny":
        sizes = EmbeddedSizes(image_size=48, patch_size=12, hidden_size=32, vision_layers=1, text_layers=1)
        texts = (QWEN_CHAT, SYSTEM, QUESTION, ANSWER, *LEVELS, "user assistant")
        made = FAMILIES[sizes.family].embedded(sizes, texts)
        made.model.config.save_pretrained(folder)
        made.processor.save_pretrained(folder)
    else:
        write_stand_in(name, folder)
    return LMMConfig(pretrained=str(folder), view="resize", prompt="paper", checkpointing=True)


def seconds_of(run: Callable[[], object], device: torch.device, times: int) -> float:
    """Return the median seconds of a run, after one that is not counted."""
    run()
    taken = []
    for _ in range(times):
        began = now(device)
        run()
        taken.append(now(device) - began)
    return float(np.median(taken))


def device_pass(sizes: Sizes, device: torch.device) -> Rows:
    """Distort clips, all simulators in one batch, as windows and as whole frames."""
    for what, shape in {
        "windows": (*sizes.windows[:2], 3, sizes.windows[2], sizes.windows[2]),
        "whole frames": (*sizes.frames[:2], 3, *sizes.frames[2:]),
    }.items():
        clips = torch.randint(256, shape, dtype=torch.uint8, device=device)
        names = [sorted(DISTORTIONS)[place % len(DISTORTIONS)] for place in range(len(clips))]
        levels = torch.tensor([1 + place % len(DISTORTIONS[name].levels) for place, name in enumerate(names)])
        generators = [generator_for(("gpu", place), device) for place in range(len(clips))]
        run = partial(apply, clips, names, levels, generator=generators)
        seconds = seconds_of(run, device, sizes.steps)
        name = f"{what}, {len(clips)} clips of {shape[1]} frames of {shape[4]} x {shape[3]}"
        yield Row("device pass", name, len(clips) / seconds, "clips/s")
        yield Row("device pass", name, clips.numel() / seconds / 1e9, "GB/s of bytes")
        if what == "windows":
            yield from operators(run, device)


def operators(run: Callable[[], object], device: torch.device) -> Rows:
    """Profile a run by operator."""
    took = profiled(run, device)
    total = sum(microseconds for _, microseconds in took)
    for name, microseconds in took[:OPERATORS]:
        yield Row("operators", name, 100 * microseconds / total, "% of the pass")


def labels(sizes: Sizes, device: torch.device) -> Rows:
    """Label versions by VMAF and by the default teachers."""
    clips = torch.rand(sizes.labelled[0], sizes.labelled[1], 3, *sizes.labelled[2:], device=device)
    sources = (clips + torch.randn_like(clips) / 20).clamp(0, 1)
    count = clips.shape[0] * clips.shape[1]
    size = f"{clips.shape[4]} x {clips.shape[3]}"
    runs: dict[str, Callable[[], object]] = {"VMAF": partial(vmaf, clips, sources)}
    for teacher in (NIQE(), BRISQUE(), Artefacts()):
        teacher.device = device
        runs[teacher.name] = partial(teacher.score, clips)
    for name, run in runs.items():
        yield Row("labels", f"{name}, {size}", count / seconds_of(run, device, 3), "frames/s")


def training(name: str, parts: str, sizes: Sizes, device: torch.device, folder: Path, corpus: Path) -> Rows:
    """Train a model for some steps in Lightning's own loop."""
    seed_everything(0, verbose=False)
    module = RandomModule(
        lmm=lmm_config(name, folder / "model"),
        sampling=Sampling(segments=8, frames=1, window=sizes.window),
        trained=TrainedParts(parts=parts),  # type: ignore[arg-type]
        judgements=("pairwise",),
        score_by="pairwise",
        both_orders=False,
        optimizer=partial(torch.optim.AdamW, lr=1e-5),
    )
    module.made_on = device
    steps = sizes.steps + sizes.warmup
    data = TimedRounds(
        str(corpus),
        batch_size=sizes.pairs,
        counts=PairCounts(synthetic=steps * sizes.pairs, teacher=0),
        drawing=Drawing(draws=1),
    )
    turns = Turns(sizes.warmup, alone=True)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    fit(module, data, device, steps, turns)
    what = f"{name.rpartition('/')[2]}, {parts}, {sizes.pairs} pairs a step"
    second = float(np.median(turns.per_pair("ours")))
    shape = step_shape(module.lmm, Step(sizes.pairs, (sizes.window, sizes.window), ("pairwise",), False))
    needed = step_flops(module.lmm, shape).total / sizes.pairs
    yield Row("step", what, 1 / second, "pairs/s")
    yield Row("step", what, needed / 1e12, "TFLOP a pair")
    yield Row("step", what, needed / second / peak(device) * 100 if peak(device) else None, "% MFU")
    held = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
    yield Row("step", what, held, "GB at most")
    yield Row("step", what, estimate(module.lmm, shape).total / 1e9, "GB by the budget")


def peak(device: torch.device) -> float:
    """Return the card's operations a second in bfloat16; 0 for a card that is not known."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return 1e12 * next((one for card, one in PEAKS.items() if all(word in name for word in card.split())), 0)


def scoring(name: str, sizes: Sizes, device: torch.device, folder: Path, corpus: Path) -> Rows:
    """Score videos against anchors in one order and pointwise, with the seconds of each part."""
    seed_everything(0, verbose=False)
    module = RandomModule(lmm=lmm_config(name, folder / "model"), sampling=FRAMES, score_by="pairwise")
    module.made_on = device
    module.lmm = module.build_lmm(half=device.type == "cuda")
    module.to(device).eval()
    videos = [probe(path) for path in sorted(corpus.parent.rglob("*.mp4"))[: 5 + sizes.steps]]
    setting = Setting(name, module, videos[:5], videos[5:], sizes.draws)
    module.set_anchors([setting.decode(anchor, 1)[0] for anchor in setting.anchors])
    for way in ("ours, anchor first", "pointwise"):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        taken: list[dict[str, float]] = []
        for video in setting.videos:
            clock = Clock(device)
            with torch.no_grad():
                WAYS[way](setting, video, clock)
            taken.append(clock.seconds)
        middle = {part: float(np.median([one[part] for one in taken[1:] or taken])) for part in taken[0]}
        what = f"{name.rpartition('/')[2]}, {way}, {sizes.draws} clips a video"
        yield Row("scoring", what, 1 / sum(middle.values()), "videos/s")
        for part, seconds in middle.items():
            yield Row("scoring", what, 100 * seconds / sum(middle.values()), f"% {part}")
        held = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
        yield Row("scoring", what, held, "GB at most")


def measured(part: str, what: str, rows: Callable[[], Rows]) -> list[Row]:
    """Return the rows of a part, and one that names its failure if it fails."""
    done: list[Row] = []
    try:
        done.extend(rows())
    except Exception as error:  # what is left is still worth its time
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        done.append(Row(part, f"{what}: failed, {reason}", None, ""))
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return done


def write(output: Path, card: str, rows: list[Row]) -> None:
    """Write what is known as JSON."""
    output.write_text(json.dumps({"card": card, "rows": [row._asdict() for row in rows]}, indent=1) + "\n")


def parts(sizes: Sizes, device: torch.device, folder: Path, corpus: Path) -> dict[str, Callable[[], Rows]]:
    """Return what is measured, in order."""
    found: dict[str, Callable[[], Rows]] = {
        "device pass": partial(device_pass, sizes, device),
        "labels": partial(labels, sizes, device),
    }
    for name in sizes.models:
        for trained in ("paper", "lora"):
            found[f"step: {name}, {trained}"] = partial(
                training, name, trained, sizes, device, folder, corpus
            )
        found[f"scoring: {name}"] = partial(scoring, name, sizes, device, folder, corpus)
    return found


def main() -> None:
    """Measure, print and write."""
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--output", type=Path, default=Path("gpu.json"))
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, on the CPU where there is no card")
    given: argparse.Namespace = parser.parse_args()
    there = torch.cuda.is_available()
    if not there and not given.tiny:
        Console().print("There is no GPU: nothing was measured. --tiny rehearses on the CPU.")
        return
    device = torch.device("cuda" if there else "cpu")
    card = torch.cuda.get_device_name(device) if there else "CPU, a rehearsal"
    torch.set_num_threads(1) if not there else None
    sizes, began, rows = (TINY if given.tiny else Sizes()), time.monotonic(), list[Row]()
    with tempfile.TemporaryDirectory() as folder:
        corpus = write_corpus(Path(folder) / "corpus", contents=8)
        for what, run in parts(sizes, device, Path(folder), corpus).items():
            kind = what.partition(":")[0]
            if time.monotonic() - began > 60 * given.minutes:
                rows.append(Row(kind, f"{what}: no time was left", None, ""))
            else:
                rows += measured(kind, what, run)
            write(given.output, card, rows)
    table = Table("part", "what", "figure", "unit", title=card, title_justify="left")
    for row in rows:
        figure = NOT_MEASURED if row.number is None else f"{row.number:.4g}"
        table.add_row(row.part, row.what, figure, row.unit)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
