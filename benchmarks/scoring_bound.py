"""What bounds the scoring of a video: decoding, arithmetic or what lies between; options, and others beside.

    python benchmarks/scoring_bound.py [--videos FILE ...] [--count 1000] [--segments 2] [--without large]

Two models score pointwise: the scorer that ships with the package, and one of the sizes of LLaVA-OneVision
0.5B with random weights, which is shown two clips of `--segments` whole frames of the first video, for a CPU
takes minutes for what a GPU does in a second. Seconds are of CPU time on one thread, medians over the turns.
Printed are

- the parts of one video's score, probing included; the operations that PyTorch counts, and which share of
  the time of tower and language model they would take at the rate of a product of two matrices in this run;
- the same in bfloat16 (what `--trainer.precision bf16-mixed` does) and by `torch.compile`: the ratio of
  times, how far the score is from that in float32, in points (of random weights: ten a unit of the raw
  score), and what the first call takes;
- bare transformers on the same weights, which reads the same prompt with the same frames by processor and
  model; NIQE and BRISQUE of this package, and those of pyiqa where it is installed, frame by frame;
- many small videos: the share of decoding, and memory after the first hundred and after all.
"""

import argparse
import os
import resource
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from math import inf
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, cast
from unittest.mock import patch

import numpy as np
import scipy.io
import torch
from experiment import arguments, table
from gpu import RandomModule, lmm_config, seconds_of
from lightning.pytorch import seed_everything
from load import write_files
from rich.console import Console
from scorer_speed import product_rate
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoProcessor

from datamodules.labels import ClipDataset, Request
from datamodules.teachers.natural_scenes.brisque import BRISQUE
from datamodules.teachers.natural_scenes.brisque import PUBLISHED as PUBLISHED_BRISQUE
from datamodules.teachers.natural_scenes.niqe import NIQE
from datamodules.teachers.natural_scenes.niqe import PUBLISHED as PUBLISHED_NIQE
from datamodules.video import Sampling, probe
from datamodules.video.colour import WindowConverter
from datamodules.video.readers import FileReader
from vqa_lightning.annotators.checkpoint_teacher import load_checkpoint
from vqa_lightning.checkpoints.scorer_file import SHIPPED
from vqa_lightning.families import Family
from vqa_lightning.lmm import LMM, efficientnet
from vqa_lightning.lmm.prompt import QUESTION, QWEN_CHAT, SYSTEM
from vqa_lightning.scoring import Scoring, ScoringModule
from vqa_lightning.training import RankingModule

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
VIDEOS = ("1724.mp4", "vsfa_test.mp4", "bigbuckbunny.mp4")
LARGE = "llava-hf/llava-onevision-qwen2-0.5b-ov-hf"

PARTS: Mapping[str, tuple[Any, str]] = {
    "open": (FileReader, "_open"),
    "decode": (FileReader, "run"),
    "to RGB": (WindowConverter, "__call__"),
    "resize": (Family, "resize"),
    "tower": (LMM, "encode"),
    "language model": (LMM, "score"),
    "scaling": (ScoringModule, "t_scores"),
}
"""Name -> where it is done; what is called within another part counts as its own alone."""

CPU = torch.device("cpu")
DRAWS = 2
"""Clips of a video that the large model is shown."""

PROBE, REST = "probe", "rest"
SMALL = 100
"""Videos after which memory has grown as far as it may."""


class Parts(NamedTuple):
    """CPU seconds of one score, by part, and the score."""

    seconds: Mapping[str, float]
    score: float


@contextmanager
def apart(seconds: dict[str, float]) -> Iterator[Callable[[str], AbstractContextManager[None]]]:
    """Add the CPU seconds of each of PARTS to its name, those outside of all to REST."""
    running, since = [REST], time.process_time()

    def charge() -> None:
        nonlocal since
        before, since = since, time.process_time()
        seconds[running[-1]] += since - before

    @contextmanager
    def part(name: str) -> Iterator[None]:
        charge()
        running.append(name)
        try:
            yield
        finally:
            charge()
            running.pop()

    def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            with part(name):
                return call(*given, **named)

        return run

    with ExitStack() as stack:
        for name, (place, attribute) in PARTS.items():
            stack.enter_context(patch.object(place, attribute, watched(name, getattr(place, attribute))))
        yield part
        charge()


