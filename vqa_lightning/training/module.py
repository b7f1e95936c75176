"""The LightningModule: an LMM, and how it is built and trained on pairs.

Both orders of a pair are asked in one batch. That gives two pairwise answers and, because the first clip's
last token has seen nothing else, a true pointwise score of either clip, for one pass of each clip through the
tower.
"""

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from datamodules.batches import PairBatch
from datamodules.round_data import RoundDataModule
from datamodules.video import Sampling
from datamodules.video_data import VideoDataModule
from vqa_lightning.budget.flops import Step
from vqa_lightning.checkpoints.resumable import start_from
from vqa_lightning.families import FAMILIES
from vqa_lightning.lmm import LMM, LMMConfig, TrainedParts
from vqa_lightning.lmm.sharding import build_on_meta, build_sharded, shard
from vqa_lightning.losses import Losses
from vqa_lightning.scoring import Judgement, Scoring
from vqa_lightning.training.building import (
    build_lmm,
    check_features,
    check_precision,
    check_step,
    keep_features,
)
from vqa_lightning.training.defaults import default_optimizer, default_sampling, default_trained
from vqa_lightning.training.epoch_ends import end_epoch_again
from vqa_lightning.training.evaluation import JudgingModule
from vqa_lightning.training.finite_steps import DroppedSteps, drop_unless_finite
from vqa_lightning.training.parameter_groups import parameter_groups, scale_rates
from vqa_lightning.training.schedule import CosineWithWarmup


