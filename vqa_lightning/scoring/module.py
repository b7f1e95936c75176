"""From a trained model's judgements to scores on a published scale, with standard errors.

Every video is scored by itself, its clips as one batch: a score is the same to the bit whatever else is asked
for, in whichever order, by however many processes.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor

from datamodules.batches import VideoBatch
from datamodules.errors import InputError
from datamodules.labels import preference
from vqa_lightning.checkpoints import ResumableModule
from vqa_lightning.lmm import LMM
from vqa_lightning.lmm.sharding import gathered
from vqa_lightning.scoring.anchors import Anchors
from vqa_lightning.scoring.calibration import ErrorModel
from vqa_lightning.scoring.settings import Judgement, Scoring

CHUNK_BYTES = 2**29
"""Of clips as floats that the tower is shown at a time."""


class ScoringModule(ResumableModule):
    """An LMM with what its scores are measured by, all of which lies in its checkpoint.

    Args:
        score_by: the judgement that scores.
        scoring: clips of a video, anchors and orders.
    """

    lmm: LMM
    scale: Tensor
    quantiles: Tensor
    temperature: Tensor

    def __init__(self, score_by: Judgement, scoring: Scoring) -> None:
        super().__init__()
        self.score_by = score_by
        self.scoring = scoring
        self.anchors = Anchors(scoring.count)
        # Mean and deviation of raw scores over the training corpus; factor and floor of their errors.
        self.register_buffer("scale", torch.tensor([0.0, 1.0, 1.0, 0.0]))
        # Published scores of the training corpus below which 0 to 100 % of it lie; all alike: not known.
        self.register_buffer("quantiles", torch.zeros(101))
        self.scale_current = True
        """Whether scale and anchors' matrix are of the present weights: no step was taken since."""
        # Of the level words, so that they are as sure as they are right.
        self.register_buffer("temperature", torch.tensor(1.0))

    @property
    def precision(self) -> str:
        """That of the Trainer; without one full."""
        return "32-true" if self._trainer is None else str(self._trainer.precision)

    def levels(self, logits: Tensor) -> Tensor:
        """Return distributions (..., 5) over the levels from their words' logits, at the temperature."""
        return (logits / self.temperature).softmax(-1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the anchors' frames to what is trained."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["anchors"] = self.anchors.clips
        checkpoint["scale_current"] = self.scale_current

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the anchors' frames after what was trained.

        Raises:
            InputError: scores need anchors, and the checkpoint has another number of them.
        """
        super().on_load_checkpoint(checkpoint)
        if self.score_by == "pairwise" and len(checkpoint["anchors"]) != self.anchors.count:
            raise InputError(
                f"a checkpoint for model.score_by pairwise must hold {self.anchors.count} anchors; got "
                f"{len(checkpoint['anchors'])}: give a checkpoint of a run that scored by comparisons."
            )
        self.anchors.choose(checkpoint["anchors"])
        self.scale_current = checkpoint["scale_current"]
        if not self.scale_current and (self._trainer is None or not self._trainer.training):
            rank_zero_warn(
                "The checkpoint was saved within a round: its scores are on the scale of the round before. "
                "Take a checkpoint from the end of a round to compare scores."
            )

    def set_scale(self, raw: npt.NDArray[np.float64], errors: ErrorModel) -> None:
        """Take the scale of published scores from the training corpus.

        Args:
            raw: (n,) raw scores of the training split's videos.
            errors: from the spread over a video's clips to a raw score's standard error.
        """
        deviation = max(float(raw.std()), 1e-6)
        self.scale.copy_(torch.tensor([float(raw.mean()), deviation, *errors]))
        published = 50 + 10 * (raw - raw.mean()) / deviation
        self.quantiles.copy_(torch.from_numpy(np.quantile(published, np.linspace(0, 1, 101))).float())
        self.scale_current = True

    @torch.no_grad()
    def set_anchors(self, clips: Sequence[Tensor]) -> None:
        """Take the clips uint8 (T, 3, H, W) that scores are measured against from now on."""
        self.anchors.choose(clips)
        self.refresh_anchors()

    def refresh_anchors(self) -> None:
        """Compare the anchors with each other under the present weights; needed before pairwise scores."""
        self.anchors.compare(self.lmm, self._preference)

    def _preference(self, logits: Tensor) -> Tensor:
        return preference(self.levels(logits))

    @torch.no_grad()
    def rate(self, clips: Tensor) -> Tensor:
        """Return raw scores of clips.

        Args:
            clips: (B, T, 3, H, W) in [0, 1], or uint8 where the LMM `takes_bytes`.

        Returns:
            (B,), higher better. A pairwise score in both orders is their mean: an effect of a clip's place in
            the prompt is no spread between clips.
        """
        tokens = self.lmm.encode(clips)
        if self.score_by == "pointwise":
            return self.lmm.score(tokens)
        values = self.anchors.scale_values(
            self.lmm, tokens, self._preference, both_orders=self.scoring.both_orders
        )
        return values.mean(dim=1)

    def rate_video(self, clips: Tensor) -> Tensor:
        """Return raw scores (n,) of the clips of one video, uint8 (n, T, 3, H, W), a few clips at a time.

        No other video has any part in them: a score is the same to the bit whatever else is scored.
        """
        few = max(1, CHUNK_BYTES // (4 * clips[0].numel()))
        chunks = (chunk.to(self.device) for chunk in torch.split(clips, few))
        return torch.cat([self.rate(chunk if self.lmm.takes_bytes else chunk / 255) for chunk in chunks])

    def t_scores(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Turn raw scores of several clips of each video into the published score.

        Args:
            raw: (V, n), from `rate`, n at least 2.

        Returns:
            Scores (V,), 50 the middle of the training corpus and 10 its standard deviation, and standard
            errors (V,).
        """
        return self.published(raw.mean(dim=1), raw.std(dim=1) / raw.shape[1] ** 0.5)

    def t_scores_together(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Turn raw scores of clips at the same places, of encodes of one content, into published scores.

        Args:
            raw: (..., E, n), as in `t_scores` but on the CPU; NaN where an encode cannot be read.

        Returns:
            Scores (..., E), and the covariance (..., E, E) of their errors, float64. On its diagonal are the
            squares of the standard errors of `t_scores`; beside it is what clips at one place share. The
            floor is each encode's own: it was fitted to versions of one source.
        """
        scores, _ = self.published(raw.mean(dim=-1), raw.new_zeros(()))
        _, deviation, factor, floor = self.scale.cpu().double()
        raw = raw.cpu().double()
        apart = raw - raw.mean(dim=-1, keepdim=True)
        count = raw.shape[-1]
        shared = factor**2 * apart @ apart.mT / (count * (count - 1))
        own = floor**2 * torch.eye(raw.shape[-2], dtype=shared.dtype)
        return scores, (shared + own) * (10 / deviation) ** 2

    def published(self, score: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores and standard errors on the published scale, from raw scores and their spreads."""
        middle, deviation, factor, floor = self.scale.to(score.device)
        return 50 + 10 * (score - middle) / deviation, 10 * torch.hypot(factor * spread, floor) / deviation

    def percentiles(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return what share of the training corpus lies below published scores, in per cent.

        Args:
            scores: any shape.

        Returns:
            The same shape, 0 to 100; NaN for NaN, and from checkpoints that were saved without the corpus.
        """
        known = self.quantiles.cpu().double().numpy()
        found: npt.NDArray[np.float64] = np.interp(scores, known, np.linspace(0, 100, len(known)))
        return np.where(np.isnan(scores) | (known[0] == known[-1]), np.nan, found)

    def on_predict_start(self) -> None:
        """Let each process hold the whole of a sharded model: processes score unequal shares."""
        self._whole = ExitStack()
        self._whole.enter_context(gathered(self.lmm))

    def on_predict_end(self) -> None:
        """Let go of what is another process's."""
        self._whole.close()

    def predict_step(self, batch: VideoBatch) -> tuple[Tensor, Tensor]:
        """Return scores (V,) and standard errors (V,) of the batch's readable videos."""
        if not batch.rows:
            return self.scale.new_empty(0), self.scale.new_empty(0)
        return self.t_scores(torch.stack([self.rate_video(clips) for clips in batch.clips]))
