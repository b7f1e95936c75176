"""A dry run of llava_onevision_7b.yaml, the paper's recipe: memory by part and time by stage, from shapes.

    python benchmarks/paper_recipe.py [--videos 200000] [--utilisation 0.1 0.4]

Nothing is downloaded and no GPU is used: the checkpoint is replaced by its published sizes on the meta device
(vqa_lightning/budget). Hours are operations over a share of the bfloat16 peak that H100 and H200 have in
common; the cards differ in memory. The paper's own hours, of training alone on 8 H200, stand beside, with the
share of the peak that they come to. Reading, codecs, teachers and what the host does are not in the hours:
docs/scale.md has those.
"""

import tempfile
from functools import partial
from pathlib import Path

import torch
from budget import modules
from experiment import CONFIGS, arguments
from rich.console import Console
from rich.table import Table
from scoring_ways import operations

from vqa_lightning.budget.flops import step_flops, step_shape
from vqa_lightning.budget.memory import GB, estimate, training_hours
from vqa_lightning.lmm.sharding import build_on_meta

CARDS = {"H100": 80, "H200": 141}
"""Gigabytes of memory."""

GPUS = 8

FRAMES = ((540, 960), (720, 1280), (1080, 1920))

PAPER = (19, 24, 29)
"""Hours that the paper names for its stages."""

PEAK = 989e12
"""Of H100 and H200 in bfloat16, operations a second."""


def main() -> None:
    """Print both tables."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", type=int, default=200_000)
    parser.add_argument("--utilisation", type=float, nargs=2, default=[0.1, 0.4])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        module, data = modules(["--config", str(CONFIGS / "llava_onevision_7b.yaml")], Path(folder))
        lmm = build_on_meta(partial(module.build_lmm, half=True, weights=False))
    held = Table("frames", title=f"GB on each of {GPUS} GPUs, DDP, by part", title_justify="left")
    for frame in FRAMES:
        shape = step_shape(lmm, module.step(data.batch_size, frame))
        budget = estimate(lmm, shape)
        parts = {**budget.parts(), "total": budget.total}
        spare = {f"spare, {card}": size * GB - budget.total for card, size in CARDS.items()}
        if len(held.columns) == 1:
            for name in (*parts, *spare):
                held.add_column(name, justify="right")
        sizes = (*parts.values(), *spare.values())
        held.add_row(f"{frame[1]} x {frame[0]}", *(f"{size / GB:.1f}" for size in sizes))
    flops = step_flops(lmm, shape).total / data.batch_size
    clip = torch.empty(1, len(lmm.seconds) * module.sampling.frames, 3, 384, 384, device="meta")
    assert isinstance(module.scoring.anchors, int)
    way = "ours, both orders" if module.scoring.both_orders else "ours, anchor first"
    score = module.scoring.draws * operations(lmm.to("meta").eval(), clip, module.scoring.anchors).ways[way]

    def hours(each: float, count: int) -> list[float]:
        return [
            training_hours(each, 1, of_pairs=count, utilisation=share, peak=PEAK) / GPUS
            for share in given.utilisation
        ]

    shares = [f"{share:.0%}" for share in given.utilisation]
    columns = [f"{what}, at {share}" for what in ("training", "annotation") for share in shares]
    time = Table("stage", "pairs", *columns, "the paper's", "share of the peak", title_justify="left")
    time.title = f"Hours on {GPUS} H100 or H200: {flops / 1e12:.0f} TFLOP a pair, {score / 1e12:.0f} a video"
    totals = [0.0] * len(columns)
    for round, paper in enumerate(PAPER):
        pairs = data.counts.total(round, data.later)
        cells = [*hours(flops, pairs), *hours(score, given.videos)]
        totals = [before + cell for before, cell in zip(totals, cells, strict=True)]
        share = flops * pairs / (paper * 3600 * GPUS * PEAK)
        time.add_row(
            str(round + 1), f"{pairs:,}", *(f"{cell:.1f}" for cell in cells), str(paper), f"{share:.1%}"
        )
    time.add_row("all", "", *(f"{total:.1f}" for total in totals), str(sum(PAPER)), "")
    for table in (held, time):
        Console(width=140).print(table)


if __name__ == "__main__":
    main()