@torch.inference_mode()
def scored(module: RankingModule, path: Path) -> Parts:
    """Probe, read and score one video."""
    seconds: dict[str, float] = defaultdict(float)
    with apart(seconds) as part:
        with part(PROBE):
            video = probe(path)
        item = ClipDataset([Request(video)], module.score_sampling, module.scoring.draws)[0]
        score, _ = module.t_scores(module.rate_video(item.frames)[None])
    return Parts(seconds, float(score))


def middle(turns: list[Parts]) -> dict[str, float]:
    """Return the median seconds of each part."""
    return {name: median(turn.seconds.get(name, 0.0) for turn in turns) for name in (PROBE, *PARTS, REST)}


def operations(module: RankingModule, path: Path) -> float:
    """Return how many operations one score takes."""
    with FlopCounterMode(display=False) as counter:
        scored(module, path)
    return float(counter.get_total_flops())


def large(segments: int, folder: Path) -> RankingModule:
    """Return a model of the sizes of LLaVA-OneVision 0.5B with random weights."""
    seed_everything(0, verbose=False)
    sampling = Sampling(segments=segments, frames=1, window=None)
    module = RandomModule(lmm=lmm_config(LARGE, folder), sampling=sampling, scoring=Scoring(draws=DRAWS))
    module.made_on = CPU
    module.lmm = module.build_lmm(half=False)
    module.scale.copy_(torch.tensor([0.0, 1.0, 1.0, 0.1]))
    return cast(RankingModule, module.eval())


# ---------------------------------------------------------------- options


@contextmanager
def compiled(module: RankingModule) -> Iterator[None]:
    """Have what looks at pixels and the language model compiled; frames then pass whole, and not in strips.

    A compiler would unroll the strips of a large frame one by one.
    """
    torch._dynamo.reset()
    lmm = module.lmm
    parts = [lmm.family.language_model]
    parts += [lmm.family.tower] if lmm.pictures else []
    parts += [] if lmm.quality_tower is None else [lmm.quality_tower.stages]
    with patch.object(efficientnet, "LARGE", inf), ExitStack() as stack:
        for part in parts:
            run = torch.compile(part.forward)
            stack.enter_context(patch.object(part, "forward", run))
        yield


@contextmanager
def both(module: RankingModule) -> Iterator[None]:
    """Compile under autocast."""
    with torch.autocast("cpu", torch.bfloat16), compiled(module):
        yield


OPTIONS: Mapping[str, Callable[[RankingModule], AbstractContextManager[None]]] = {
    "float32": lambda module: nullcontext(),
    "bfloat16": lambda module: torch.autocast("cpu", torch.bfloat16),
    "compiled": compiled,
    "compiled, bfloat16": both,
}


def options(name: str, module: RankingModule, path: Path, turns: int, console: Console) -> None:
    """Print what each option makes of tower and language model."""
    report = table(
        f"{name}, {path.name}: tower and language model",
        ["option"],
        ("seconds", "ratio", "points from float32", "first call, s"),
    )
    base = None
    for option, under in OPTIONS.items():
        try:
            with under(module):
                began = time.perf_counter()
                scored(module, path)
                first = time.perf_counter() - began
                taken = [scored(module, path) for _ in range(turns)]
        except Exception as error:  # a compiler that is not there is a row
            report.add_row(
                option, "-", "-", (str(error).strip() or type(error).__name__).splitlines()[0][:40]
            )
            continue
        seconds = median(turn.seconds["tower"] + turn.seconds["language model"] for turn in taken)
        base = base or (seconds, taken[0].score)
        away = abs(taken[0].score - base[1])
        report.add_row(option, f"{seconds:.3f}", f"{seconds / base[0]:.2f}", f"{away:.2g}", f"{first:.1f}")
    console.print(report)


# ---------------------------------------------------------------- beside


