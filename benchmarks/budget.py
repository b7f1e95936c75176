"""What the shipped configs need of a GPU, computed from shapes alone: memory by part, and hours.

    python benchmarks/budget.py [--height 1080] [--width 1920] [--pairs 500000] [--utilisation 0.4]

Nothing is downloaded and no GPU is used: each config's checkpoint is replaced by its published sizes on the
meta device. Memory is for a training step (budget/memory.py), hours for one H100 or H200 at that share
of its peak (vqa_lightning/budget/flops.py); neither is measured.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from experiment import CONFIGS, arguments
from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from rich.console import Console
from rich.table import Table

from datamodules.round_data import RoundDataModule
from vqa_lightning.budget.flops import step_flops, step_shape
from vqa_lightning.budget.memory import GB, estimate, training_hours
from vqa_lightning.budget.stand_in import write_stand_in
from vqa_lightning.lmm.sharding import build_on_meta
from vqa_lightning.training import RankingModule

RUNS = {
    "llava_onevision_7b": {},
    "llava_onevision_7b, lora": {"trained.parts": "lora"},
    "llava_onevision_7b, full, fsdp on 8": {"trained.parts": "full"},
    "llava_onevision_0.5b": {},
    "qwen3_vl_2b_lora": {},
    "smolvlm2_256m": {},
}
"""Rows: a config, and what is overridden in its model."""


class Parsed(LightningCLI):
    """The command line's parser, with nothing made of what it read."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse these words, whatever this process was started with."""
        self.config = parser.parse_args(args)

    def instantiate_classes(self) -> None:
        """Leave the instances to the caller."""


def modules(words: list[str], folder: Path) -> tuple[RankingModule, RoundDataModule]:
    """Return the modules of a configuration, its checkpoint replaced by a stand-in."""
    cli = Parsed(
        RankingModule,
        LightningDataModule,
        subclass_mode_data=True,
        run=False,
        auto_configure_optimizers=False,
        seed_everything_default=0,
        args=words,
    )
    config = cli.config.clone()
    published = config.model.lmm.pretrained.replace("-chat-", "-")  # tuned further, of the same sizes
    config.model.lmm.pretrained = str(write_stand_in(published, folder))
    config.model.lmm.motion_weights = None
    del config["trainer"]
    made = cli.parser.instantiate_classes(config)
    return made.model, made.data


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--height", type=int, default=1080)
    parser.add_argument("--width", type=int, default=1920)
    parser.add_argument("--pairs", type=int, default=500_000)
    parser.add_argument("--utilisation", type=float, default=0.4)
    given = parser.parse_args()
    table = Table("config", "weights, 10^9", "trained, 10^9", "pairs a step", title="Gigabytes on each GPU")
    for row, overrides in RUNS.items():
        words = ["--config", str(CONFIGS / f"{row.split(',')[0]}.yaml")]
        words += [f"--model.{key}={value}" for key, value in overrides.items()]
        with tempfile.TemporaryDirectory() as folder:
            module, data = modules(words, Path(folder))
            lmm = build_on_meta(partial(module.build_lmm, half=True, weights=False))
            shape = step_shape(lmm, module.step(data.batch_size, (given.height, given.width)))
        budget = estimate(
            lmm,
            shape,
            shards=8 if "fsdp" in row else 1,
        )
        flops = step_flops(lmm, shape).total
        hours = training_hours(flops, data.batch_size, of_pairs=given.pairs, utilisation=given.utilisation)
        if len(table.columns) == 4:
            for name in (*budget.parts(), "total", "hours"):
                table.add_column(name, justify="right")
        numbers = (
            sum(p.numel() for p in lmm.parameters()),
            sum(p.numel() for p in lmm.parameters() if p.requires_grad),
        )
        table.add_row(
            row,
            *(f"{number / 1e9:.3f}" for number in numbers),
            str(data.batch_size),
            *(f"{size / GB:.1f}" for size in (*budget.parts().values(), budget.total)),
            f"{hours:.0f}",
        )
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
