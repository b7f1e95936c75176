"""The LightningModule: the LMM and the ranking losses of its judgements.

Both orders of a pair are asked in one batch. That gives two pairwise answers and, because the first clip's
last token has seen nothing else, a true pointwise score of either clip, for one pass of each clip through the
tower.
"""

from collections.abc import Callable
from math import ceil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from datamodules.batches import PairBatch, VideoBatch
from datamodules.errors import InputError
from datamodules.labels import preference
from datamodules.pairs import SOURCES
from datamodules.round_data import RoundDataModule
from datamodules.video import Sampling
from vqa_lightning.checkpoints.resumable import start_from
from vqa_lightning.lmm import LMM, Clips, Judged, LMMConfig, TrainedParts
from vqa_lightning.lmm.feature_cache import FeatureCache
from vqa_lightning.lmm.sharding import build_on_meta, build_sharded, shard
from vqa_lightning.losses import LevelCrossEntropy, OrdinalThurstone, PairwiseLoss, PointwiseLoss
from vqa_lightning.metrics.order_consistency import OrderConsistency
from vqa_lightning.metrics.pair_accuracy import PairAccuracy
from vqa_lightning.scoring import Judgement, ScoringModule
from vqa_lightning.scoring.temperature import LevelTemperature
from vqa_lightning.training.building import build_lmm, check_precision, check_run
from vqa_lightning.training.defaults import default_optimizer, default_sampling, default_trained
from vqa_lightning.training.epoch_ends import end_epoch_again
from vqa_lightning.training.finite_steps import DroppedSteps, drop_unless_finite
from vqa_lightning.training.parameter_groups import parameter_groups, scale_rates
from vqa_lightning.training.schedule import CosineWithWarmup, Schedule


