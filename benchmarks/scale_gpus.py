"""What LLaVA-OneVision 0.5B and 7B need of GPUs at the paper's scale, computed from shapes.

    python benchmarks/scale_gpus.py [--videos 3000000] [--utilisation 0.2 0.5]

One table of gigabytes on each GPU, by what is trained and by strategy, at the peak of a training step on
1080p videos (budget/memory.py), and of what stays there while the student annotates, a video's pixels
and activations apart. One of operations, and of GPU-hours at two assumed shares of an H100's bfloat16 peak:
for the pairs of three rounds, and for scoring every video once.
"""

import tempfile
from functools import partial
from pathlib import Path

import torch
from budget import modules
from experiment import CONFIGS, arguments
from rich.console import Console
from rich.table import Table
from scoring import ANCHORS, published_lmm
from scoring_ways import operations

from vqa_lightning.budget.flops import step_flops, step_shape
from vqa_lightning.budget.memory import GB, Budget, estimate, training_hours
from vqa_lightning.lmm.sharding import build_on_meta

MODELS = {
    "0.5B": ("llava_onevision_0.5b", "llava-hf/llava-onevision-qwen2-0.5b-ov-hf"),
    "7B": ("llava_onevision_7b", "llava-hf/llava-onevision-qwen2-7b-ov-hf"),
}
PARTS = ("paper", "lora", "full")
STRATEGIES = {"DDP": 1, "FSDP2, 8 GPUs": 8, "FSDP2, 64 GPUs": 64}
"""Processes that parameters, gradients and optimiser states are shared out over."""

PAIRS = 500_000 + 600_000 + 700_000
"""Shown in three rounds, each once, the union of the pairs so far (as in the paper)."""

FRAME = (1080, 1920)
DRAWS = 4
"""Clips of a video that a score is the mean of: `model.scoring.draws`."""

WAYS = ("pointwise", "ours, anchor first", "ours, both orders")


def step(config: str, parts: str) -> tuple[float, dict[str, Budget], float]:
    """Return the operations of a training pair, memory by strategy, and parameters of a config's model.

    Args:
        config: name of a shipped one.
        parts: what is trained.
    """
    words = ["--config", str(CONFIGS / f"{config}.yaml"), f"--model.trained.parts={parts}"]
    with tempfile.TemporaryDirectory() as folder:
        module, data = modules(words, Path(folder))
        lmm = build_on_meta(partial(module.build_lmm, half=True, weights=False))
    shape = step_shape(lmm, module.step(data.batch_size, FRAME))
    budgets = {name: estimate(lmm, shape, shards=shards) for name, shards in STRATEGIES.items()}
    flops = step_flops(lmm, shape).total / data.batch_size
    return flops, budgets, sum(parameter.numel() for parameter in lmm.parameters())


def annotating(budget: Budget, parameters: float, shards: int) -> float:
    """Return the bytes held in annotation: what lasts between steps, and a sharded model whole."""
    whole = 2 * parameters if shards > 1 else 0  # in bfloat16
    return budget.weights + budget.optimizer + whole


def hours(flops: float, count: float, utilisations: list[float]) -> list[str]:
    """Return GPU-hours at each share of the peak, of `count` times so many operations."""
    return [
        f"{training_hours(flops, 1, of_pairs=int(count), utilisation=share):,.0f}" for share in utilisations
    ]


def main() -> None:
    """Print both tables."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", type=int, default=3_000_000)
    parser.add_argument("--utilisation", type=float, nargs=2, default=[0.2, 0.5])
    given = parser.parse_args()
    held = Table("model", "trained", title="GB on each GPU: training step / annotation")
    work = Table("what", "TFLOP each", "how many", title="GPU-hours on H100s, assumed utilisation")
    for name in STRATEGIES:
        held.add_column(name, justify="right")
    for share in given.utilisation:
        work.add_column(f"{share:.0%}", justify="right")
    for model, (config, published) in MODELS.items():
        for parts in PARTS:
            flops, budgets, parameters = step(config, parts)
            cells = [
                f"{budget.total / GB:.0f} / {annotating(budget, parameters, STRATEGIES[name]) / GB:.0f}"
                for name, budget in budgets.items()
            ]
            held.add_row(model, parts, *cells)
            cost = hours(flops, PAIRS, given.utilisation)
            work.add_row(f"{model}, {parts}: train on a pair", f"{flops / 1e12:.0f}", f"{PAIRS:,}", *cost)
        lmm = build_on_meta(partial(published_lmm, published)).to("meta").eval()
        clip = operations(lmm, torch.empty(1, 8, 3, 384, 384, device="meta"), ANCHORS)
        for way in WAYS:
            flops = DRAWS * clip.ways[way]
            cost = hours(flops, given.videos, given.utilisation)
            work.add_row(f"{model}, {way}: score a video", f"{flops / 1e12:.0f}", f"{given.videos:,}", *cost)
    for table in (held, work):
        table.title_justify = "left"
        Console(width=120).print(table)


if __name__ == "__main__":
    main()