class Bare:
    """The same prompt with the same frames by a family's processor and model alone, one video at a time."""

    def __init__(self, module: RankingModule, folder: Path) -> None:
        self.lmm, self.processor = module.lmm, AutoProcessor.from_pretrained(folder)
        video = self.lmm.family.video
        said = QWEN_CHAT.format(system=SYSTEM, user=QUESTION.format(video=video))
        self.text = said[: said.index(video)] + video

    @torch.inference_mode()
    def __call__(self, clip: Tensor) -> float:
        """Return the score of a clip uint8 (T, 3, H, W) before any scale."""
        inputs = self.processor(text=[self.text], videos=[clip], do_sample_frames=False, return_tensors="pt")
        found = self.lmm.model(**inputs, output_hidden_states=True, logits_to_keep=1)
        return float(self.lmm.score_head(found.hidden_states[-1][:, -1]))


def of_pyiqa(folder: Path) -> dict[str, Callable[[Tensor], object]]:
    """Return pyiqa's NIQE and BRISQUE, which download nothing: they read this package's weights, as files.

    Where pyiqa is not installed there are none.
    """
    if find_spec("pyiqa") is None:
        return {}
    brisque, niqe = import_module("pyiqa.archs.brisque_arch"), import_module("pyiqa.archs.niqe_arch")
    machine, pristine = np.load(PUBLISHED_BRISQUE), np.load(PUBLISHED_NIQE)
    parts = [torch.from_numpy(machine[name]).float() for name in ("coefficients", "support_vectors")]
    torch.save(parts, folder / "brisque.pth")
    known = {"mu_prisparam": pristine["pop_mu"][None], "cov_prisparam": pristine["pop_cov"]}
    scipy.io.savemat(folder / "niqe.mat", known)
    return {
        "niqe": niqe.NIQE(pretrained_model_path=str(folder / "niqe.mat")),
        "brisque": brisque.BRISQUE(pretrained_model_path=str(folder / "brisque.pth")),
    }


def beside(module: RankingModule, path: Path, turns: int, folder: Path, console: Console) -> None:
    """Print what NIQE and BRISQUE take for the frames that the scorer looks at."""
    item = ClipDataset([Request(probe(path))], module.score_sampling, module.scoring.draws)[0]
    frames = item.frames.flatten(0, 1)
    ways: dict[str, Callable[[], object]] = {
        "the shipped scorer, tower and language model": partial(module.rate_video, item.frames)
    }
    for teacher in (NIQE(), BRISQUE()):
        clips = frames[:, None].float() / 255
        ways[f"{teacher.name} of this package"] = partial(
            lambda teacher, clips: [teacher.score(clip[None]) for clip in clips], teacher, clips
        )
    for name, metric in of_pyiqa(folder).items():
        ways[f"{name} of pyiqa"] = partial(
            lambda metric, clips: [metric(frame[None]) for frame in clips], metric, frames.float() / 255
        )
    report = table(
        f"{path.name}: {len(frames)} frames of {frames.shape[-1]} x {frames.shape[-2]}",
        ["what"],
        ("ms a frame",),
    )
    with torch.inference_mode():
        for what, run in ways.items():
            report.add_row(what, f"{1e3 * seconds_of(run, CPU, turns) / len(frames):.1f}")
    console.print(report)


def bare_beside(module: RankingModule, path: Path, folder: Path, turns: int, console: Console) -> None:
    """Print what bare transformers takes for the frames of one video, and how far its score is from ours."""
    bare = Bare(module, folder)
    item = ClipDataset([Request(probe(path))], module.score_sampling, module.scoring.draws)[0]
    with torch.inference_mode():
        ours = module.rate_video(item.frames)
        away = max(abs(float(one) - bare(clip)) for one, clip in zip(ours, item.frames, strict=True))
        taken = {
            "ours": seconds_of(lambda: module.rate_video(item.frames), CPU, turns),
            "bare transformers": seconds_of(lambda: [bare(clip) for clip in item.frames], CPU, turns),
        }
    report = table(f"{LARGE}: frames to score, {len(item.frames)} clips", ["what"], ("CPU seconds", "ratio"))
    for what, seconds in taken.items():
        report.add_row(what, f"{seconds:.2f}", f"{seconds / taken['ours']:.2f}")
    console.print(report)
    console.print(f"their scores of a clip are {away:.1g} apart at most\n")


