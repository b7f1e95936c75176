"""How fast videos are scored, beside the released code's way on the same weights, and how that grows.

    python benchmarks/scoring.py [--checkpoint CKPT] [--videos FOLDER] [--count 1000]

Two embedded models run on the CPU: of the sizes of round.yaml, where a call costs about as much as its
arithmetic, and a larger one that computes. On a GPU LLaVA-OneVision 0.5B and 7B join them with random weights
in bfloat16. Seconds are of CPU time on one thread, or of a GPU that is waited for. All ways (scoring_ways.py)
score the same clips in turns; medians with quartiles over the turns. Their scores are compared, save that the
released code's optimiser and min-max are left out; its error is printed. Memory is what the first video needs
beyond the weights, prefixes included.

The bound of five anchors in one order is 5 (2 v + 2 l) / (v + 5 l), v the tower's operations for a clip and l
the language model's. It leaves out the prompt's words, which the column beside it counts. At last `predict`'s
own path scores many videos, to see that time is linear in them and memory flat.
"""

import argparse
import multiprocessing
import resource
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiment import QUIET, arguments, now, with_quartiles
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from scaling import adam_values
from scoring_ways import PARTS, WAYS, Clock, Operations, Setting, bordered, operations

from callbacks.scores import ScoreWriter
from datamodules.procedural import write_corpus
from datamodules.video import Sampling, probe
from datamodules.video_data import VideoDataModule
from vqa_lightning.annotators.checkpoint_teacher import load_checkpoint
from vqa_lightning.budget.stand_in import write_stand_in
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMM, LMMConfig
from vqa_lightning.lmm.sharding import build_on_meta
from vqa_lightning.scaling import map_scores
from vqa_lightning.training import RankingModule

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
PUBLISHED = ("llava-hf/llava-onevision-qwen2-0.5b-ov-hf", "llava-hf/llava-onevision-qwen2-7b-ov-hf")
ROUND = LMMConfig(
    motion="differences", embedded=EmbeddedSizes(hidden_size=96, vision_layers=2, text_layers=2)
)
LARGE = LMMConfig(embedded=EmbeddedSizes(image_size=96, hidden_size=256, vision_layers=4, text_layers=4))
LARGE_SAMPLING = Sampling(segments=8, frames=1, window=104)
FRAMES = Sampling(segments=8, frames=1, window=None)
ANCHORS = 5
OURS = "ours, anchor first"
AGAINST = ("released, clip by clip", "released, clips together")
EQUAL = tuple(way for way in WAYS if way != "pointwise")


def embedded(config: LMMConfig, sampling: Sampling | None) -> RankingModule:
    """Return an embedded model with random weights."""
    seed_everything(0, verbose=False)
    module = RankingModule(lmm=config, sampling=sampling, score_by="pairwise")
    module.configure_model()
    return module


def published_lmm(name: str) -> LMM:
    """Build a published checkpoint's sizes with random weights, on the device of the context."""
    with tempfile.TemporaryDirectory() as folder:
        config = LMMConfig(pretrained=str(write_stand_in(name, Path(folder))), prompt="paper")
        return LMM(config, FRAMES, torch.bfloat16, weights=False)


def published(name: str, device: torch.device) -> RankingModule:
    """Return such a model as a module."""
    seed_everything(0, verbose=False)
    config = LMMConfig(pretrained=name, prompt="paper")
    module = RankingModule(lmm=config, sampling=FRAMES, score_by="pairwise")
    with device:
        module.lmm = published_lmm(name)
    return module


def prepare(name: str, module: RankingModule, given: argparse.Namespace, device: torch.device) -> Setting:
    """Put a model where it runs; the first videos become its anchors, the rest are scored."""
    module.to(device).eval()
    videos = [probe(path) for path in given.paths]
    anchors, scored = videos[:ANCHORS], videos[ANCHORS:]
    setting = Setting(name, module, anchors, scored[: given.scored], given.draws)
    module.set_anchors([setting.decode(anchor, 1)[0] for anchor in anchors])
    return setting


