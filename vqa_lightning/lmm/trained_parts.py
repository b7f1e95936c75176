"""Which parameters of the LMM are trained: the paper's, low-rank adapters, all of them, or our heads only.

Adapters are injected in place: modules keep their paths, and everything else works on the LMM whatever is
trained. What arrives frozen, such as a motion backbone, stays frozen, and so does a tower that is not shown
anything.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import cast_adapter_dtype
from torch import nn

from datamodules.checks import check_above, check_choice, check_least, check_that
from datamodules.errors import InputError
from vqa_lightning.lmm.lmm import LMM

Parts = Literal["paper", "lora", "full", "head"]


@dataclass(frozen=True)
class TrainedParts:
    """The parts that are trained; the score head and the projectors of motion and quality always are.

    Args:
        parts: paper (vision tower and projector; the language model is frozen), lora (adapters; all the LMM's
            own weights are frozen), full (everything), or head (nothing else).
        rank: of the adapters (LoRA, Hu et al. 2022).
        alpha: the adapters' output is scaled by alpha / rank.
        dropout: on the adapters' input, in [0, 1).
        targets: regular expression over the whole names of the Linear layers that get an adapter; by default
            all of the language model's attention and MLP.
        tower: adapters on the vision tower's Linear layers too.
        tower_lr: learning rate of the vision tower relative to the rate of all other parts, above 0; the
            paper's code has 0.2. To keep the tower as it is, choose other `parts`.

    Raises:
        InputError: a value out of its range.
    """

    parts: Parts = "full"
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    targets: str | None = None
    tower: bool = False
    tower_lr: float = 1.0

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("model.trained.parts", self.parts, get_args(Parts))
        check_least("model.trained.rank", self.rank, 1)
        check_least("model.trained.alpha", self.alpha, 1)
        if not 0 <= self.dropout < 1:
            raise InputError(f"model.trained.dropout must be 0 or more and below 1; got {self.dropout}.")
        check_above("model.trained.tower_lr", self.tower_lr, 0)
        if self.targets is None:
            return
        if self.tower:
            raise InputError(
                f"model.trained.tower must be false where model.trained.targets is given; got "
                f"{self.targets!r}: name the tower's layers there."
            )
        try:
            re.compile(self.targets)
        except re.error as error:
            raise InputError(
                f"model.trained.targets must be a regular expression; got {self.targets!r} ({error})."
            ) from error


def train_parts(lmm: LMM, settings: TrainedParts) -> None:
    """Freeze all of an LMM but what is trained, and inject adapters where they are asked for.

    Args:
        lmm: changed in place; parameters that are frozen already stay so. Adapters are drawn from torch's
            global generator and are float32 whatever the weights they adapt.
        settings: what is trained.

    Raises:
        InputError: `targets` matches no Linear layer, or a layer that cannot have an adapter, or a tower
            would be adapted that the LMM does not show pictures to.
    """
    check_that(
        lmm.pictures or not settings.tower,
        "model.trained.tower",
        "false where model.lmm.pictures is false",
        settings.tower,
    )
    family = lmm.family
    own = {id(p) for p in lmm.parameters()}
    fixed = {id(p) for p in lmm.parameters() if not p.requires_grad}
    fixed |= _unread(lmm)
    with_heads: tuple[nn.Module | None, ...] = (lmm.score_head, lmm.quality_tower, lmm.motion)
    heads = [part for part in with_heads if part is not None]
    parts: dict[Parts, list[nn.Module]] = {
        "paper": [family.tower, family.projector, *heads],
        "lora": heads,
        "full": [lmm],
        "head": heads,
    }
    trained = {id(p) for part in parts[settings.parts] for p in part.parameters()} - fixed
    if settings.parts == "lora":
        _inject(lmm, settings)
    for parameter in lmm.parameters():
        parameter.requires_grad_(id(parameter) in trained or id(parameter) not in own)


def _unread(lmm: LMM) -> set[int]:
    """Return the ids of the parameters that nothing shown to the LMM passes."""
    family = lmm.family
    unread = {id(p) for part in family.unreached for p in part.parameters()}
    if lmm.pictures:
        return unread
    read = {id(p) for part in (family.language_model, family.head) for p in part.parameters()}
    return unread | {id(p) for p in lmm.model.parameters()} - read


def _inject(lmm: LMM, settings: TrainedParts) -> None:
    family = lmm.family
    # The level words are read from the head's weight itself, which an adapter would leave as it is.
    unseen = () if lmm.pictures else (family.tower, family.projector)
    left_out = _layers(family.head, *family.unreached, *unseen)
    linear = {
        name: layer
        for name, layer in lmm.model.named_modules()
        if isinstance(layer, nn.Linear) and id(layer) not in left_out
    }
    targets = settings.targets
    if targets is None:
        within = _layers(family.language_model)
        if settings.tower:
            within |= _layers(family.tower) - _layers(family.projector)
        targets = _pattern(name for name, layer in linear.items() if id(layer) in within)
    _check(targets, lmm.model, linear)
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout, target_modules=targets
    )
    inject_adapter_in_model(config, lmm.model)
    cast_adapter_dtype(lmm.model, "default")


def _layers(*parts: nn.Module) -> set[int]:
    return {id(layer) for part in parts for layer in part.modules()}


def _pattern(names: Iterable[str]) -> str:
    """Return a regular expression of these names in which any number stands for the numbers."""
    shapes = (r"\.".join(r"\d+" if part.isdigit() else part for part in name.split(".")) for name in names)
    return "|".join(dict.fromkeys(shapes))


def _check(targets: str, model: nn.Module, linear: dict[str, nn.Linear]) -> None:
    matched = [name for name, _ in model.named_modules() if re.fullmatch(targets, name)]
    if not matched:
        raise InputError(
            f"model.trained.targets {targets!r} matches no layer: the Linear layers are "
            f"{_pattern(linear).replace('|', ', ')}."
        )
    other = [name for name in matched if name not in linear]
    if other:
        raise InputError(
            f"model.trained.targets {targets!r} matches {other[0]}, which cannot have an adapter: the Linear "
            f"layers that can are {_pattern(linear).replace('|', ', ')}."
        )


def hold(lmm: LMM, frozen: torch.dtype) -> None:
    """Cast parameters: under autocast the frozen take half the memory and the trained stay float32.

    Args:
        lmm: changed in place; buffers, the quality tower's weights among them, stay, and so does a frozen
            motion backbone, which is small and whose running statistics are float32.
        frozen: type of the model's frozen parameters from now on, such as bfloat16. `unreached` parameters
            stay float32, for they are fed whatever the trained layers before them give.
    """
    unread = {id(p) for part in lmm.family.unreached for p in part.parameters()}
    frozen_ids = {id(p) for p in lmm.model.parameters() if not p.requires_grad} - unread
    for parameter in lmm.parameters():
        parameter.data = parameter.data.to(frozen if id(parameter) in frozen_ids else torch.float32)
