"""The motion path: the change between the frames of a segment, as one token a segment.

As in the paper the tower sees one frame of a segment and the motion path all of them, so that dense frames
cost few tokens. Either the fixed differences of the frames are projected, or the features of a video backbone
of torchvision. Without a motion path nothing is built.
"""

import pickle
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from datamodules.errors import InputError
from datamodules.video import luma

Motion = Literal["differences", "r2plus1d_18", "mvit_v2_s"]

NUMBERS = 6
"""That say how the frames of a segment follow each other."""

FLOOR = 1 / 255
"""One step of 8 bits, the unit of differences; as a share of itself it is added before the logarithm."""

HELD = 0.15
"""Of the mean difference; a frame that differs by less from the frame before is taken as held."""


class Backbone(NamedTuple):
    """What torchvision does not say of a video backbone.

    Attributes:
        head: name of the classification head.
        width: of the features that the head is given.
        frames: the number that a clip must have; None: any.
    """

    head: str
    width: int
    frames: int | None


BACKBONES = {
    "r2plus1d_18": Backbone("fc", 512, None),  # Tran et al., CVPR 2018
    "mvit_v2_s": Backbone("head", 768, 16),  # Li et al., CVPR 2022
}


def build_motion(
    kind: Motion, frames: int, width: int, weights: str | None = None, trained: bool = False
) -> "FrameDifferences | VideoBackbone":
    """Make a motion path: a module from clips (B, S K, 3, H, W) in [0, 1] to tokens (B, S, D).

    With segments a second apart that is the paper's one token a second. The paper's rule of 8 to 10 tokens,
    the last repeated, is a matter of the sampling's segments here: every clip has as many tokens as segments.

    Args:
        kind: "differences" of frames, or the torchvision backbone of this name.
        frames: K, consecutive frames of a segment, at least 2.
        width: D of the language model's tokens.
        weights: of the backbone: a name of torchvision's, such as KINETICS400_V1, or a file with a state
            dict; None: random. On the meta device they are not read.
        trained: whether the backbone is trained too; its projector always is.

    Raises:
        InputError: too few frames, a setting that the differences do not have, or weights that cannot be
            loaded.
    """
    if frames < 2:
        raise InputError(
            f"model.sampling.frames must be 2 or more under model.lmm.motion {kind}; got {frames}: "
            "raise it, or set model.lmm.motion to null."
        )
    if kind != "differences":
        return VideoBackbone(kind, frames, width, weights, trained)
    if weights is not None or trained:
        setting = f"motion_trained {trained}" if weights is None else f"motion_weights {weights!r}"
        raise InputError(
            f"model.lmm.{setting} asks for a backbone, and model.lmm.motion is differences: "
            f"leave it out, or choose {' or '.join(BACKBONES)}."
        )
    return FrameDifferences(frames, width)


def _projector(features: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, width), nn.GELU(), nn.Linear(width, width))


class FrameDifferences(nn.Module):
    """How a segment's frames follow each other, as six numbers that say nothing of the scene.

    They are of the mean absolute differences of consecutive frames: the logarithm of their mean, and their
    deviation, median, largest and smallest over that mean, and the share of frames that hardly differ from
    the frame before. A held frame differs by nothing, and the frame after it by twice as much.

    Args:
        frames: K, frames of a segment, at least 2.
        width: D of the language model's tokens.
    """

    fixed = True
    """Whether `features` always says the same of a clip."""

    def __init__(self, frames: int, width: int) -> None:
        super().__init__()
        self.frames = frames
        self.feature_width = NUMBERS
        self.projector = _projector(NUMBERS, width)

    def features(self, clips: Tensor) -> Tensor:
        """Return the six numbers (B, S, 6) of each segment of clips (B, S K, 3, H, W) in [0, 1]."""
        segments = luma(clips).unflatten(1, (-1, self.frames))  # type: ignore[no-untyped-call]
        # Sums of rows first: ONNX runtimes add one number after the other, which loses digits.
        steps = segments.diff(dim=2).abs().mean(dim=-1).mean(dim=-1) / FLOOR + FLOOR
        mean = steps.mean(dim=-1)
        relative = steps / mean[..., None]
        numbers = (
            mean.log(),
            relative.std(dim=-1, correction=0),
            # The lower median, as torch.median has it, which ONNX has no operator for.
            relative.sort(dim=-1).values[..., (relative.shape[-1] - 1) // 2],
            relative.amax(dim=-1),
            relative.amin(dim=-1),
            (relative < HELD).float().mean(dim=-1),
        )
        return torch.stack(numbers, dim=-1)

    def project(self, features: Tensor) -> Tensor:
        """Return tokens (B, S, D) of features (B, S, F)."""
        tokens: Tensor = self.projector(features.to(next(self.parameters()).dtype))
        return tokens

    def forward(self, clips: Tensor) -> Tensor:
        """Return tokens (B, S, D) of clips (B, S K, 3, H, W) in [0, 1]."""
        return self.project(self.features(clips))


class VideoBackbone(nn.Module):
    """A video backbone of torchvision without its head, and a projector.

    Frames are prepared as the published weights were trained to see them: torchvision's own resize, centre
    crop and normalisation, on the clips' device. Where the backbone takes another number of frames than a
    segment has, the nearest in time are taken: a mixture of frames would move where a frame is held.

    Args:
        kind: name of `BACKBONES`.
        frames: K, frames of a segment.
        width: D of the language model's tokens.
        weights: a name of torchvision's or a file; None: random.
        trained: whether the backbone learns. If not it stays in evaluation mode, and no gradient is kept.

    Raises:
        InputError: the weights cannot be loaded.
    """

    def __init__(self, kind: str, frames: int, width: int, weights: str | None, trained: bool) -> None:
        super().__init__()
        self.frames = frames
        self.trained = trained
        self.clip_frames = BACKBONES[kind].frames or frames
        self.backbone = get_model(kind, weights=None)
        setattr(self.backbone, BACKBONES[kind].head, nn.Identity())
        self.prepare = get_model_weights(kind)["DEFAULT"].transforms()
        self.feature_width = BACKBONES[kind].width
        self.projector = _projector(self.feature_width, width)
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
        full = torch.autocast(clips.device.type, enabled=False)
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
    published = get_model_weights(kind)
    named = weights in published.__members__
    if not named and not Path(weights).is_file():
        raise InputError(
            f"model.lmm.motion_weights {weights!r} is neither a file nor the name of weights of {kind}: "
            f"name a state dict, or {' or '.join(published.__members__)}."
        )
    try:
        # torch.hub looks into its own folder before it downloads.
        state: Any = (
            published[weights].get_state_dict(check_hash=True, weights_only=True, map_location="cpu")
            if named
            else torch.load(weights, map_location="cpu", weights_only=True)
        )
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        remedy = f"fetch {published[weights].url} and name that" if named else "name a state dict"
        raise InputError(
            f"model.lmm.motion_weights {weights!r} cannot be read ({reason}): {remedy}."
        ) from error
    head = f"{BACKBONES[kind].head}."
    own = {name: value for name, value in state.items() if not name.startswith(head)}
    try:
        backbone.load_state_dict(own)
    except RuntimeError as error:
        raise InputError(
            f"model.lmm.motion_weights {weights!r} does not hold the weights of {kind}: "
            "name those of the backbone that model.lmm.motion asks for."
        ) from error
