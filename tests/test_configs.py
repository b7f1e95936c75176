"""Every shipped config, through the command line's own parser, its model built of the published sizes."""

from functools import reduce
from operator import getitem
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


PAPER: dict[str, object] = {
    # METHOD section 1: pairs
    "data.counts.synthetic": 250_000,
    "data.counts.teacher": 250_000,
    "data.counts.reference": 0,
    "data.counts.human": 0,
    # section 2: hard labels of equally weighted teachers
    "data.labelling.teacher_weights": "equal",
    "data.labelling.blur": 0.0,
    "data.labelling.smoothing": 0.0,
    "data.labelling.min_confidence": 0.0,
    # section 3: one simulator a pair
    "data.drawing.composed": 0.0,
    "data.drawing.imported": None,
    "data.simulators": [
        *(
            "resize",
            "gaussian_blur",
            "gaussian_noise",
            "darken",
            "brighten",
            "jitter",
            "stutter",
            "h264",
            "h265",
        )
    ],
    # section 4: model, loss and optimiser
    "model.lmm.pretrained": "llava-hf/llava-onevision-qwen2-7b-ov-chat-hf",
    "model.lmm.prompt": "paper",
    "model.lmm.view": "resize",
    "model.lmm.motion": "slowfast_r50_fast",
    "model.lmm.motion_trained": False,
    "model.lmm.quality_tower": None,
    "model.lmm.pictures": True,
    "model.lmm.checkpointing": True,
    "model.sampling.segments": 8,
    "model.sampling.frames": 32,
    "model.sampling.spacing": 1.0,
    "model.sampling.window": None,
    "model.trained.parts": "paper",
    "model.judgements": ("pairwise",),
    "model.both_orders": False,
    "model.loss.pairwise.class_path": "vqa_lightning.losses.ConfidenceCrossEntropy",
    "model.loss.pairwise.init_args": {
        "entropy": "all",
        "warmup": 0.1,
        "start": 0.5,
        "end": 0.1,
        "hard": True,
    },
    "model.loss.across": 0.0,
    "model.optimizer.class_path": "torch.optim.AdamW",
    "model.optimizer.init_args.lr": 1e-5,
    "model.lr_scheduler.class_path": "vqa_lightning.CosineWithWarmup",
    "model.lr_scheduler.init_args.warmup": 0.03,
    "trainer.devices": 8,
    "trainer.precision": "bf16-mixed",
    "trainer.max_epochs": 3,
    "data.batch_size": 1,
    "trainer.accumulate_grad_batches": 1,
    # section 5: a score
    "model.score_by": "pairwise",
    "model.scoring.anchors": 5,
    "model.scoring.both_orders": False,
    # section 6: rounds
    "SelfImprovement.epochs_per_round": 1,
    "SelfImprovement.relabel": "replace",
    "SelfImprovement.restart": "base",
    "SelfImprovement.patience": None,
    "data.later.union": True,
    "data.later.hard.share": 1.0,
    "data.later.hard.rule": "gmad",
}
"""Setting -> what the paper or, where the paper is silent, its released code has."""


def test_the_papers_recipe_has_the_papers_numbers() -> None:
    written = parse("llava_onevision_7b").config.as_dict()
    callbacks = {
        one["class_path"].split(".")[-1]: one.get("init_args") for one in written["trainer"]["callbacks"]
    }
    written |= callbacks | {"data": written["data"]["init_args"]}
    assert {setting: reduce(getitem, setting.split("."), written) for setting in PAPER} == PAPER


@pytest.mark.filterwarnings("ignore:.*instantiate_classes", "ignore:.*random weights")
def test_the_papers_recipe_draws_the_papers_pairs(tmp_path: Path) -> None:
    _, data = modules(parse("llava_onevision_7b"), tmp_path)
    spatial = ("resize", "gaussian_blur", "gaussian_noise", "darken", "brighten")
    kinds = {"spatial": spatial, "temporal": ("jitter", "stutter"), "codec": ("h264", "h265")}
    for round, synthetic in enumerate(((160_000, 40_000, 50_000), *[(5000, 5000, 5000)] * 2)):
        each = data.counts.synthetic_drawn(round, data.later, data.simulators)
        assert each is not None
        assert tuple(sum(map(each.__getitem__, names)) for names in kinds.values()) == synthetic
        assert data.counts.drawn("teacher", round, data.later) == (250_000, 85_000, 85_000)[round]
        assert data.counts.total(round, data.later) == (500_000, 600_000, 700_000)[round]
    levels = {name: simulator.levels for name, simulator in data.simulators.items()}
    assert levels == {
        "resize": (2, 3, 4, 8, 16),
        "gaussian_blur": (0.1, 0.5, 1, 2, 5),
        "gaussian_noise": (0.001, 0.002, 0.003, 0.005, 0.01),
        "darken": (0.05, 0.1, 0.2, 0.4, 0.8),
        "brighten": (0.1, 0.2, 0.4, 0.7, 1.1),
        "jitter": levels["jitter"],  # the paper has three of either, and gives none
        "stutter": levels["stutter"],
        "h264": (24, 36, 48, 63),
        "h265": (36, 40, 44, 48),
    }
    assert (len(levels["jitter"]), len(levels["stutter"])) == (3, 3)


@pytest.mark.filterwarnings("ignore:.*instantiate_classes", "ignore:.*random weights")
def test_the_papers_recipe_trains_the_tower_and_both_projectors(tmp_path: Path) -> None:
    module, data = modules(parse("llava_onevision_7b"), tmp_path)
    lmm = build_on_meta(lambda: module.build_lmm(half=True, weights=False))
    trained = {name for name, parameter in lmm.named_parameters() if parameter.requires_grad}
    tower, projector, motion = (
        {name for name, _ in lmm.named_parameters() if part in name}
        for part in ("vision_tower.", "multi_modal_projector.", "motion.projector.")
    )
    assert trained - tower == projector | motion | {name for name in trained if "newline" in name}
    assert trained & tower
    (tokens,) = step_shape(lmm, module.step(data.batch_size, (540, 960))).sequences
    # Of either video 196 tokens a frame, a newline and 8 motion tokens; the rest is text.
    assert 0 < tokens - 2 * (8 * 196 + 1 + 8) < 150


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
