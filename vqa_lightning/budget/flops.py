"""Floating-point operations that a training step needs, counted from the modules' own shapes.

Needed is what the mathematics asks for: a token costs 2 N in the forward pass through N weights, 2 N more
where gradients pass through them and 2 N more where they are trained. What a run does besides, such as
computing activations again instead of keeping them, is no use of the card and is not counted, so that
utilisation compares runs that keep different things. Weights are never read: the meta device will do.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import ceil
from typing import Any, cast

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from datamodules.labels import LEVELS
from vqa_lightning.lmm import LMM
from vqa_lightning.lmm.motion import FrameDifferences, VideoBackbone
from vqa_lightning.lmm.quality_tower import QualityTower


@dataclass(frozen=True)
class Step:
    """One training step, as the settings of a run have it.

    Attributes:
        pairs: B of the step.
        frame: height and width of the frames as they are decoded, in pixels.
        judgements: that are trained, of pairwise and pointwise.
        both_orders: whether each pair is asked in both orders.
        all_positions: whether the loss asks for the next word's entropy at every position.
    """

    pairs: int
    frame: tuple[int, int]
    judgements: Sequence[str] = ("pairwise", "pointwise")
    both_orders: bool = True
    all_positions: bool = False


@dataclass(frozen=True)
class StepShape:
    """How much of everything one training step shows to a model.

    Attributes:
        step: the training step.
        pictures: of a clip, as the tower groups them; none where the tower is shown nothing.
        patches: of a picture; a patch attends to the patches of its own picture alone.
        asked: prompts in which levels are asked for; the first ones of `sequences`.
        sequences: tokens of every sequence that passes the language model.
    """

    step: Step
    pictures: int
    patches: int
    asked: int
    sequences: tuple[int, ...]

    @property
    def clips(self) -> int:
        """The clips of the step; every clip passes the tower once."""
        return 2 * self.step.pairs


@dataclass(frozen=True)
class StepFlops:
    """Operations of one training step, forward and backward; a multiplication and an addition are two.

    Attributes:
        tower: in the weights of the vision tower.
        projector: in the weights of the vision projector.
        quality: in the quality tower and its projector.
        motion: in the motion path.
        language_model: in the weights of the decoder, adapters included.
        heads: for level words and scores.
        attention: in the products of queries, keys and values; in a causal decoder half the square.
    """

    tower: int
    projector: int
    quality: int
    motion: int
    language_model: int
    heads: int
    attention: int

    @property
    def total(self) -> int:
        """All of them."""
        parts = (self.tower, self.projector, self.quality, self.motion, self.language_model, self.heads)
        return sum(parts) + self.attention


def step_shape(lmm: LMM, step: Step) -> StepShape:
    """Return what one training step on pairs of clips of one size shows to the model.

    Args:
        lmm: of any family; may be on the meta device.
        step: the training step.
    """
    size = lmm.family.size_for(*step.frame, len(lmm.seconds))
    opening, _, between, _, question = (len(ids) for ids in lmm.prompt_ids(size))
    block = lmm.clip_tokens(size)
    pairwise = "pairwise" in step.judgements
    asked = step.pairs * (1 + step.both_orders) if pairwise else 0
    # A clip that stands first in a prompt has its score from there.
    alone = 2 * step.pairs - asked if "pointwise" in step.judgements else 0
    time, *side = _patch(lmm)
    return StepShape(
        step=step,
        pictures=ceil(len(lmm.seconds) / time) if lmm.pictures else 0,
        patches=(size[0] // side[0]) * (size[1] // side[1]),
        asked=asked,
        sequences=(opening + 2 * block + between + question,) * asked + (opening + block,) * alone,
    )


def _patch(lmm: LMM) -> tuple[int, int, int]:
    """Return pictures, height and width that the tower's first convolution makes one patch of."""
    layers = lmm.family.tower.modules()
    kernel = next(layer.kernel_size for layer in layers if isinstance(layer, nn.Conv2d | nn.Conv3d))
    time, height, width = (1, *kernel)[-3:]
    return time, height, width