def peak_bytes(setting: Setting, name: str) -> int:
    """Return what one video needs beyond the weights, anchors' prefixes included.

    On the CPU by the growth of the resident set of a process that does nothing else.
    """
    video, clock = setting.videos[0], Clock(setting.device)
    setting.module.anchors.forget()
    if setting.device.type == "cuda":
        held = torch.cuda.memory_allocated(setting.device)
        torch.cuda.reset_peak_memory_stats(setting.device)
        WAYS[name](setting, video, clock)
        return torch.cuda.max_memory_allocated(setting.device) - held
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def alone() -> None:
        began = resident_bytes()
        WAYS[name](setting, video, clock)
        sender.send(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began)

    process = context.Process(target=alone)
    process.start()
    needed: int = receiver.recv()
    process.join()
    return needed


def resident_bytes() -> int:
    """Return this process's resident set, as Linux gives it."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@torch.no_grad()
def measure(setting: Setting, turns: int, console: Console) -> None:
    """Print the tables of one model, and how far its ways agree."""
    peaks = {name: peak_bytes(setting, name) for name in WAYS}
    scores = {
        name: torch.cat([way(setting, video, Clock(setting.device)) for video in setting.videos]).double()
        for name, way in WAYS.items()
    }
    seconds: dict[str, list[list[float]]] = {name: [] for name in WAYS}
    for _ in range(turns):
        for name, way in WAYS.items():
            clock = Clock(setting.device)
            for video in setting.videos:
                way(setting, video, clock)
            seconds[name].append([clock.seconds[part] / len(setting.videos) for part in PARTS])
    lmm, sampling = setting.module.lmm, setting.module.sampling
    side = lmm.family.video_processor.size["height"]
    frames = sampling.segments * sampling.frames
    shown = torch.zeros(1, frames, 3, side, side, device=setting.device)
    counted = operations(lmm, shown, ANCHORS)

    taken = {name: np.array(rows) for name, rows in seconds.items()}
    working = {name: rows[:, 1:].sum(axis=1) for name, rows in taken.items()}
    table = Table(
        "way", title=f"{setting.name}: milliseconds a video of {setting.draws} clips", box=SIMPLE, padding=0
    )
    for column in (*PARTS, "videos/s", "times", "times together", "GFLOP", "MB"):
        table.add_column(column, justify="right")
    for name, rows in taken.items():
        table.add_row(
            name,
            *(f"{1e3 * value:.1f}" for value in np.median(rows, axis=0)),
            f"{1 / np.median(rows.sum(axis=1)):.2f}",
            *(f"{np.median(working[other] / working[name]):.2f}" for other in AGAINST),
            f"{setting.draws * counted.ways[name] / 1e9:.2f}",
            f"{peaks[name] / 1e6:.0f}",
        )
    console.print(table)
    exact = scores[OURS]
    apart = max(float((scores[name] - exact).abs().max()) for name in EQUAL)
    console.print(
        f"Scores of the ways differ by at most {apart:.1e}; they spread over {exact.std(correction=0):.1e}."
    )
    console.print(f"50 steps of Adam miss their own optimum by {adam_error(setting):.2f} at most.")
    if setting.device.type == "cpu" and apart > 1e-3:
        raise SystemExit("The ways do not give the same scores.")
    models = {name: rows[:, 1:3].sum(axis=1) for name, rows in taken.items()}
    for other in AGAINST:
        console.print(
            f"{other} / {OURS}: {with_quartiles(working[other] / working[OURS])} beyond decoding, "
            f"{with_quartiles(models[other] / models[OURS])} in tower and language model."
        )
    console.print(bounds({setting.name: counted}))


def adam_error(setting: Setting) -> float:
    """Return how far the released code's optimiser ends from the optimum of what it maximises."""
    anchors = setting.module.anchors
    wins = [
        anchors.wins(
            setting.module.lmm,
            setting.encode(setting.decode(video, setting.draws)),
            setting.prefers,
            both_orders=False,
        )[:, 0]
        for video in setting.videos
    ]
    matrices = bordered(anchors.matrix, torch.cat(wins))
    exact, _ = map_scores(matrices, "logit")
    with torch.enable_grad():
        return float((adam_values(matrices) - exact)[:, -1].abs().max())