# ---------------------------------------------------------------- tables


def by_part(name: str, module: RankingModule, paths: list[Path], turns: int, console: Console) -> None:
    """Print the parts of each video's score."""
    report = table(
        f"{name.rpartition('/')[2]}: CPU seconds of one video's score",
        ["part"],
        [f"{path.stem}, {video.width} x {video.height}" for path in paths for video in [probe(path)]],
    )
    counted = [operations(module, path) for path in paths]
    rates, taken = [], [[] for _ in paths]
    for _ in range(turns):
        rates.append(product_rate())
        for path, own in zip(paths, taken, strict=True):
            own.append(scored(module, path))
    columns = [middle(own) for own in taken]
    for part in columns[0]:
        report.add_row(part, *(f"{column[part]:.3f}" for column in columns))
    totals = [sum(column.values()) for column in columns]
    report.add_row("in all", *(f"{total:.3f}" for total in totals))
    read = [column[PROBE] + column["open"] + column["decode"] + column["to RGB"] for column in columns]
    report.add_row(
        "reading, %", *(f"{100 * one / total:.0f}" for one, total in zip(read, totals, strict=True))
    )
    report.add_row("GFLOP", *(f"{flops / 1e9:.1f}" for flops in counted))
    shares = [
        flops / median(rates) / (column["tower"] + column["language model"])
        for flops, column in zip(counted, columns, strict=True)
    ]
    report.add_row("of the bound, %", *(f"{100 * share:.0f}" for share in shares))
    console.print(report)
    console.print(f"a product of matrices: {median(rates) / 1e9:.0f} GFLOP a second\n")


def many(module: RankingModule, count: int, folder: Path, console: Console) -> None:
    """Score many small videos one by one; print shares and memory."""
    clips = sorted(file for file in CLIPS.iterdir() if file.suffix in (".mp4", ".y4m"))
    write_files(folder, clips, count)
    seconds: Counter[str] = Counter()
    for number, path in enumerate(sorted(folder.iterdir())):
        seconds.update(scored(module, path).seconds)
        if number + 1 == min(SMALL, count):
            near = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    end, total = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, seconds.total()
    report = table(f"{count} videos of 12 frames of 96 x 64", ["part"], ("ms a video", "%"))
    for part in (PROBE, *PARTS, REST):
        report.add_row(part, f"{1e3 * seconds[part] / count:.2f}", f"{100 * seconds[part] / total:.0f}")
    report.add_row("in all", f"{1e3 * total / count:.2f}", "100")
    console.print(report)
    console.print(f"{near:.0f} MB at most after {SMALL} videos, {end:.0f} MB after all\n")


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", type=Path, nargs="+", default=[CLIPS / name for name in VIDEOS])
    parser.add_argument("--count", type=int, default=1000, help="small videos")
    parser.add_argument("--segments", type=int, default=2, help="frames that the large model is shown")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--without", nargs="*", choices=("many", "beside", "large"), default=[])
    given: argparse.Namespace = parser.parse_args()
    torch.set_num_threads(1)
    console, shipped = Console(width=110), load_checkpoint(SHIPPED).eval()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "compiled")  # a first call compiles
        if "many" not in given.without:  # first: what follows holds memory
            many(shipped, given.count, folder / "small", console)
        by_part("the shipped scorer", shipped, given.videos, given.turns, console)
        options("the shipped scorer", shipped, given.videos[0], given.turns, console)
        if "beside" not in given.without:
            beside(shipped, given.videos[0], given.turns, folder, console)
        if "large" not in given.without:
            module, turns = large(given.segments, folder / "large"), max(1, given.turns // 2)
            by_part(LARGE, module, given.videos[:1], turns, console)
            bare_beside(module, given.videos[0], folder / "large", turns, console)
            options(LARGE, module, given.videos[0], turns, console)


if __name__ == "__main__":
    main()