class RankingModule(JudgingModule):
    """Learns to rank pairs of clips and scores single clips.

    Args:
        lmm: which large multimodal model.
        sampling: how clips are cut from videos; the datamodule takes it from here. By default four frames of
            a small window for the embedded model, eight whole frames for a published one.
        trained: which parameters are trained; by default all of the embedded model, and adapters (LoRA) of a
            published one.
        judgements: what is trained: pairwise (five level words), pointwise (a scalar a clip), or both.
        score_by: the judgement that annotates rounds and predicts.
        both_orders: whether training asks a pair in both orders or in its own only; evaluation asks both.
        loss: the loss of each judgement, and how much the pairs of each source count.
        scoring: clips of a video that its score is the mean of, and the anchors of pairwise scores.
        optimizer: from named parameters to optimiser; by default one that suits the model.
        lr_scheduler: from optimiser and the number of steps of the run to a schedule by step.
        init_from: a .ckpt whose weights a run begins with.

    Raises:
        InputError: `score_by` is not trained.
    """

    def __init__(
        self,
        lmm: LMMConfig = LMMConfig(),  # noqa: B008 - frozen, plain values
        sampling: Sampling | None = None,
        trained: TrainedParts | None = None,
        judgements: tuple[Judgement, ...] = ("pairwise", "pointwise"),
        score_by: Judgement = "pointwise",
        both_orders: bool = True,
        loss: Losses = Losses(),  # noqa: B008 - frozen
        scoring: Scoring = Scoring(),  # noqa: B008 - frozen
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: Callable[[torch.optim.Optimizer, int], LRScheduler] = CosineWithWarmup,
        init_from: str | None = None,
    ) -> None:
        super().__init__(judgements, score_by, loss, scoring)
        self.save_hyperparameters()
        self.lmm_config = lmm
        self.sampling = default_sampling(lmm) if sampling is None else sampling
        self.trained = default_trained(lmm) if trained is None else trained
        self.both_orders = both_orders
        self.init_from = init_from
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.dropped = DroppedSteps()

    @property
    def score_sampling(self) -> Sampling:
        """How clips are cut that are scored."""
        return replace(self.sampling, window=None) if self.scoring.whole else self.sampling

    @property
    def _fits(self) -> bool:
        return self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING

    def prepare_data(self) -> None:
        """Check the precision; before a fit build the LMM without memory, to see early what is wrong.

        Raises:
            InputError: the model cannot be built or trained as configured, or does not fit the context or
                the device.
        """
        check_precision(self.precision)
        if not self._fits:
            return
        with torch.random.fork_rng(devices=[]):
            lmm = build_on_meta(lambda: self.build_lmm(half=self._half, weights=False))
            check_features(lmm, self.lmm_config)
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            if isinstance(data, VideoDataModule):
                side = self.sampling.window
                frame = data.largest_frame if side is None else (side, side)
                check_step(lmm, self.step(data.batch_size, frame), self.trainer)

    def step(self, pairs: int, frame: tuple[int, int]) -> Step:
        """Return a training step on pairs of frames (height, width) as these settings have it."""
        everywhere = self.pairwise_loss.needs_all_positions
        return Step(pairs, frame, self.judgements, self.both_orders, everywhere)

    def configure_model(self) -> None:
        """Build or load the LMM, once, with what is not to be trained frozen.

        Under `ModelParallelStrategy` each process ends up with its share of the parameters.
        """
        if "lmm" in self._modules:
            return
        trainer = self._trainer
        if trainer is not None and isinstance(trainer.strategy, ModelParallelStrategy):
            mesh = trainer.strategy.device_mesh["data_parallel"]
            half = torch.bfloat16 if self._half else None
            self.lmm = build_sharded(
                lambda weights: self.build_lmm(half=self._half, weights=weights), mesh, half
            )
            # Its cuts would be summed over no one's gradients, and no norm is taken over both kinds.
            shard(self.pointwise_loss, mesh, methods=("log_levels",))
        else:
            self.lmm = self.build_lmm(half=self._half)
        if "pointwise" not in self.judgements:
            self.pointwise_loss.requires_grad_(False)
        if self.init_from is not None and self._fits and self.trainer.ckpt_path is None:
            start_from(self, Path(self.init_from))
        keep_features(self.lmm, self.lmm_config)
        if self._fits and isinstance(data := self.trainer.datamodule, RoundDataModule):  # type: ignore[attr-defined]
            # What was seen before there was a model is the same to it.
            self.lmm.seen = data.seen = (data.seen or self.lmm.seen) if self.lmm.seen is not None else None

    @property
    def _half(self) -> bool:
        return self._trainer is not None and self._trainer.precision == "bf16-mixed"

    def build_lmm(self, *, half: bool, weights: bool = True) -> LMM:
        """Build or load the LMM of these settings, as `building.build_lmm` does."""
        settings = self.lmm_config, self.sampling, self.trained, self.judgements
        return build_lmm(*settings, half=half, weights=weights)

    @property
    def drawn(self) -> tuple[str, ...]:
        """Beginnings of the names of parameters that clips pass and whose first values were random."""
        lmm = self.lmm_config
        if lmm.pretrained is None and lmm.pictures:
            return ("lmm.", "pointwise_loss.")
        if lmm.pretrained is None:  # the tower is passed by nothing
            decoder = f"lmm.model.{FAMILIES[lmm.embedded.family].decoder_path}."
            heads = "lmm.model.lm_head.", "lmm.score_head.", "lmm.quality_tower.", "lmm.motion."
            return (decoder, *heads, "pointwise_loss.")
        own = ("lmm.score_head.", "pointwise_loss.")
        return own if lmm.motion is None or lmm.motion_weights is not None else (*own, "lmm.motion.")

    def configure_optimizers(self) -> Any:
        """Return an optimiser that suits the model and a cosine by step, unless configured otherwise."""
        params = parameter_groups(self, self.trained)
        if self.optimizer is None:
            optimizer = default_optimizer(self.lmm_config, self.trained, params)
        else:
            optimizer = self.optimizer(params)
        scale_rates(optimizer)
        if self.schedule.steps is None:
            self.schedule.steps = int(self.trainer.estimated_stepping_batches)
        rates = self.lr_scheduler(optimizer, self.schedule.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rates, "interval": "step"}}

    def training_step(self, batch: PairBatch) -> dict[str, Tensor]:
        """Return the loss of one batch, and what the model says of its pairs.

        Returns:
            `loss`, and `answers` (B, 3) float32 with the columns `datamodules.pairs.ANSWERS`: how far
            the right side is preferred by `score_by` (nan for pairs without an order), the pair's loss,
            summed over the judgements and not weighted (inf where it is not finite), and the largest
            probability among the levels that `score_by` predicts.
        """
        self.anchors.forget()
        self.scale_current = False
        judged = self.judge(batch.sides(), batch.keys, both_orders=self.both_orders)
        by_pair = self.losses(batch, judged)
        losses = {name: self.weighted(values, batch) for name, values in by_pair.items()}
        loss = torch.stack(list(losses.values())).sum()
        pairs = len(batch.row)
        self.log("train/loss", loss, prog_bar=True, batch_size=pairs)
        self.log_dict({f"train/loss/{name}": value for name, value in losses.items()}, batch_size=pairs)
        with torch.no_grad():
            difference, levels = self.answers(batch, judged)[self.score_by]
            order = batch.order()
            advantage = torch.where(order == 0, torch.nan, difference * order)
            cost = torch.stack(list(by_pair.values())).sum(dim=0)
            cost = torch.where(cost.isfinite(), cost, torch.inf)
            answers = torch.stack([advantage, cost, levels.amax(dim=-1)], dim=1).float()
        ranked, agreed = order != 0, (difference * order).sign()
        # Not a number where no pair is ranked: to ask would make the host wait for the device.
        accuracy = ((1 + agreed) / 2 * ranked).sum() / ranked.sum()
        self.log("train/rank_accuracy", accuracy, prog_bar=True, batch_size=pairs)
        return {"loss": loss, "answers": answers}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Drop the step unless all gradients are finite, and log the number of dropped steps."""
        self.dropped.count(drop_unless_finite(optimizer))
        self.log("train/dropped_steps", self.dropped.total.float())

    def on_train_batch_end(self, outputs: Any, batch: PairBatch, batch_idx: int) -> None:
        """Stop a run whose steps are all dropped.

        Raises:
            InputError: `finite_steps.PATIENCE` steps in a row were dropped, or all steps of an epoch.
        """
        steps = ceil((batch_idx + 1) / self.trainer.accumulate_grad_batches)
        self.dropped.check(steps, last=self.trainer.is_last_batch)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what the checkpoint holds, and end anew the epoch at whose end it was saved."""
        super().on_load_checkpoint(checkpoint)
        if self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING:
            end_epoch_again(checkpoint["loops"])