class Meter(Callback):
    """Time and memory along a prediction.

    Args:
        count: of all videos; a tenth of them makes a row.
    """

    def __init__(self, count: int) -> None:
        self.every = max(1, count // 10)
        self.rows: list[tuple[int, float, int]] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.began = now(pl_module.device)
        self.done = 0

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Read the clock every so many videos."""
        self.done += len(batch.rows)
        if self.done // self.every > len(self.rows):
            seconds = now(pl_module.device) - self.began
            self.rows.append((self.done, seconds, resident_bytes()))


def growth(setting: Setting, given: argparse.Namespace, console: Console) -> None:
    """Score many videos as `predict` does; the same files again and again, under names of their own."""
    with tempfile.TemporaryDirectory() as folder:
        videos = Path(folder) / "videos"
        videos.mkdir()
        for place, path in enumerate(islice(cycle(given.paths), given.count)):
            (videos / f"{place:05d}{path.suffix}").symlink_to(path.resolve())
        meter = Meter(given.count)
        Trainer(
            accelerator="gpu" if setting.device.type == "cuda" else "cpu",
            devices=1,
            **QUIET,
            callbacks=[ScoreWriter(str(Path(folder) / "scores.csv")), meter],
        ).predict(setting.module, VideoDataModule(str(videos), workers=0), return_predictions=False)
    table = Table("videos", "seconds since", "resident, MB", title=f"{setting.name}: predict", box=SIMPLE)
    before = 0.0
    for done, seconds, resident in meter.rows:
        table.add_row(str(done), f"{seconds - before:.1f}", f"{resident / 1e6:.0f}")
        before = seconds
    console.print(table)


def bounds(counted: Mapping[str, Operations]) -> Table:
    """Return the table of the bound that the operations allow."""
    table = Table(
        *("model", "v, GFLOP", "l, GFLOP", "5 (2 v + 2 l) / (v + 5 l)", "words counted"),
        box=SIMPLE,
        padding=0,
    )
    for name, each in counted.items():
        table.add_row(
            name,
            f"{each.vision / 1e9:.3f}",
            f"{each.language_model / 1e9:.3f}",
            f"{each.bound(ANCHORS):.2f}",
            f"{each.ways[AGAINST[0]] / each.ways[OURS]:.2f}",
        )
    return table


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", type=Path, help="default: real clips where present, else procedural ones")
    parser.add_argument("--checkpoint", type=Path, help="of an embedded model, beside the random ones")
    parser.add_argument("--models", nargs="*", default=PUBLISHED, help="published sizes, run on a GPU")
    parser.add_argument("--draws", type=int, default=4, help="clips of a video")
    parser.add_argument("--scored", type=int, default=2, help="videos of each turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--count", type=int, default=1000, help="videos of the last table")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    console = Console(width=100)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        source = given.videos or (CLIPS if CLIPS.is_dir() else write_corpus(Path(folder), contents=12).parent)
        given.paths = sorted(path for path in source.iterdir() if path.suffix in (".mp4", ".mkv", ".mov"))
        makers: dict[str, Callable[[], RankingModule]] = {
            "round.yaml's sizes": partial(embedded, ROUND, None),
            "larger, 8 segments": partial(embedded, LARGE, LARGE_SAMPLING),
        }
        if given.checkpoint is not None:
            makers[given.checkpoint.name] = partial(load_checkpoint, given.checkpoint)
        for name, make in makers.items():
            measure(prepare(name, make(), given, torch.device("cpu")), given.turns, console)
        unmeasured = {}
        for name in given.models:
            short = name.split("/")[-1]
            if device.type == "cuda":
                measure(prepare(short, published(name, device), given, device), given.turns, console)
                torch.cuda.empty_cache()
            else:
                lmm = build_on_meta(partial(published_lmm, name)).to("meta").eval()
                unmeasured[short] = operations(lmm, torch.empty(1, 8, 3, 384, 384, device="meta"), ANCHORS)
        if unmeasured:
            console.print("There is no GPU: these sizes were not measured, only their operations counted.")
            console.print(bounds(unmeasured))
        if given.count:
            module = embedded(ROUND, None)
            growth(prepare("round.yaml's sizes", module, given, torch.device("cpu")), given, console)


if __name__ == "__main__":
    main()