def step_flops(lmm: LMM, shape: StepShape) -> StepFlops:
    """Return the operations that a training step needs with what `requires_grad` says is trained now.

    A frozen part that passes gradients on costs 4 N a token, a trained one 6 N, a frozen one behind which
    nothing is trained 2 N; adapters are weights like others. That the first layer of all passes no gradient
    on is counted for the patches alone: it is one layer in dozens. Normalisations, activations, embeddings
    and class tokens are left out, as is usual (Kaplan et al. 2020, section 2.1).

    Args:
        lmm: whose parameters say what is trained; may be on the meta device.
        shape: of the step.
    """
    family = lmm.family
    patches = shape.clips * shape.pictures * shape.patches
    tokens = sum(shape.sequences)
    by_segment = [part for part in (lmm.quality_tower, lmm.motion) if part is not None]
    seen = [family.tower, family.projector, *by_segment]
    in_tower = is_trained(family.tower)
    in_decoder = any(is_trained(part) for part in (*seen, family.language_model))
    # Projectors may take several patches as one.
    merged = next(
        int(layer.in_features) for layer in family.projector.modules() if isinstance(layer, nn.Linear)
    )
    vision = cast(Any, family.tower).config
    tower_width = int(vision.hidden_size)
    square = 4 * patches * shape.patches * tower_width * int(vision.num_hidden_layers)
    layers = cast(Any, family.language_model).layers
    # The decoder's heads may be narrower or wider together than its hidden states.
    decoder_width = sum(int(layer.self_attn.o_proj.in_features) for layer in layers)
    triangle = sum(2 * length**2 for length in shape.sequences) * decoder_width

    words = shape.asked * len(LEVELS) + (tokens * family.head.out_features if shape.step.all_positions else 0)
    return StepFlops(
        tower=patches * _per_token(family.tower, passes=in_tower, without=family.projector),
        projector=patches * tower_width // merged * _per_token(family.projector, passes=in_tower),
        quality=0 if lmm.quality_tower is None else _quality_flops(lmm.quality_tower, lmm, shape),
        motion=0 if lmm.motion is None else _motion_flops(lmm.motion, shape.clips * lmm.sampling.segments),
        language_model=tokens * _per_token(family.language_model, passes=in_decoder),
        heads=words * family.head.in_features * _factor(family.head, in_decoder)
        + shape.clips * _per_token(lmm.score_head, passes=in_decoder),
        attention=square * (3 if in_tower else 1) + triangle * (3 if in_decoder else 1),
    )


def is_trained(part: nn.Module) -> bool:
    """Return whether any parameter of a part is trained."""
    return any(parameter.requires_grad for parameter in part.parameters())


def _factor(layer: nn.Linear | nn.Conv2d | nn.Conv3d, passes: bool) -> int:
    """Return operations a weight and token: the product, its input's gradient, its own gradient."""
    return 2 + 2 * passes + 2 * layer.weight.requires_grad


def _per_token(part: nn.Module, *, passes: bool, without: nn.Module | None = None) -> int:
    """Return operations a token in the matrices of a part; embeddings are looked up, not multiplied."""
    left_out: Iterable[nn.Module] = () if without is None else without.modules()
    skipped = {id(layer) for layer in left_out}
    count = 0
    for layer in part.modules():
        if id(layer) not in skipped and isinstance(layer, nn.Linear | nn.Conv2d | nn.Conv3d):
            # Pixels need no gradient.
            count += layer.weight.numel() * _factor(layer, passes and isinstance(layer, nn.Linear))
    return count


def _quality_flops(quality: QualityTower, lmm: LMM, shape: StepShape) -> int:
    tokens = shape.clips * lmm.sampling.segments
    frame = torch.empty(1, 3, *shape.step.frame, device="meta")
    # Convolutions have no cost a token: one frame is counted as it runs, on the meta device.
    with FlopCounterMode(display=False) as counter:
        deepcopy(quality.stages).to("meta")(frame)
    seen = len(quality.places) * int(counter.get_total_flops())
    return tokens * (seen + _per_token(quality.projector, passes=False))


def _motion_flops(motion: FrameDifferences | VideoBackbone, tokens: int) -> int:
    if isinstance(motion, FrameDifferences):
        return tokens * _per_token(motion.projector, passes=False)
    # Convolutions over time have no cost a token: they are counted as they run, on the meta device.
    backbone = deepcopy(motion.backbone).to("meta", torch.float32)
    clips = torch.empty(tokens, 3, motion.clip_frames, *motion.prepare.crop_size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(motion.trained):
        features = backbone(clips)
        if motion.trained:
            features.sum().backward()
    return int(counter.get_total_flops()) + tokens * _per_token(motion.projector, passes=motion.trained)
