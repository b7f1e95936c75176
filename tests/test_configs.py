"""Every shipped config, through the command line's own parser, its model built of the published sizes."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml  # type: ignore[import-untyped]
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning_utilities.core.rank_zero import rank_zero_only
from torch.nn import Parameter
from torch.optim import AdamW

from datamodules.round_data import RoundDataModule
from vqa_lightning.budget.flops import step_shape
from vqa_lightning.budget.memory import GB, Budget, estimate
from vqa_lightning.budget.stand_in import write_stand_in
from vqa_lightning.checkpoints.resuming import KEPT
from vqa_lightning.lmm import LMMConfig, TrainedParts
from vqa_lightning.lmm.sharding import build_on_meta
from vqa_lightning.training import RankingModule
from vqa_lightning.training.defaults import default_optimizer

CONFIGS = Path(__file__).parents[1] / "configs"
OVERLAYS = ("fsdp", "slurm")
WITHOUT_LMM = ("round", "finetune", *OVERLAYS)
MODELS = [path.stem for path in sorted(CONFIGS.glob("*.yaml")) if path.stem not in WITHOUT_LMM]
CARDS = {"llava_onevision_7b": 80, "llava_onevision_0.5b": 24, "qwen3_vl_2b_lora": 24, "smolvlm2_256m": 16}
"""Gigabytes of the GPU that a config's header asks for."""


class Parsed(LightningCLI):
    """The parser, with nothing made of what it read."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses these words, whatever this process was started with."""
        self.config = parser.parse_args(args)

    def instantiate_classes(self) -> None:
        """Left to the test."""


def parse(*configs: str, words: tuple[str, ...] = ()) -> Parsed:
    flags = [word for config in configs for word in ("--config", str(CONFIGS / f"{config}.yaml"))]
    return Parsed(
        RankingModule,
        LightningDataModule,
        subclass_mode_data=True,
        run=False,
        auto_configure_optimizers=False,
        seed_everything_default=0,
        args=[*flags, *words],
    )


def modules(cli: Parsed, folder: Path) -> tuple[RankingModule, RoundDataModule]:
    """Model and data, of a checkpoint without weights in place of the published one."""
    config = cli.config.clone()
    published = config.model.lmm.pretrained.replace("-chat-", "-")  # tuned further, of the same sizes
    config.model.lmm.pretrained = str(write_stand_in(published, folder))
    config.model.lmm.motion_weights = None
    del config["trainer"]
    made = cli.parser.instantiate_classes(config)
    return made.model, made.data


def budget(module: RankingModule, data: RoundDataModule, **settings: Any) -> Budget:
    """Of a step on 1080p, on the meta device."""
    lmm = build_on_meta(lambda: module.build_lmm(half=True, weights=False))
    return estimate(lmm, step_shape(lmm, module.step(data.batch_size, (1080, 1920))), **settings)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore:.*instantiate_classes", "ignore:.*random weights")
def test_a_model_config_makes_its_model_and_fits_the_card_of_its_header(name: str, tmp_path: Path) -> None:
    header = (CONFIGS / f"{name}.yaml").read_text().split("\n\n")[0]
    module, data = modules(parse(name), tmp_path)
    needed = budget(module, data).total / GB
    assert f"one {CARDS[name]}-GB GPU" in header
    assert f"takes {needed:.0f} GB" in header
    assert needed < CARDS[name]


@pytest.mark.filterwarnings("ignore:.*instantiate_classes", "ignore:.*random weights")
@pytest.mark.parametrize("parts", ["paper", "lora"])
def test_7b_fits_one_card_of_80_gb(parts: str, tmp_path: Path) -> None:
    cli = parse("llava_onevision_7b", words=(f"--model.trained.parts={parts}",))
    assert budget(*modules(cli, tmp_path)).total < 80 * GB


@pytest.mark.filterwarnings("ignore:.*instantiate_classes", "ignore:.*random weights")
def test_7b_as_a_whole_fits_only_when_shared_out(tmp_path: Path) -> None:
    cli = parse("llava_onevision_7b", "fsdp", words=("--model.trained.parts=full",))
    module, data = modules(cli, tmp_path)
    assert budget(module, data).total > 80 * GB
    shards = cli.config.trainer.strategy.init_args.data_parallel_size
    header = (CONFIGS / "fsdp.yaml").read_text()
    assert f"takes {budget(module, data, shards=shards).total / GB:.0f} GB" in header


def test_the_papers_recipe_is_the_papers(tmp_path: Path) -> None:
    config = parse("llava_onevision_7b").config
    model, trainer = config.model, config.trainer
    assert config.data.init_args.batch_size * trainer.accumulate_grad_batches == 8
    optimizer = model.optimizer.init_args
    assert model.optimizer.class_path == "torch.optim.AdamW"
    assert issubclass(AdamW, torch.optim.Optimizer)
    assert optimizer.lr == 1e-5
    assert optimizer.lr * model.trained.tower_lr == pytest.approx(2e-6)
    assert model.lr_scheduler.init_args.warmup == 0.03
    assert (model.lmm.prompt, model.trained.parts, list(model.judgements)) == ("paper", "paper", ["pairwise"])
    assert not model.both_orders


def test_finetuning_takes_the_model_from_its_checkpoint_and_changes_it_slowly() -> None:
    cli = parse("finetune")
    written = yaml.safe_load((CONFIGS / "finetune.yaml").read_text())
    assert written["model"].keys().isdisjoint(KEPT)
    steps = cli.parser.instantiate_classes(cli.config).model.optimizer(
        [("matrix", Parameter(torch.zeros(9, 9)))]
    )
    before = default_optimizer(LMMConfig(), TrainedParts(), [("matrix", Parameter(torch.zeros(9, 9)))])
    assert steps.param_groups[0]["lr"] < before.param_groups[0]["lr"]
    data = cli.config.data.init_args
    assert min(data.counts.human, data.counts.synthetic, data.counts.teacher) > 0


def test_fsdp_shares_data_and_model_over_all_gpus() -> None:
    cli = parse("llava_onevision_7b", "fsdp", words=("--trainer.accelerator=cpu",))
    config = cli.config.trainer
    assert config.strategy.init_args.data_parallel_size == config.devices * config.num_nodes
    strategy = cli.parser.instantiate_classes(cli.config).trainer.strategy
    assert isinstance(strategy, ModelParallelStrategy)


def test_slurm_is_told_of_by_srun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NTASKS": 16, "NTASKS_PER_NODE": 8, "PROCID": 9, "LOCALID": 1, "NODEID": 1}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # the strategy sets it, for all that comes after
    cli = parse("llava_onevision_7b", "slurm", words=("--trainer.accelerator=cpu",))
    settings = vars(cli.parser.instantiate_classes(cli.config).trainer)
    trainer = Trainer(**{**settings, "logger": False, "callbacks": []})
    assert isinstance(trainer.strategy.cluster_environment, SLURMEnvironment)
    assert (trainer.world_size, trainer.global_rank) == (16, 9)
