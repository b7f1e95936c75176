"""A video backbone before a projector: the paper's fast pathway of SlowFast, or a backbone of torchvision."""

import pickle
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from datamodules.errors import InputError
from vqa_lightning.lmm.motion.differences import motion_projector
from vqa_lightning.lmm.motion.fast_pathway import CHECKPOINT, FastPathway, FastView


class Published(NamedTuple):
    """Weights that somebody has published.

    Attributes:
        url: where they are.
        read: reads them, out of torch.hub's folder or after a download to it.
    """

    url: str
    read: Callable[[], Any]


class Backbone(NamedTuple):
    """What there is to know of a video backbone.

    Attributes:
        make: makes the network, without its head and with random weights, and what prepares frames for it:
            (B, T, 3, H, W) in [0, 1] to (B, 3, T, h, w).
        own: takes the network's part out of a published state dict.
        weights: name -> published weights.
        width: of the features.
        frames: the number that a clip must have; None: any.
    """

    make: Callable[[], tuple[nn.Module, Any]]
    own: Callable[[Any], dict[str, Tensor]]
    weights: dict[str, Published]
    width: int
    frames: int | None = None


def _of_torchvision(kind: str, head: str, width: int, frames: int | None = None) -> Backbone:
    """Return a backbone of torchvision, whose classification head is called `head`."""

    def make() -> tuple[nn.Module, Any]:
        network = get_model(kind, weights=None)
        setattr(network, head, nn.Identity())
        return network, get_model_weights(kind)["DEFAULT"].transforms()

    def own(state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value for name, value in state.items() if not name.startswith(f"{head}.")}

    published = {
        one.name: Published(
            one.url, partial(one.get_state_dict, check_hash=True, weights_only=True, map_location="cpu")
        )
        for one in get_model_weights(kind)
    }
    return Backbone(make, own, published, width, frames)


BACKBONES = {
    "slowfast_r50_fast": Backbone(
        make=lambda: (FastPathway(), FastView()),
        own=FastPathway.own,
        weights={
            "KINETICS400_V1": Published(
                CHECKPOINT,
                partial(
                    torch.hub.load_state_dict_from_url, CHECKPOINT, map_location="cpu", weights_only=True
                ),
            )
        },
        width=256,
    ),
    "r2plus1d_18": _of_torchvision("r2plus1d_18", "fc", 512),  # Tran et al., CVPR 2018
    "mvit_v2_s": _of_torchvision("mvit_v2_s", "head", 768, frames=16),  # Li et al., CVPR 2022
}


class VideoBackbone(nn.Module):
    """A video backbone without its head, and a projector.

    Frames are prepared as the published weights were trained to see them, on the clips' device: by
    torchvision's own resize, centre crop and normalisation, or by `FastView`. Where the backbone takes
    another number of frames than a segment has, the nearest in time are taken: a mixture of frames would move
    where a frame is held.

    Args:
        kind: name of `BACKBONES`.
        frames: K, frames of a segment.
        width: D of the language model's tokens.
        weights: a published name or a file; None: random.
        trained: whether the backbone learns. If not it stays in evaluation mode, and no gradient is kept.

    Raises:
        InputError: the weights cannot be loaded.
    """

    def __init__(self, kind: str, frames: int, width: int, weights: str | None, trained: bool) -> None:
        super().__init__()
        self.frames = frames
        self.trained = trained
        known = BACKBONES[kind]
        self.clip_frames = known.frames or frames
        self.backbone, self.prepare = known.make()
        self.feature_width = known.width
        self.projector = motion_projector(self.feature_width, width)
        if weights is not None:
            _load(self.backbone, kind, weights)
        elif not trained:
            rank_zero_warn(
                f"model.lmm.motion {kind} is frozen at random weights: set model.lmm.motion_weights, "
                "KINETICS400_V1 for one, or motion_trained."
            )
        self.backbone.requires_grad_(trained).train(trained)

    def train(self, mode: bool = True) -> "VideoBackbone":
        """Keep a frozen backbone in evaluation mode: its running means and its dropout stay as they are."""
        super().train(mode)
        self.backbone.train(mode and self.trained)
        return self

    takes_bytes = False
    """Whether `features` takes clips of bytes, too."""

    @property
    def fixed(self) -> bool:
        """Whether `features` always says the same of a clip."""
        return not self.trained

    def features(self, clips: Tensor) -> Tensor:
        """Return what the backbone says (B, S, F) of clips (B, S K, 3, H, W) in [0, 1]."""
        segments = clips.unflatten(1, (-1, self.frames))  # type: ignore[no-untyped-call]
        nearest = torch.arange(self.clip_frames, device=clips.device) * self.frames // self.clip_frames
        prepared = self.prepare(segments[:, :, nearest].flatten(0, 1))
        # Half precision: on a CPU a trained R(2+1)D gave gradients that were no numbers.
        device = clips.device.type
        # The meta device, on which sizes are computed, has no autocast to leave.
        full = torch.autocast(device, enabled=False) if device != "meta" else nullcontext()
        with full, torch.set_grad_enabled(self.trained and torch.is_grad_enabled()):
            features: Tensor = self.backbone(prepared.to(next(self.parameters()).dtype))
        return features.view(*segments.shape[:2], -1)

    def project(self, features: Tensor) -> Tensor:
        """Return tokens (B, S, D) of features (B, S, F)."""
        tokens: Tensor = self.projector(features)
        return tokens

    def forward(self, clips: Tensor) -> Tensor:
        """Return tokens (B, S, D) of clips (B, S K, 3, H, W) in [0, 1]."""
        return self.project(self.features(clips))


def _load(backbone: nn.Module, kind: str, weights: str) -> None:
    """Fill a backbone without a head from published weights or a file."""
    if next(backbone.parameters()).is_meta:
        return
    published = BACKBONES[kind].weights
    named = weights in published
    if not named and not Path(weights).is_file():
        raise InputError(
            f"model.lmm.motion_weights {weights!r} is neither a file nor the name of weights of {kind}: "
            f"name a state dict, or {' or '.join(published)}."
        )
    try:
        # torch.hub looks into its own folder before it downloads.
        state: Any = (
            published[weights].read() if named else torch.load(weights, map_location="cpu", weights_only=True)
        )
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        remedy = f"fetch {published[weights].url} and name that" if named else "name a state dict"
        raise InputError(
            f"model.lmm.motion_weights {weights!r} cannot be read ({reason}): {remedy}."
        ) from error
    try:
        backbone.load_state_dict(BACKBONES[kind].own(state))
    except (RuntimeError, AttributeError) as error:
        raise InputError(
            f"model.lmm.motion_weights {weights!r} does not hold the weights of {kind}: "
            "name those of the backbone that model.lmm.motion asks for."
        ) from error
