"""The memory that a training step needs on a GPU, computed before the run from shapes alone.

Weights and the states of training are exact; activations are counted by the layer, scores of attention never
being kept. The LMM may be on the meta device: a card that is too small is told of before anything is loaded.
"""

from dataclasses import dataclass, fields
from math import prod
from typing import Any, cast

from torch import nn

from datamodules.errors import InputError
from vqa_lightning.budget.flops import StepShape, is_trained
from vqa_lightning.lmm import LMM
from vqa_lightning.lmm.quality_features import PIXELS
from vqa_lightning.lmm.sharding import blocks

GB = 10**9

RESERVE = GB
"""CUDA's context, kernels and the workspaces of its libraries."""

FRAGMENTS = 0.05
"""Share of all else that the allocator cannot hand out again."""

ENTROPY_POSITIONS = 512
"""Positions whose logits over the vocabulary exist at a time (`losses.position_entropy`)."""


@dataclass(frozen=True)
class Budget:
    """Bytes on one device at the peak of a training step.

    Attributes:
        weights: of the model, frozen ones included.
        gradients: of the trained weights.
        optimizer: what the optimiser remembers of each trained weight.
        copies: of weights as they compute: what autocast casts, or what a sharded model gathers.
        activations: that the backward pass needs, and what it needs at one time to make them again.
        logits: the last hidden states, and logits over the vocabulary where the loss asks for them.
        pixels: the batch as bytes, and as numbers before and after its distortion.
        reserve: of the driver and the allocator.
        checkpointing: whether activations are made again in the backward pass.
        pairs: of the step.
        adapters: whether less than a twentieth of the weights is trained.
    """

    weights: int
    gradients: int
    optimizer: int
    copies: int
    activations: int
    logits: int
    pixels: int
    reserve: int
    checkpointing: bool
    pairs: int
    adapters: bool

    def parts(self) -> dict[str, int]:
        """Return bytes by name."""
        settings = ("checkpointing", "pairs", "adapters")
        return {part.name: getattr(self, part.name) for part in fields(self) if part.name not in settings}

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.parts().values())

    @property
    def remedy(self) -> str:
        """The setting whose change frees most."""
        training = self.gradients + self.optimizer + self.copies
        passing = self.activations + self.logits
        largest = max(training, passing, self.pixels, self.weights)
        if largest == passing and not self.checkpointing:
            return "set model.lmm.checkpointing to true"
        if largest in (passing, self.pixels) and self.pairs > 1:
            return f"lower data.batch_size ({self.pairs}) and raise trainer.accumulate_grad_batches in turn"
        if largest in (passing, self.pixels):
            return "lower model.sampling.segments or model.sampling.frames"
        if largest == training and not self.adapters:
            return "set model.trained.parts to lora"
        return "share the model over more GPUs with --config fsdp.yaml, or name a smaller one"


def estimate(
    lmm: LMM,
    shape: StepShape,
    *,
    precision: str = "bf16-mixed",
    checkpointing: bool | None = None,
    shards: int = 1,
    states: int = 2,
) -> Budget:
    """Return the memory that a training step needs on each device.

    A layer of width h with a perceptron of width f keeps, for each token and with e bytes a number, what its
    backward pass reads. In the decoder that is e (4 a + 3 f) + 4 n, a being the width of all heads together
    and n that of all norms (queries, keys, values, attention; gate, its activation, up; what norms read, in
    float32); where its weights or adapters are trained e (6 h + f) more, for what they read, 6 h + f for an
    adapter's dropout, and 4 n for the norms' own weights. In the tower it is e (8 h + 2 f) + 8 h. This is the
    count of Korthikanti et al. ("Reducing Activation Recomputation in Large Transformer Models", 2022,
    section 4) for these layers, less the scores of attention (FlashAttention, Dao et al. 2022). With
    checkpointing each layer keeps its input, and one at a time is computed again. Nothing is kept where no
    gradient passes. A trained motion backbone's activations are not counted.

    Args:
        lmm: with its trained parts chosen and its frozen weights in their type; may be on the meta device.
        shape: of the step, on one device (`flops.step_shape`).
        precision: of the trainer.
        checkpointing: None: as the LMM is set.
        shards: processes that parameters, gradients and optimiser states are shared out over.
        states: float32 numbers that the optimiser keeps for each trained one; two for AdamW.
    """
    if checkpointing is None:
        checkpointing = lmm.model.is_activation_checkpointing
    sampling = lmm.sampling
    element = 2 if "16" in precision else 4
    trained = [p for p in lmm.parameters() if p.requires_grad]
    copies = sum(element * p.numel() for p in trained if p.itemsize > element)
    logits = sum(shape.sequences) * lmm.family.head.in_features * (4 + element)
    if shape.step.all_positions:
        logits += ENTROPY_POSITIONS * lmm.family.head.out_features * (element + 3 * 4)
    parts = {
        "weights": sum(p.nbytes for p in lmm.parameters()) // shards + _constants(lmm),
        "gradients": sum(p.nbytes for p in trained) // shards,
        "optimizer": 4 * states * sum(p.numel() for p in trained) // shards,
        "copies": copies if shards == 1 else _gathered(lmm, element),
        "activations": _activations(lmm, shape, element, checkpointing),
        "logits": logits,
        "pixels": (1 + 4 + 4)
        * shape.clips
        * sampling.segments
        * sampling.frames
        * 3
        * prod(shape.step.frame),
    }
    return Budget(
        **parts,
        reserve=RESERVE + int(FRAGMENTS * sum(parts.values())),
        checkpointing=checkpointing,
        pairs=shape.step.pairs,
        adapters=20 * sum(p.numel() for p in trained) < sum(p.numel() for p in lmm.parameters()),
    )