class RankingModule(ScoringModule):
    """Learns to rank pairs of clips and scores single ones.

    Args:
        lmm: which large multimodal model.
        sampling: how clips are cut from videos; the datamodule takes it from here. By default four frames of
            a small window for the embedded model, eight whole frames for a published one.
        trained: which parameters are trained; by default all of the embedded model, and adapters (LoRA) of a
            published one.
        judgements: what is trained: pairwise (five level words), pointwise (a scalar a clip), or both.
        score_by: the judgement that annotates rounds and predicts.
        both_orders: whether training asks a pair in both orders or in its own only; evaluation asks both.
        pairwise_loss: on the logits of the level words.
        pointwise_loss: on the difference of the scores.
        source_weights: by which the losses of pairs are multiplied, by the source of their label
            (`synthetic`, `teacher`, `reference`, `human`); 1 where nothing is given.
        score_draws: clips of a video that its score is the mean of; their spread gives the standard error.
        score_both_orders: whether a pairwise score asks with the clip first too, and not only with the anchor
            first.
        anchors: videos that others are compared with when `score_by` is pairwise: how many of the train
            split, or files.
        optimizer: from named parameters to optimiser; by default one that suits the model.
        lr_scheduler: from optimiser and the number of steps of the run to a schedule by step.
        init_from: a .ckpt whose weights a run begins with.
    """

    source_weight: Tensor

    def __init__(
        self,
        lmm: LMMConfig = LMMConfig(),  # noqa: B008 - frozen, plain values
        sampling: Sampling | None = None,
        trained: TrainedParts | None = None,
        judgements: tuple[Judgement, ...] = ("pairwise", "pointwise"),
        score_by: Judgement = "pointwise",
        both_orders: bool = True,
        pairwise_loss: Callable[[], PairwiseLoss] = LevelCrossEntropy,
        pointwise_loss: Callable[[], PointwiseLoss] = OrdinalThurstone,
        source_weights: dict[str, float] | None = None,
        score_draws: int = 4,
        score_both_orders: bool = True,
        anchors: int | list[str] = 5,
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: Callable[[torch.optim.Optimizer, int], LRScheduler] = CosineWithWarmup,
        init_from: str | None = None,
    ) -> None:
        count = anchors if isinstance(anchors, int) else len(anchors)
        super().__init__(score_by, count, both_orders=score_both_orders)
        if score_by not in judgements:
            raise InputError(
                f"model.score_by {score_by!r} is not among model.judgements {list(judgements)}: "
                "train what scores."
            )
        if score_draws < 2 or count < 2:
            raise InputError(
                f"model.score_draws is {score_draws} and model.anchors {count}: both must be 2 or "
                "more, the one for a standard error, the other for a scale."
            )
        for source, weight in (source_weights or {}).items():
            if source not in SOURCES or not weight >= 0:
                raise InputError(
                    f"model.source_weights has {source}: {weight}; give 0 or more to any of "
                    f"{', '.join(SOURCES)}."
                )
        self.save_hyperparameters()
        self.lmm_config = lmm
        self.sampling = default_sampling(lmm) if sampling is None else sampling
        self.trained = default_trained(lmm) if trained is None else trained
        self.judgements = judgements
        self.both_orders = both_orders
        self.score_draws = score_draws
        self.anchor_files = None if isinstance(anchors, int) else anchors
        self.init_from = init_from
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.pairwise_loss = pairwise_loss()
        self.pointwise_loss = pointwise_loss()
        weights = [(source_weights or {}).get(source, 1.0) for source in SOURCES]
        self.register_buffer("source_weight", torch.tensor(weights), persistent=False)
        self.level_temperature = LevelTemperature()
        self.accuracy: dict[Judgement, PairAccuracy] = {}
        self.consistency = OrderConsistency()
        self.dropped = DroppedSteps()
        self.schedule = Schedule()

    def prepare_data(self) -> None:
        """Checks the precision; before a fit builds the LMM without memory, to see early what is wrong.

        Raises:
            InputError: the model cannot be built or trained as configured, or does not fit the context or
                the device.
        """
        check_precision(self.precision)
        if self.trainer.state.fn != TrainerFn.FITTING:
            return
        with torch.random.fork_rng(devices=[]):
            check_run(
                build_on_meta(lambda: self._build(weights=False)),
                self.lmm_config,
                self.trainer,
                self.judgements,
                both_orders=self.both_orders,
                all_positions=self.pairwise_loss.needs_all_positions,
            )

    def configure_model(self) -> None:
        """Builds or loads the LMM, once, with what is not to be trained frozen.

        Under `ModelParallelStrategy` each process ends up with its share of the parameters.
        """
        if "lmm" in self._modules:
            return
        trainer = self._trainer
        if trainer is not None and isinstance(trainer.strategy, ModelParallelStrategy):
            mesh = trainer.strategy.device_mesh["data_parallel"]
            half = torch.bfloat16 if self._half else None
            self.lmm = build_sharded(lambda weights: self._build(weights=weights), mesh, half)
            # Its cuts would be summed over no one's gradients, and no norm is taken over both kinds.
            shard(self.pointwise_loss, mesh, methods=("log_levels",))
        else:
            self.lmm = self._build()
        if "pointwise" not in self.judgements:
            self.pointwise_loss.requires_grad_(False)
        lmm = self.lmm_config
        begins = trainer is not None and trainer.state.fn == TrainerFn.FITTING and trainer.ckpt_path is None
        if self.init_from is not None and begins:
            start_from(self, Path(self.init_from))
        if lmm.feature_cache is not None:
            parts = self.lmm.family.tower, self.lmm.family.projector
            self.lmm.cache = FeatureCache(Path(lmm.feature_cache), lmm.feature_cache_gb, *parts)

    @property
    def _half(self) -> bool:
        return self._trainer is not None and self._trainer.precision == "bf16-mixed"

    def _build(self, *, weights: bool = True) -> LMM:
        return build_lmm(
            self.lmm_config, self.sampling, self.trained, self.judgements, half=self._half, weights=weights
        )

    @property
    def drawn(self) -> tuple[str, ...]:
        """Beginnings of the names of parameters whose first values were drawn at random."""
        lmm = self.lmm_config
        if lmm.pretrained is None:
            return ("lmm.", "pointwise_loss.")
        own = ("lmm.score_head.", "pointwise_loss.")
        return own if lmm.motion is None or lmm.motion_weights is not None else (*own, "lmm.motion.")

    def configure_optimizers(self) -> Any:
        """What suits the model and a cosine by step, unless configured otherwise."""
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

    def judge(self, clips: Clips, *, both_orders: bool = True) -> Judged:
        """Judges pairs.

        Args:
            clips: (2 B, T, 3, H, W) in [0, 1], or 2 B clips that differ in size: all first sides, then all
                second ones (`PairBatch.sides`).
            both_orders: whether the second beside the first only, or the first beside the second too.
        """
        judged: Judged = self.lmm(
            clips,
            pairwise="pairwise" in self.judgements,
            pointwise="pointwise" in self.judgements,
            both_orders=both_orders,
            entropy=self.pairwise_loss.needs_all_positions and self.training,
        )
        return judged

    def _losses(self, batch: PairBatch, judged: Judged) -> dict[Judgement, Tensor]:
        """Of each trained judgement the losses (B,) of the pairs, over the orders that were asked."""
        losses: dict[Judgement, Tensor] = {}
        if judged.levels is not None:
            orders = len(judged.levels)
            target = torch.stack([batch.levels, batch.levels.flip(-1)][:orders])
            by_pair = self.pairwise_loss(
                judged.levels.flatten(0, 1),
                target.flatten(0, 1),
                progress=self.progress,
                entropy=None if judged.entropy is None else judged.entropy.flatten(),
            )
            losses["pairwise"] = by_pair.view(orders, -1).mean(dim=0)
        if judged.scores is not None:
            losses["pointwise"] = self.pointwise_loss(judged.scores[1] - judged.scores[0], batch)
        return losses

    def _weighted(self, by_pair: Tensor, batch: PairBatch) -> Tensor:
        return (by_pair * self.source_weight[batch.source]).mean()

    @property
    def progress(self) -> float:
        """Share of the schedule's optimiser steps that are done, from 0 to 1."""
        return min(1.0, (self.global_step - self.schedule.first) / (self.schedule.steps or 1))

    def answers(self, batch: PairBatch, judged: Judged) -> dict[Judgement, tuple[Tensor, Tensor]]:
        """What each judgement says of pairs, over the orders that were asked.

        Returns:
            For each trained judgement how far the second clip is preferred (B,), above 0 for yes, and the
            distributions over the levels (B, 5).
        """
        found: dict[Judgement, tuple[Tensor, Tensor]] = {}
        if judged.levels is not None:
            levels, *swapped = self.levels(judged.levels)
            if swapped:
                levels = (levels + swapped[0].flip(-1)) / 2
            found["pairwise"] = (preference(levels) - 0.5, levels)
        if judged.scores is not None:
            difference = judged.scores[1] - judged.scores[0]
            found["pointwise"] = (difference, self.pointwise_loss.log_levels(difference, batch.source).exp())
        return found

    def training_step(self, batch: PairBatch) -> dict[str, Tensor]:
        """Loss of one batch, and what was said of its pairs.

        Returns:
            `loss`, and `answers` (B, 3) float32 with the columns `datamodules.pairs.hard.ANSWERS`: how far
            the right side is preferred by `score_by` (nan for pairs without an order), the pair's loss,
            summed over the judgements and not weighted (inf where it is not finite), and the largest
            probability among the levels that `score_by` predicts.
        """
        self.anchors.forget()
        self.scale_current = False
        judged = self.judge(batch.sides(), both_orders=self.both_orders)
        by_pair = self._losses(batch, judged)
        losses = {name: self._weighted(values, batch) for name, values in by_pair.items()}
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
        """Drops the step unless all gradients are finite; logs `train/dropped_steps`, how many it dropped."""
        self.dropped.count(drop_unless_finite(optimizer))
        self.log("train/dropped_steps", self.dropped.total.float())

    def on_train_batch_end(self, outputs: Any, batch: PairBatch, batch_idx: int) -> None:
        """Stops a run whose steps are all dropped.

        Raises:
            InputError: they were, `finite_steps.PATIENCE` times in a row or a whole epoch long.
        """
        steps = ceil((batch_idx + 1) / self.trainer.accumulate_grad_batches)
        self.dropped.check(steps, last=self.trainer.is_last_batch)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes up what the checkpoint holds; an epoch that it was saved at the end of is ended anew."""
        super().on_load_checkpoint(checkpoint)
        if self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING:
            end_epoch_again(checkpoint["loops"])

    def new_accuracy(self) -> dict[Judgement, PairAccuracy]:
        """A metric for each trained judgement, over the simulators of the datamodule."""
        names = list(self.trainer.datamodule.simulators)  # type: ignore[attr-defined]
        return {judgement: PairAccuracy(names).to(self.device) for judgement in self.judgements}

    def _start_evaluation(self) -> None:
        self.accuracy = self.new_accuracy()
        self.consistency.reset()

    def _evaluate(self, batch: PairBatch, split: str) -> Judged:
        judged = self.judge(batch.sides())
        loss = torch.stack([self._weighted(values, batch) for values in self._losses(batch, judged).values()])
        self.log(f"{split}/loss", loss.sum(), batch_size=len(batch.row), sync_dist=True)
        for judgement, answer in self.answers(batch, judged).items():
            self.accuracy[judgement].update(*answer, batch)
        if judged.levels is not None:
            self.consistency.update(*judged.levels.softmax(-1))
        return judged

    def _finish_evaluation(self, split: str) -> None:
        for judgement, metric in self.accuracy.items():
            suffix = "" if judgement == self.score_by else f"/{judgement}"
            found = {f"{split}/{name}{suffix}": value for name, value in metric.compute().items()}
            self.log_dict(found, sync_dist=True)
        if "pairwise" in self.judgements:
            self.log(f"{split}/order_consistency", self.consistency.compute(), sync_dist=True)

    def on_validation_epoch_start(self) -> None:
        """New metrics."""
        self._start_evaluation()
        self.level_temperature.reset()

    def validation_step(self, batch: PairBatch) -> None:
        """Pairs of the select split."""
        judged = self._evaluate(batch, "val")
        if judged.levels is not None:
            self.level_temperature.update(judged.levels, batch.levels)

    def on_validation_epoch_end(self) -> None:
        """Logs `val/rank_accuracy`, `val/level_accuracy`, `val/ece` and the accuracies by simulator.

        They are those of `score_by`; another judgement's bear its name at the end. `val/order_consistency` is
        how often both orders of asking prefer the same clip. From these pairs the temperature of the level
        words is fitted, for what follows.
        """
        self._finish_evaluation("val")
        if "pairwise" in self.judgements:
            self.temperature.copy_(self.level_temperature.compute())
            self.log("val/temperature", self.temperature, sync_dist=True)

    @property
    def _tests_pairs(self) -> bool:
        return isinstance(self.trainer.datamodule, RoundDataModule)  # type: ignore[attr-defined]

    def on_test_epoch_start(self) -> None:
        """New metrics where pairs are tested, else as for prediction."""
        if self._tests_pairs:
            self._start_evaluation()
        else:
            self.on_predict_start()

    def test_step(self, batch: PairBatch | VideoBatch) -> dict[str, Tensor] | None:
        """Pairs of the report split; of videos that people have scored, `score` and `stderr` (V,)."""
        if isinstance(batch, VideoBatch):
            score, stderr = self.predict_step(batch)
            return {"score": score, "stderr": stderr}
        self._evaluate(batch, "test")
        return None

    def on_test_epoch_end(self) -> None:
        """Logs the same metrics as validation under `test/`, where pairs are tested."""
        if self._tests_pairs:
            self._finish_evaluation("test")
        else:
            self.on_predict_end()
