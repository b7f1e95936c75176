"""The LightningModule: the LMM, the ranking losses of its judgements, and what turns its output into scores.

Both orders of every pair are asked in one batch. That gives two pairwise answers and, because the first
clip's last token has seen nothing else, a true pointwise score of either clip, for one pass of each clip
through the tower.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from datamodules.batches import PairBatch, VideoBatch
from datamodules.decoding import Sampling
from datamodules.errors import InputError
from datamodules.levels import preference
from datamodules.pairs import SOURCES
from vqa_lightning.lmm import LMM, LMMConfig
from vqa_lightning.losses import OrderedProbit, level_cross_entropy, margin_cross_entropy
from vqa_lightning.pair_accuracy import PairAccuracy
from vqa_lightning.scaling import map_scores
from vqa_lightning.schedule import CosineWithWarmup

Judgement = Literal["pairwise", "pointwise"]


class RankingModule(LightningModule):
    """Learns to rank pairs of clips and scores single ones.

    Args:
        lmm: which large multimodal model.
        sampling: how clips are cut from videos; the datamodule takes it from here.
        judgements: what is trained: pairwise (five level words), pointwise (a scalar a clip), or both.
        score_by: the judgement that annotates rounds and predicts.
        score_draws: clips of a video that its score is the mean of; their spread gives the standard error.
        anchors: videos that others are compared with when `score_by` is pairwise.
        optimizer: from named parameters to optimiser.
        lr_scheduler: from optimiser and the number of steps of the run to a schedule by step.
    """

    anchor_clips: Tensor
    anchor_matrix: Tensor
    scale: Tensor

    def __init__(
        self,
        lmm: LMMConfig = LMMConfig(),  # noqa: B008 - frozen, plain values
        sampling: Sampling = Sampling(frames=4, window=64),  # noqa: B008 - frozen, plain values
        judgements: tuple[Judgement, ...] = ("pairwise", "pointwise"),
        score_by: Judgement = "pointwise",
        score_draws: int = 4,
        anchors: int = 5,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: Callable[[torch.optim.Optimizer, int], LRScheduler] = CosineWithWarmup,
    ) -> None:
        super().__init__()
        if score_by not in judgements:
            raise InputError(
                f"model.score_by {score_by!r} is not among model.judgements {list(judgements)}: "
                "train what scores."
            )
        if sampling.window is None:
            raise InputError(
                "model.sampling.window is null: pairs are stacked, so give the side of a window in pixels."
            )
        if score_draws < 2 or anchors < 2:
            raise InputError(
                f"model.score_draws is {score_draws} and model.anchors {anchors}: both must be 2 or "
                "more, the one for a standard error, the other for a scale."
            )
        self.save_hyperparameters()
        self.lmm_config = lmm
        self.sampling = sampling
        self.judgements = judgements
        self.score_by = score_by
        self.score_draws = score_draws
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.ordered_probit = OrderedProbit(len(SOURCES))
        side = sampling.window
        frames = sampling.segments * sampling.frames
        self.register_buffer("anchor_clips", torch.zeros(anchors, frames, 3, side, side, dtype=torch.uint8))
        # Mean and deviation of raw scores over the training corpus, and the factor that calibrates standard
        # errors.
        self.register_buffer("scale", torch.tensor([0.0, 1.0, 1.0]))
        self.register_buffer("anchor_matrix", torch.full((anchors, anchors), 0.5))
        self.accuracy: dict[Judgement, PairAccuracy] = {}

    def configure_model(self) -> None:
        """Builds or loads the LMM, once, and freezes what the trained judgements never reach."""
        if "lmm" in self._modules:
            return
        self.lmm = LMM(self.lmm_config, self.sampling.frames)
        window = self.anchor_clips.shape[-1]
        if self.lmm.view == "crop" and window < self.lmm.image_size:
            raise InputError(
                f"model.sampling.window {window} is smaller than the {self.lmm.image_size} pixels that the "
                "tower crops: enlarge the window, or set model.lmm.view to resize."
            )
        if "pointwise" not in self.judgements:
            self.lmm.score_head.requires_grad_(False)
            self.ordered_probit.requires_grad_(False)

    def configure_optimizers(self) -> Any:
        """AdamW and a cosine by step unless configured otherwise."""
        optimizer = self.optimizer([(name, p) for name, p in self.named_parameters() if p.requires_grad])
        schedule = self.lr_scheduler(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def judge(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Judges pairs in both orders.

        Args:
            clips: (2, B, T, 3, H, W) in [0, 1].

        Returns:
            Level logits (2, B, 5), of the second clip beside the first and of the first beside the second,
            and pointwise scores (2, B) of the first and the second clips.
        """
        first, second = self.lmm.encode(clips.flatten(0, 1)).chunk(2)
        logits, scores = self.lmm.compare(torch.cat([first, second]), torch.cat([second, first]))
        return logits.view(2, -1, logits.shape[-1]), scores.view(2, -1)

    def _losses(self, batch: PairBatch, logits: Tensor, scores: Tensor) -> dict[str, Tensor]:
        losses = {}
        if "pairwise" in self.judgements:
            target = torch.stack([batch.levels, batch.levels.flip(-1)])
            losses["pairwise"] = level_cross_entropy(logits.flatten(0, 1), target.flatten(0, 1)).mean()
        if "pointwise" in self.judgements:
            difference = scores[1] - scores[0]
            by_level = -(batch.levels * self.ordered_probit(difference, batch.source)).sum(-1)
            by_margin = margin_cross_entropy(difference, batch.margin.nan_to_num())
            from_teacher = batch.source == SOURCES.index("teacher")
            losses["pointwise"] = torch.where(from_teacher, by_margin, by_level).mean()
        return losses

    def answers(
        self, batch: PairBatch, logits: Tensor, scores: Tensor
    ) -> dict[Judgement, tuple[Tensor, Tensor]]:
        """What each judgement says of the pairs that `judge` saw.

        Returns:
            For each trained judgement how far the second clip is preferred (B,), above 0 for yes, and the
            distributions over the levels (B, 5).
        """
        found: dict[Judgement, tuple[Tensor, Tensor]] = {}
        if "pairwise" in self.judgements:
            levels = (logits[0].softmax(-1) + logits[1].softmax(-1).flip(-1)) / 2
            found["pairwise"] = (preference(levels) - 0.5, levels)
        if "pointwise" in self.judgements:
            difference = scores[1] - scores[0]
            found["pointwise"] = (difference, self.ordered_probit(difference, batch.source).exp())
        return found

    def training_step(self, batch: PairBatch) -> dict[str, Tensor]:
        """Loss of one batch, and the rows of the round's pair table that `score_by` ranked wrongly."""
        logits, scores = self.judge(batch.clips)
        losses = self._losses(batch, logits, scores)
        loss = torch.stack(list(losses.values())).sum()
        self.log("train/loss", loss, prog_bar=True)
        self.log_dict({f"train/loss/{name}": value for name, value in losses.items()})
        difference, _ = self.answers(batch, logits.detach(), scores.detach())[self.score_by]
        ranked = batch.order() != 0
        wrong = ranked & (difference * batch.order() <= 0)
        if bool(ranked.any()):
            self.log("train/rank_accuracy", 1 - wrong.sum() / ranked.sum(), prog_bar=True)
        return {"loss": loss, "wrong": batch.row[wrong]}

    def new_accuracy(self) -> dict[Judgement, PairAccuracy]:
        """A metric for each trained judgement, over the simulators of the datamodule."""
        names = list(self.trainer.datamodule.simulators)  # type: ignore[attr-defined]
        return {judgement: PairAccuracy(names).to(self.device) for judgement in self.judgements}

    def _start_evaluation(self) -> None:
        self.accuracy = self.new_accuracy()

    def _evaluate(self, batch: PairBatch, split: str) -> None:
        logits, scores = self.judge(batch.clips)
        loss = torch.stack(list(self._losses(batch, logits, scores).values())).sum()
        self.log(f"{split}/loss", loss, batch_size=len(batch.row), sync_dist=True)
        for judgement, answer in self.answers(batch, logits, scores).items():
            self.accuracy[judgement].update(*answer, batch)

    def _finish_evaluation(self, split: str) -> None:
        for judgement, metric in self.accuracy.items():
            suffix = "" if judgement == self.score_by else f"/{judgement}"
            self.log_dict({f"{split}/{name}{suffix}": value for name, value in metric.compute().items()})

    def on_validation_epoch_start(self) -> None:
        """New metrics."""
        self._start_evaluation()

    def validation_step(self, batch: PairBatch) -> None:
        """Pairs of the select split."""
        self._evaluate(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Logs `val/rank_accuracy`, `val/level_accuracy` and both by simulator.

        They are those of `score_by`; another judgement's bear its name at the end.
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

    def set_scale(self, raw: npt.NDArray[np.float64], error_factor: float) -> None:
        """Takes the scale of published scores from the training corpus.

        Args:
            raw: (n,) raw scores of the training split's videos.
            error_factor: by which the spread over clips understates a score's standard error.
        """
        deviation = max(float(raw.std()), 1e-6)
        self.scale.copy_(torch.tensor([float(raw.mean()), deviation, error_factor]))

    @torch.no_grad()
    def set_anchors(self, clips: Tensor) -> None:
        """Takes the clips uint8 (anchors, T, 3, H, W) that scores are measured against from now on."""
        self.anchor_clips.copy_(clips)
        self.refresh_anchors()

    @torch.no_grad()
    def refresh_anchors(self) -> None:
        """Compares the anchors with each other under the present weights; needed before pairwise scores."""
        tokens = self.lmm.encode(self.anchor_clips.float() / 255)
        n = len(tokens)
        first, second = torch.triu_indices(n, n, offset=1, device=self.device)
        prefers_second = self._prefers_second(tokens[first], tokens[second])
        self.anchor_matrix[second, first] = prefers_second
        self.anchor_matrix[first, second] = 1 - prefers_second

    def _prefers_second(self, first: Tensor, second: Tensor) -> Tensor:
        """P(second preferred) (B,) from encoded clips, the mean over both orders."""
        logits, _ = self.lmm.compare(torch.cat([first, second]), torch.cat([second, first]))
        forward, backward = preference(logits.softmax(-1)).chunk(2)
        return (forward + 1 - backward) / 2

    def _against_anchors(self, tokens: Tensor) -> Tensor:
        """Scale values (B,) of encoded clips (B, L, D) among the anchors (METHOD section 5)."""
        anchors = self.lmm.encode(self.anchor_clips.float() / 255)
        n, batch = len(anchors), len(tokens)
        wins = self._prefers_second(anchors.repeat(batch, 1, 1), tokens.repeat_interleave(n, dim=0)).view(
            batch, n
        )
        matrix = self.anchor_matrix.new_zeros(batch, n + 1, n + 1)
        matrix[:, :n, :n] = self.anchor_matrix
        matrix[:, n, :n] = wins
        matrix[:, :n, n] = 1 - wins
        values, _ = map_scores(matrix)
        return values[:, n].to(tokens.dtype)

    @torch.no_grad()
    def rate(self, clips: Tensor) -> Tensor:
        """Raw scores (B,) of clips (B, T, 3, H, W) in [0, 1] by `score_by`, higher better."""
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
        clips = batch.clips.float() / 255
        return self.t_scores(self.rate(clips.flatten(0, 1)).view(clips.shape[:2]))
