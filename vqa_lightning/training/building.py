"""From settings to an LMM that is ready to be trained, and what can be known to be wrong before it is.

Built without memory first, a model tells of a context that is too short or a card that is too small before
teachers annotate, weights are read, or a run folder is made.
"""

from collections.abc import Sequence

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy

from datamodules.errors import InputError
from datamodules.video import Sampling
from datamodules.video.views import require_native
from datamodules.video_data import VideoDataModule
from vqa_lightning.budget.flops import step_shape
from vqa_lightning.budget.memory import check_context, check_fits, estimate
from vqa_lightning.lmm import LMM, LMMConfig, TrainedParts
from vqa_lightning.lmm.feature_cache import require_frozen
from vqa_lightning.lmm.trained_parts import hold, train_parts

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
"""Of the trainer: trained weights are float32 in all of them."""


def build_lmm(
    config: LMMConfig,
    sampling: Sampling,
    trained: TrainedParts,
    judgements: Sequence[str],
    *,
    half: bool = False,
    weights: bool = True,
) -> LMM:
    """Builds or loads an LMM with all frozen but what is to be trained.

    Args:
        config: which LMM.
        sampling: how clips are cut.
        trained: which parts.
        judgements: that are trained; what only another one reads is frozen.
        half: hold what is frozen in bfloat16.
        weights: False builds a published model without reading its weights.

    Raises:
        InputError: the LMM cannot be built, sees more pixels than a window has, or has nothing to train.
    """
    # In its own type first: what is trained goes on in float32 from just what was published.
    stored = half and config.pretrained is not None
    lmm = LMM(config, sampling, "auto" if stored else torch.float32, weights=weights)
    window = sampling.window
    if window is not None:
        require_native(lmm.view, window, lmm.family.size_for(window, window, len(lmm.seconds)))
    train_parts(lmm, trained)
    if "pointwise" not in judgements:
        lmm.score_head.requires_grad_(False)
    if "pairwise" not in judgements and lmm.family.head.weight is not lmm.model.get_input_embeddings().weight:
        lmm.family.head.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in lmm.parameters()):
        raise InputError(
            f"model.trained.parts {trained.parts} with model.judgements {list(judgements)} and no motion "
            "path trains nothing: choose other parts, or add pointwise."
        )
    hold(lmm, frozen=torch.bfloat16 if half else torch.float32)
    return lmm


def check_precision(precision: str) -> None:
    """Refuses a trainer's precision in which trained weights would not be float32.

    Raises:
        InputError: it is none of `PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise InputError(
            f"trainer.precision {precision} would train in too few digits: choose one of "
            f"{', '.join(PRECISIONS)}."
        )


def check_run(
    lmm: LMM,
    config: LMMConfig,
    trainer: Trainer,
    judgements: Sequence[str],
    *,
    both_orders: bool,
    all_positions: bool,
) -> None:
    """Refuses a run that would fail later.

    Args:
        lmm: from `build_lmm`; may be on the meta device.
        config: its settings.
        trainer: with the datamodule of the run, set up.
        judgements: that are trained.
        both_orders: whether pairs are asked in both orders.
        all_positions: whether the loss asks for the entropy at all positions.

    Raises:
        InputError: features are cached of what is trained, prompts are longer than the context, or a step
            needs more memory than the GPU has.
    """
    if config.feature_cache is not None:
        require_frozen(config.feature_cache, lmm.family.tower, lmm.family.projector)
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, VideoDataModule):
        return
    side = lmm.sampling.window
    frame = data.largest_frame if side is None else (side, side)
    pairwise, pointwise = ("pairwise" in judgements), ("pointwise" in judgements)
    shape = step_shape(
        lmm, data.batch_size, *frame, pairwise=pairwise, pointwise=pointwise, both_orders=both_orders
    )
    check_context(lmm, shape)
    device = trainer.strategy.root_device
    if device.type == "cuda":
        shards = trainer.world_size if isinstance(trainer.strategy, ModelParallelStrategy) else 1
        precision = str(trainer.precision)
        budget = estimate(lmm, shape, frame, precision=precision, shards=shards, all_positions=all_positions)
        check_fits(budget, torch.cuda.get_device_properties(device).total_memory)