@dataclass(frozen=True)
class _Stack:
    """Bytes of the activations of a tower or decoder.

    Attributes:
        layers: number of them.
        kept: by a layer for its backward pass.
        stream: what a layer reads.
        passing: the widest gradients of a layer.
    """

    layers: int
    kept: int
    stream: int
    passing: int

    def held(self, checkpointing: bool) -> int:
        """Return the bytes held from the forward pass until the backward pass."""
        return self.layers * (self.stream if checkpointing else self.kept)

    def at_once(self, checkpointing: bool) -> int:
        """Return the bytes that one layer needs during its backward pass."""
        return self.passing + (self.kept if checkpointing else 0)


def _activations(lmm: LMM, shape: StepShape, element: int, checkpointing: bool) -> int:
    family = lmm.family
    patches = shape.clips * shape.pictures * shape.patches
    tower = _tower(family.tower, patches, element)
    decoder = _decoder(family.language_model, sum(shape.sequences), element)
    by_segment = [part for part in (lmm.quality_tower, lmm.motion) if part is not None]
    parts = [family.projector, *by_segment]
    below = is_trained(family.tower)
    reached = below or any(map(is_trained, [family.language_model, *parts]))
    from_tower = tower.held(checkpointing) if below else 0
    in_decoder = decoder.held(checkpointing) + decoder.at_once(checkpointing) if reached else 0
    # Where nothing is kept a layer still computes.
    in_tower = tower.at_once(checkpointing) if below else tower.kept
    return from_tower + max(in_decoder, in_tower, decoder.kept, _quality(lmm, shape))


def _constants(lmm: LMM) -> int:
    """Return the bytes of the quality tower's weights, which are buffers and whole on every device."""
    return 0 if lmm.quality_tower is None else sum(b.nbytes for b in lmm.quality_tower.buffers())


def _quality(lmm: LMM, shape: StepShape) -> int:
    """Return the bytes that the quality tower needs at a time: what its widest layer reads and writes."""
    if lmm.quality_tower is None:
        return 0
    frame = prod(shape.step.frame)
    frames = min(shape.clips * lmm.sampling.segments, max(1, PIXELS["cuda"] // frame))
    # 96 channels at a quarter of the pixels and 96 at a sixteenth, in float32.
    return frames * frame * 4 * (96 // 4 + 96 // 16)


def _tower(tower: nn.Module, patches: int, element: int) -> _Stack:
    config = cast(Any, tower).config
    width, inner = int(config.hidden_size), int(config.intermediate_size)
    return _Stack(
        layers=len(blocks(tower)),
        kept=patches * (element * (8 * width + 2 * inner) + 8 * width),
        stream=patches * next(tower.parameters()).itemsize * width,
        passing=patches * element * 2 * inner,
    )


def _decoder(decoder: nn.Module, tokens: int, element: int) -> _Stack:
    config, layers = cast(Any, decoder).config, cast(Any, decoder).layers
    width, inner = int(config.hidden_size), int(config.intermediate_size)
    heads = int(layers[0].self_attn.o_proj.in_features)
    normed = 2 * width + (2 * heads if "q_norm" in dict(layers[0].self_attn.named_children()) else 0)
    kept = element * (4 * heads + 3 * inner) + 4 * normed
    if is_trained(decoder):
        kept += element * (6 * width + inner)
        kept += 4 * normed if layers[0].input_layernorm.weight.requires_grad else 0
        dropout = any(isinstance(part, nn.Dropout) and part.p > 0 for part in decoder.modules())
        kept += 6 * width + inner if dropout else 0
    return _Stack(
        layers=len(blocks(decoder)),
        kept=tokens * kept,
        stream=tokens * next(decoder.parameters()).itemsize * width,
        passing=tokens * element * 2 * inner,
    )


def _gathered(lmm: LMM, element: int) -> int:
    """Return the bytes outside the blocks and of two blocks: the block that computes and its successor."""
    sizes = sorted(sum(p.numel() for p in block.parameters()) for block in blocks(lmm))
    outside = sum(p.numel() for p in lmm.parameters()) - sum(sizes)
    return element * (outside + sum(sizes[-2:]))


def check_fits(budget: Budget, available: int) -> None:
    """Refuse a run that a device is too small for.

    Args:
        budget: of a training step.
        available: bytes of the device's memory.

    Raises:
        InputError: the estimate is above the device's memory.
    """
    if budget.total > available:
        largest = sorted(budget.parts().items(), key=lambda part: -part[1])[:3]
        told = ", ".join(f"{size / GB:.1f} for {name}" for name, size in largest)
        raise InputError(
            f"a training step needs about {budget.total / GB:.1f} GB of the GPU's memory ({told}) "
            f"and there are {available / GB:.1f}: {budget.remedy}."
        )


def check_context(lmm: LMM, shape: StepShape) -> None:
    """Refuse prompts that are longer than the language model's context.

    Raises:
        InputError: a sequence is longer.
    """
    longest, most = max(shape.sequences), lmm.model.config.get_text_config().max_position_embeddings
    if longest > most:
        raise InputError(
            f"a prompt of {len(lmm.seconds)} pictures a clip has {longest} tokens and the language model's "
            f"context holds {most}: lower model.sampling.segments or model.sampling.frames."
        )


def training_hours(
    flops: float, pairs: int, *, of_pairs: int = 500_000, utilisation: float = 0.4, peak: float = 989e12
) -> float:
    """Return hours on one GPU for a number of pairs, each shown once.

    Args:
        flops: of a training step (`flops.step_flops`).
        pairs: of the step.
        of_pairs: to be trained on; METHOD's first stage has 500 000.
        utilisation: share of the peak that is reached.
        peak: operations a second; by default an H100's or H200's in bfloat16.
    """
    return flops * of_pairs / pairs / (utilisation * peak) / 3600
