"""The motion path: the change between the frames of a segment, as one token a segment.

As in the paper the tower sees one frame of a segment and the motion path all of them, so that dense frames
cost few tokens. Either the fixed differences of the frames are projected, or the features of a video
backbone: the paper's, or one of torchvision. Without a motion path nothing is built. Imports
`datamodules.video` and errors.
"""

from typing import Literal

from datamodules.errors import InputError
from vqa_lightning.lmm.motion.backbone import BACKBONES, VideoBackbone
from vqa_lightning.lmm.motion.differences import FrameDifferences

Motion = Literal["differences", "slowfast_r50_fast", "r2plus1d_18", "mvit_v2_s"]

__all__ = ["BACKBONES", "FrameDifferences", "Motion", "VideoBackbone", "build_motion"]


def build_motion(
    kind: Motion, frames: int, width: int, weights: str | None = None, trained: bool = False
) -> FrameDifferences | VideoBackbone:
    """Make a motion path: a module from clips (B, S K, 3, H, W) in [0, 1] to tokens (B, S, D).

    With segments a second apart that is the paper's one token a second. The paper's rule of 8 to 10 tokens,
    the last repeated, is a matter of the sampling's segments here: every clip has as many tokens as segments.

    Args:
        kind: "differences" of frames, or the backbone of this name.
        frames: K, consecutive frames of a segment, at least 2.
        width: D of the language model's tokens.
        weights: of the backbone: a published name, KINETICS400_V1 for each of them, or a file with a state
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
