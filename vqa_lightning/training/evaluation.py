"""How pairs are judged and what their judgements cost, and how good both are on pairs not trained on.

Evaluation asks every pair in both orders, whatever training does. From the pairs of validation follows the
temperature of the level words.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.batches import PairBatch, VideoBatch
from datamodules.errors import InputError
from datamodules.labels import preference
from datamodules.round_data import RoundDataModule
from vqa_lightning.lmm import Clips, Judged
from vqa_lightning.losses import Losses, across_batch
from vqa_lightning.metrics.order_consistency import OrderConsistency
from vqa_lightning.metrics.pair_accuracy import PairAccuracy
from vqa_lightning.scoring import Judgement, Scoring, ScoringModule
from vqa_lightning.scoring.temperature import LevelTemperature
from vqa_lightning.training.schedule import Schedule


class JudgingModule(ScoringModule):
    """Judges pairs, and logs how good the judgements are.

    Args:
        judgements: what is trained.
        score_by: the judgement that scores, one of `judgements`.
        loss: of either judgement, and the weights of the sources.
        scoring: clips of a video, anchors and orders.

    Raises:
        InputError: `score_by` is not trained.
    """

    source_weight: Tensor

    def __init__(
        self, judgements: tuple[Judgement, ...], score_by: Judgement, loss: Losses, scoring: Scoring
    ) -> None:
        super().__init__(score_by, scoring)
        if score_by not in judgements:
            raise InputError(
                f"model.score_by must be one of model.judgements, {', '.join(judgements)}; got {score_by!r}: "
                "train what scores."
            )
        self.judgements = judgements
        self.pairwise_loss = loss.pairwise()
        self.pointwise_loss = loss.pointwise()
        self.across = loss.across
        self.register_buffer("source_weight", torch.tensor(loss.weights()), persistent=False)
        self.level_temperature = LevelTemperature()
        self.accuracy: dict[Judgement, PairAccuracy] = {}
        self.consistency = OrderConsistency()
        self.schedule = Schedule()

    @property
    def progress(self) -> float:
        """Share of the schedule's optimiser steps that are done, from 0 to 1."""
        return min(1.0, (self.global_step - self.schedule.first) / (self.schedule.steps or 1))

    def judge(self, clips: Clips, keys: Sequence[str] = (), *, both_orders: bool = True) -> Judged:
        """Judge pairs.

        Args:
            clips: (2 B, T, 3, H, W) in [0, 1], or 2 B clips that differ in size: all first sides, then all
                second ones (`PairBatch.sides`).
            keys: of the clips, where the features of some are kept (`PairBatch.keys`).
            both_orders: also ask for the first clip beside the second.
        """
        judged: Judged = self.lmm(
            clips,
            keys,
            pairwise="pairwise" in self.judgements,
            pointwise="pointwise" in self.judgements,
            both_orders=both_orders,
            entropy=self.pairwise_loss.needs_all_positions and self.training,
        )
        return judged

    def answers(self, batch: PairBatch, judged: Judged) -> dict[Judgement, tuple[Tensor, Tensor]]:
        """Return what each judgement says of pairs, over the orders that were asked.

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

    def losses(self, batch: PairBatch, judged: Judged) -> dict[Judgement, Tensor]:
        """Return the losses (B,) of the pairs by each trained judgement, over the orders that were asked."""
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
            by_pair = self.pointwise_loss(judged.scores[1] - judged.scores[0], batch)
            if self.across and self.training:
                beside = across_batch(judged.scores, batch)
                both = (by_pair + self.across * beside) / (1 + self.across)
                by_pair = torch.where(beside.isnan(), by_pair, both)
            losses["pointwise"] = by_pair
        return losses

    def weighted(self, by_pair: Tensor, batch: PairBatch) -> Tensor:
        """Return the mean of losses (B,), each weighted by the source of its pair's label."""
        return (by_pair * self.source_weight[batch.source]).mean()

    def new_accuracy(self) -> dict[Judgement, PairAccuracy]:
        """Return a metric for each trained judgement, over the simulators of the datamodule."""
        names = list(self.trainer.datamodule.simulators)  # type: ignore[attr-defined]
        return {judgement: PairAccuracy(names).to(self.device) for judgement in self.judgements}

    def _start_evaluation(self) -> None:
        self.accuracy = self.new_accuracy()
        self.consistency.reset()

    def _evaluate(self, batch: PairBatch, split: str) -> Judged:
        judged = self.judge(batch.sides(), batch.keys)
        loss = torch.stack([self.weighted(values, batch) for values in self.losses(batch, judged).values()])
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
        """Begin new metrics."""
        self._start_evaluation()
        self.level_temperature.reset()

    def validation_step(self, batch: PairBatch) -> None:
        """Judge pairs of the select split."""
        judged = self._evaluate(batch, "val")
        if judged.levels is not None:
            self.level_temperature.update(judged.levels, batch.levels)

    def on_validation_epoch_end(self) -> None:
        """Log `val/rank_accuracy`, `val/level_accuracy`, `val/ece` and the accuracies by simulator.

        These are the figures of `score_by`; the figures of another judgement bear its name at the end.
        `val/order_consistency` is how often both orders of asking prefer the same clip. From these pairs the
        temperature of the level words is fitted, for whatever follows.
        """
        self._finish_evaluation("val")
        if "pairwise" in self.judgements:
            self.temperature.copy_(self.level_temperature.compute())
            self.log("val/temperature", self.temperature, sync_dist=True)

    @property
    def _tests_pairs(self) -> bool:
        return isinstance(self.trainer.datamodule, RoundDataModule)  # type: ignore[attr-defined]

    def on_test_epoch_start(self) -> None:
        """Begin new metrics where pairs are tested, else prepare as for prediction."""
        if self._tests_pairs:
            self._start_evaluation()
        else:
            self.on_predict_start()

    def test_step(self, batch: PairBatch | VideoBatch) -> dict[str, Tensor] | None:
        """Judge pairs of the report split, or return `score` and `stderr` (V,) of scored videos."""
        if isinstance(batch, VideoBatch):
            score, stderr = self.predict_step(batch)
            return {"score": score, "stderr": stderr}
        self._evaluate(batch, "test")
        return None

    def on_test_epoch_end(self) -> None:
        """Log the metrics of validation under `test/`, where pairs are tested."""
        if self._tests_pairs:
            self._finish_evaluation("test")
        else:
            self.on_predict_end()
