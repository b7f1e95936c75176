"""The LightningModule: the LMM, the ranking losses of its judgements, and what turns its output into scores.

Both orders of a pair are asked in one batch. That gives two pairwise answers and, because the first clip's
last token has seen nothing else, a true pointwise score of either clip, for one pass of each clip through the
tower.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from datamodules.batches import PairBatch, VideoBatch
from datamodules.decoding import Sampling
from datamodules.errors import InputError
from datamodules.levels import preference
from datamodules.pairs import SOURCES
from vqa_lightning.building import build_lmm, check_precision, check_run
from vqa_lightning.checkpoints import ResumableModule
from vqa_lightning.defaults import default_optimizer, default_sampling, default_trained
from vqa_lightning.feature_cache import FeatureCache
from vqa_lightning.lmm import LMM, Clips, Judged, LMMConfig
from vqa_lightning.losses import LevelCrossEntropy, OrdinalThurstone, PairwiseLoss, PointwiseLoss
from vqa_lightning.order_consistency import OrderConsistency
from vqa_lightning.pair_accuracy import PairAccuracy
from vqa_lightning.scaling import map_scores
from vqa_lightning.schedule import CosineWithWarmup
from vqa_lightning.sharding import build_on_meta, build_sharded, shard
from vqa_lightning.tokens import Tokens, stack
from vqa_lightning.trained_parts import TrainedParts, parameter_groups, scale_rates

Judgement = Literal["pairwise", "pointwise"]


class RankingModule(ResumableModule):
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
        anchors: videos that others are compared with when `score_by` is pairwise.
        optimizer: from named parameters to optimiser; by default one that suits the model.
        lr_scheduler: from optimiser and the number of steps of the run to a schedule by step.
    """

    anchor_matrix: Tensor
    scale: Tensor
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
        anchors: int = 5,
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: Callable[[torch.optim.Optimizer, int], LRScheduler] = CosineWithWarmup,
    ) -> None:
        super().__init__()
        if score_by not in judgements:
            raise InputError(
                f"model.score_by {score_by!r} is not among model.judgements {list(judgements)}: "
                "train what scores."
            )
        if score_draws < 2 or anchors < 2:
            raise InputError(
                f"model.score_draws is {score_draws} and model.anchors {anchors}: both must be 2 or "
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
        self.score_by = score_by
        self.both_orders = both_orders
        self.score_draws = score_draws
        self.anchors = anchors
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.pairwise_loss = pairwise_loss()
        self.pointwise_loss = pointwise_loss()
        weights = [(source_weights or {}).get(source, 1.0) for source in SOURCES]
        self.register_buffer("source_weight", torch.tensor(weights), persistent=False)
        self.anchor_clips: list[Tensor] = []
        """uint8 (T, 3, H, W) each, on the host; none where `score_by` compares with none."""
        self._anchor_tokens: Tokens | None = None
        # Mean and deviation of raw scores over the training corpus, and the factor that calibrates standard
        # errors.
        self.register_buffer("scale", torch.tensor([0.0, 1.0, 1.0]))
        self.register_buffer("anchor_matrix", torch.full((anchors, anchors), 0.5))
        self.accuracy: dict[Judgement, PairAccuracy] = {}
        self.consistency = OrderConsistency()
        self.total_steps = 1

    def prepare_data(self) -> None:
        """Before a fit: builds the LMM without memory, to see what is wrong before anything takes long.

        Raises:
            InputError: the model cannot be built or trained as configured, or does not fit the context or
                the device.
        """
        if self.trainer.state.fn != TrainerFn.FITTING:
            return
        check_precision(str(self.trainer.precision))
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
        self.total_steps = int(self.trainer.estimated_stepping_batches)
        schedule = self.lr_scheduler(optimizer, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

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

    def _losses(self, batch: PairBatch, judged: Judged) -> dict[str, Tensor]:
        losses = {}
        weight = self.source_weight[batch.source]
        if judged.levels is not None:
            orders = len(judged.levels)
            target = torch.stack([batch.levels, batch.levels.flip(-1)][:orders])
            by_pair = self.pairwise_loss(
                judged.levels.flatten(0, 1),
                target.flatten(0, 1),
                progress=self.progress,
                entropy=None if judged.entropy is None else judged.entropy.flatten(),
            )
            losses["pairwise"] = (by_pair.view(orders, -1) * weight).mean()
        if judged.scores is not None:
            by_pair = self.pointwise_loss(judged.scores[1] - judged.scores[0], batch)
            losses["pointwise"] = (by_pair * weight).mean()
        return losses

    @property
    def progress(self) -> float:
        """Share of the run's optimiser steps that are done, from 0 to 1."""
        return min(1.0, self.global_step / self.total_steps)

    def answers(self, batch: PairBatch, judged: Judged) -> dict[Judgement, tuple[Tensor, Tensor]]:
        """What each judgement says of pairs, over the orders that were asked.

        Returns:
            For each trained judgement how far the second clip is preferred (B,), above 0 for yes, and the
            distributions over the levels (B, 5).
        """
        found: dict[Judgement, tuple[Tensor, Tensor]] = {}
        if judged.levels is not None:
            levels = judged.levels[0].softmax(-1)
            if len(judged.levels) == 2:
                levels = (levels + judged.levels[1].softmax(-1).flip(-1)) / 2
            found["pairwise"] = (preference(levels) - 0.5, levels)
        if judged.scores is not None:
            difference = judged.scores[1] - judged.scores[0]
            found["pointwise"] = (difference, self.pointwise_loss.log_levels(difference, batch.source).exp())
        return found

    def training_step(self, batch: PairBatch) -> dict[str, Tensor]:
        """Loss of one batch, and which of its pairs (B,) `score_by` ranked wrongly."""
        self._anchor_tokens = None  # of other weights, soon
        judged = self.judge(batch.sides(), both_orders=self.both_orders)
        losses = self._losses(batch, judged)
        loss = torch.stack(list(losses.values())).sum()
        pairs = len(batch.row)
        self.log("train/loss", loss, prog_bar=True, batch_size=pairs)
        self.log_dict({f"train/loss/{name}": value for name, value in losses.items()}, batch_size=pairs)
        with torch.no_grad():
            difference, _ = self.answers(batch, judged)[self.score_by]
        order = batch.order()
        ranked, agreed = order != 0, (difference * order).sign()
        # Not a number where no pair is ranked: to ask would make the host wait for the device.
        accuracy = ((1 + agreed) / 2 * ranked).sum() / ranked.sum()
        self.log("train/rank_accuracy", accuracy, prog_bar=True, batch_size=pairs)
        return {"loss": loss, "wrong": ranked & (agreed <= 0)}

    def new_accuracy(self) -> dict[Judgement, PairAccuracy]:
        """A metric for each trained judgement, over the simulators of the datamodule."""
        names = list(self.trainer.datamodule.simulators)  # type: ignore[attr-defined]
        return {judgement: PairAccuracy(names).to(self.device) for judgement in self.judgements}

    def _start_evaluation(self) -> None:
        self.accuracy = self.new_accuracy()
        self.consistency.reset()

    def _evaluate(self, batch: PairBatch, split: str) -> None:
        judged = self.judge(batch.sides())
        loss = torch.stack(list(self._losses(batch, judged).values())).sum()
        self.log(f"{split}/loss", loss, batch_size=len(batch.row), sync_dist=True)
        for judgement, answer in self.answers(batch, judged).items():
            self.accuracy[judgement].update(*answer, batch)
        if judged.levels is not None:
            self.consistency.update(*judged.levels.softmax(-1))

    def _finish_evaluation(self, split: str) -> None:
        for judgement, metric in self.accuracy.items():
            suffix = "" if judgement == self.score_by else f"/{judgement}"
            self.log_dict({f"{split}/{name}{suffix}": value for name, value in metric.compute().items()})
        if "pairwise" in self.judgements:
            self.log(f"{split}/order_consistency", self.consistency.compute())

    def on_validation_epoch_start(self) -> None:
        """New metrics."""
        self._start_evaluation()

    def validation_step(self, batch: PairBatch) -> None:
        """Pairs of the select split."""
        self._evaluate(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Logs `val/rank_accuracy`, `val/level_accuracy`, `val/ece` and the accuracies by simulator.

        They are those of `score_by`; another judgement's bear its name at the end. `val/order_consistency` is
        how often both orders of asking prefer the same clip.
        """
        self._finish_evaluation("val")

    def on_test_epoch_start(self) -> None:
        """New metrics."""
        self._start_evaluation()

    def test_step(self, batch: PairBatch) -> None:
        """Pairs of the report split."""
        self._evaluate(batch, "test")

    def on_test_epoch_end(self) -> None:
        """Logs the same metrics as validation under `test/`."""
        self._finish_evaluation("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the anchors' frames to what is trained."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["anchors"] = self.anchor_clips

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes up the anchors' frames after what was trained."""
        super().on_load_checkpoint(checkpoint)
        self.anchor_clips = checkpoint["anchors"]

    def set_scale(self, raw: npt.NDArray[np.float64], error_factor: float) -> None:
        """Takes the scale of published scores from the training corpus.

        Args:
            raw: (n,) raw scores of the training split's videos.
            error_factor: by which the spread over clips understates a score's standard error.
        """
        deviation = max(float(raw.std()), 1e-6)
        self.scale.copy_(torch.tensor([float(raw.mean()), deviation, error_factor]))

    @torch.no_grad()
    def set_anchors(self, clips: Sequence[Tensor]) -> None:
        """Takes the clips uint8 (T, 3, H, W) that scores are measured against from now on."""
        self.anchor_clips = [clip.cpu() for clip in clips]
        self.refresh_anchors()

    def _encode_anchors(self) -> Tokens:
        """One after the other: as floats a few whole frames would fill the memory."""
        if self._anchor_tokens is None:
            clips = (clip[None].to(self.device).float() / 255 for clip in self.anchor_clips)
            self._anchor_tokens = stack([self.lmm.encode(clip) for clip in clips])
        return self._anchor_tokens

    @torch.no_grad()
    def refresh_anchors(self) -> None:
        """Compares the anchors with each other under the present weights; needed before pairwise scores."""
        self._anchor_tokens = None
        tokens = self._encode_anchors()
        first, second = torch.triu_indices(self.anchors, self.anchors, offset=1).tolist()
        prefers_second = self._prefers_second(tokens.take(first), tokens.take(second))
        self.anchor_matrix[second, first] = prefers_second
        self.anchor_matrix[first, second] = 1 - prefers_second

    def _prefers_second(self, first: Tokens, second: Tokens) -> Tensor:
        """P(second preferred) (B,) of encoded clips, the mean over both orders."""
        logits, _, _ = self.lmm.compare(stack([first, second]), stack([second, first]))
        forward, backward = preference(logits.softmax(-1)).chunk(2)
        return (forward + 1 - backward) / 2

    def _against_anchors(self, tokens: Tokens) -> Tensor:
        """Scale values (B,) of encoded clips among the anchors (METHOD section 5)."""
        anchors = self._encode_anchors()
        n, batch = len(anchors), len(tokens)
        wins = self._prefers_second(
            anchors.take(list(range(n)) * batch), tokens.take([row for row in range(batch) for _ in range(n)])
        ).view(batch, n)
        matrix = self.anchor_matrix.new_zeros(batch, n + 1, n + 1)
        matrix[:, :n, :n] = self.anchor_matrix
        matrix[:, n, :n] = wins
        matrix[:, :n, n] = 1 - wins
        values, _ = map_scores(matrix)
        return values[:, n].to(wins.dtype)

    @torch.no_grad()
    def rate(self, clips: Clips) -> Tensor:
        """Raw scores (B,) of clips (B, T, 3, H, W) in [0, 1], or of B that differ in size, higher better."""
        tokens = self.lmm.encode(clips)
        return self.lmm.score(tokens) if self.score_by == "pointwise" else self._against_anchors(tokens)

    def t_scores(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Turns raw scores of several clips of each video into the published score.

        Args:
            raw: (V, n), from `rate`, n at least 2.

        Returns:
            Scores (V,), 50 the middle of the training corpus and 10 its standard deviation, and standard
            errors (V,).
        """
        middle, deviation, factor = self.scale
        error = raw.std(dim=1) / raw.shape[1] ** 0.5
        return 50 + 10 * (raw.mean(dim=1) - middle) / deviation, 10 * factor * error / deviation

    def predict_step(self, batch: VideoBatch) -> tuple[Tensor, Tensor]:
        """Scores (V,) and standard errors (V,) of the batch's readable videos."""
        if not batch.rows:
            return self.scale.new_empty(0), self.scale.new_empty(0)
        if self.sampling.window is None:  # as floats a few whole frames would fill the memory
            raw = torch.cat([self.rate(clip[None].float() / 255) for clip in batch.clips.flatten(0, 1)])
        else:
            raw = self.rate(batch.clips.flatten(0, 1).float() / 255)
        return self.t_scores(raw.view(len(batch.rows), -1))
