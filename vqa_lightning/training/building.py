"""From settings to an LMM that is ready to be trained, and checks of a run before it begins.

A model is first built without memory: a context that is too short, or a card that is too small, is then told
of before teachers annotate, weights are read, or a run folder is made.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy

from datamodules.checks import check_choice, check_that
from datamodules.errors import InputError
from datamodules.video import Sampling
from datamodules.video.views import require_native
from vqa_lightning.budget.flops import Step, step_shape
from vqa_lightning.budget.memory import check_context, check_fits, estimate
from vqa_lightning.lmm import LMM, LMMConfig, TrainedParts
from vqa_lightning.lmm.feature_cache import MEMORY, FeatureCache, FeatureMemory, require_frozen
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
    """Build or load an LMM with everything frozen but what is to be trained.

    Args:
        config: which LMM.
        sampling: how clips are cut.
        trained: which parts.
        judgements: that are trained; parameters that only another judgement reads are frozen.
        half: hold frozen parameters in bfloat16.
        weights: False builds a published model without reading its weights.

    Raises:
        InputError: the LMM cannot be built, sees more pixels than a window has, or has nothing to train.
    """
    # In the stored type first: trained weights go on in float32 from the very weights that were published.
    stored = half and config.pretrained is not None
    lmm = LMM(config, sampling, "auto" if stored else torch.float32, weights=weights)
    window = sampling.window
    if window is not None and lmm.pictures:
        require_native(lmm.view, window, lmm.family.size_for(window, window, len(lmm.seconds)))
    train_parts(lmm, trained)
    if "pointwise" not in judgements:
        lmm.score_head.requires_grad_(False)
    if "pairwise" not in judgements and lmm.family.head.weight is not lmm.model.get_input_embeddings().weight:
        lmm.family.head.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in lmm.parameters()):
        raise InputError(
            f"model.trained.parts {trained.parts} with model.judgements {list(judgements)} and neither "
            "a motion path nor a quality tower trains nothing: choose other parts, or add pointwise."
        )
    hold(lmm, frozen=torch.bfloat16 if half else torch.float32)
    return lmm


def check_features(lmm: LMM, config: LMMConfig) -> None:
    """Refuse a cache of features that no frozen tower makes.

    Args:
        lmm: from `build_lmm`; may be on the meta device.
        config: of the LMM.

    Raises:
        InputError: a folder is named and the family's tower is trained, or the memory is and there is no
            quality tower.
    """
    if config.feature_cache == MEMORY:
        check_that(
            lmm.quality_tower is not None,
            "model.lmm.feature_cache",
            "null or a folder where model.lmm.quality_tower is null",
            MEMORY,
        )
    elif config.feature_cache is not None and lmm.pictures:
        require_frozen(config.feature_cache, lmm.family.tower, lmm.family.projector)


def keep_features(lmm: LMM, config: LMMConfig) -> None:
    """Give an LMM's frozen towers the cache of features that its config asks for.

    Args:
        lmm: from `build_lmm`; changed in place.
        config: of the LMM.

    Raises:
        InputError: as `check_features`, or the folder cannot be written to.
    """
    check_features(lmm, config)
    if config.feature_cache is None:
        return
    quality, gigabytes = lmm.quality_tower, config.feature_cache_gb
    if config.feature_cache == MEMORY:
        assert quality is not None
        quality.cache = FeatureMemory(gigabytes, quality.stages)
        return
    folder = Path(config.feature_cache)
    if lmm.pictures:
        lmm.cache = FeatureCache(folder, gigabytes, lmm.family.tower, lmm.family.projector)
    if quality is not None:
        quality.cache = FeatureCache(folder, gigabytes, quality.stages)


def check_precision(precision: str) -> None:
    """Refuse a trainer's precision in which trained weights would not be float32.

    Raises:
        InputError: the precision is none of `PRECISIONS`.
    """
    check_choice("trainer.precision", precision, PRECISIONS)


def check_step(lmm: LMM, step: Step, trainer: Trainer) -> None:
    """Refuse a run whose training steps would fail.

    Args:
        lmm: from `build_lmm`; may be on the meta device.
        step: a training step of the run.
        trainer: of the run.

    Raises:
        InputError: prompts are longer than the context, or a step needs more memory than the GPU has.
    """
    shape = step_shape(lmm, step)
    check_context(lmm, shape)
    device = trainer.strategy.root_device
    if device.type == "cuda":
        shards = trainer.world_size if isinstance(trainer.strategy, ModelParallelStrategy) else 1
        budget = estimate(lmm, shape, precision=str(trainer.precision), shards=shards)
        check_fits(budget, torch.cuda.get_device_properties(device).total_memory)
