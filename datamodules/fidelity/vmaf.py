"""VMAF v0.6.1 (Li, Aaron, Katsavounidis, Moorthy and Manohara 2016) and VMAF NEG, for many clips at once.

Both are measured on luma of 8 bits, BT.601 in limited range, whatever matrix a file had. ADM and VIF of a
frame come from torch or from libvmaf; motion and the regression are the same code on either route, so that
clips of one stream know nothing of each other.
"""

from typing import Literal

import torch
from torch import Tensor

from datamodules.checks import check_choice
from datamodules.errors import InputError
from datamodules.fidelity.adm import adm
from datamodules.fidelity.filters import Filter, filtered, gaussian
from datamodules.fidelity.libvmaf import find_ffmpeg, libvmaf_features
from datamodules.fidelity.vif import vif
from datamodules.fidelity.vmaf_model import predict
from datamodules.video import luma

Route = Literal["torch", "libvmaf"]

VMAF_SMALLEST_SIDE = 48
"""Pixels: leaves three wavelets of the coarsest scale to either route."""

_GAIN_LIMIT = {False: 100.0, True: 1.0}
_BLUR = Filter(gaussian(5, 1.0), lead=2, repeats=True)  # of what motion compares
_WORTH_A_PROCESS = 2**20  # pixels of all frames
_PIXELS = {"cpu": 2**18, "cuda": 2**24}  # of one pass: what stays in a processor's cache, or in memory


@torch.inference_mode()
def vmaf(clips: Tensor, sources: Tensor, neg: bool = False, route: Route = "torch") -> Tensor:
    """Score clips beside their sources by VMAF, as the mean over the frames of each clip.

    Args:
        clips: (B, T, 3, H, W) RGB or (B, T, H, W) luma, uint8 or in [0, 1], full range; consecutive frames,
            sides of at least 48 pixels.
        sources: the same shape.
        neg: whether enhanced contrast is given no credit (VMAF NEG).
        route: "torch", on the clips' device, or "libvmaf", in a process of FFmpeg.

    Returns:
        (B,), from 0 to 100; some 97 to 100 for the source itself. Not symmetric.

    Raises:
        InputError: the shapes differ, a side is too small, or the route is not there.

    Example:
        >>> sources = torch.rand(2, 3, 64, 64)
        >>> scores = vmaf(sources.clamp(max=0.5), sources)
        >>> scores.shape, bool((scores < vmaf(sources, sources)).all())
        (torch.Size([2]), True)
    """
    check_choice("The route of VMAF", route, ("torch", "libvmaf"))
    if clips.shape != sources.shape or clips.ndim not in (4, 5) or min(clips.shape[-2:]) < VMAF_SMALLEST_SIDE:
        raise InputError(
            "Clips and sources of VMAF must have equal shapes (B, T, 3, H, W) or (B, T, H, W) of at least "
            f"{VMAF_SMALLEST_SIDE} x {VMAF_SMALLEST_SIDE} pixels; got {tuple(clips.shape)} and "
            f"{tuple(sources.shape)}."
        )
    shape = clips.shape[:2]
    clips, sources = (_stored_luma(frames).flatten(0, 1) for frames in (clips, sources))
    count = max(1, _PIXELS.get(clips.device.type, 2**24) // clips[0].numel())
    parts = list(zip(torch.split(clips, count), torch.split(sources, count), strict=True))
    if route == "libvmaf":
        measured = libvmaf_features(clips, sources, neg).to(clips.device)
    else:
        measured = torch.cat([_features(clip.float(), source.float(), neg) for clip, source in parts])
    blurred = torch.cat([filtered(source.float(), _BLUR) for _, source in parts])
    motion = _motion(blurred.view(*shape, *blurred.shape[1:])).view(-1, 1)
    return predict(torch.cat([measured[:, :1], motion, measured[:, 1:]], 1)).view(shape).mean(1)


def fastest_route(clips: Tensor) -> Route:
    """Return the route that takes the least time for clips where they are.

    On a processor libvmaf takes half of torch's time, but some 70 ms to start.
    """
    frames, size = clips.shape[:2].numel(), clips.shape[-2:].numel()
    pays = clips.device.type == "cpu" and frames * size >= _WORTH_A_PROCESS
    return "libvmaf" if pays and find_ffmpeg() else "torch"


def _stored_luma(frames: Tensor) -> Tensor:
    """Return the luma that a file would hold, uint8 (B, T, H, W) from 16 to 235."""
    full = luma(frames) if frames.ndim == 5 else frames
    scale = 219 / 255 if frames.dtype == torch.uint8 else 219
    return (16 + scale * full).round_().clamp_(0, 255).byte()


def _features(clip: Tensor, source: Tensor, neg: bool) -> Tensor:
    limit = _GAIN_LIMIT[neg]
    return torch.cat([adm(clip, source, limit)[:, None], vif(clip, source, limit)], 1)


def _motion(blurred: Tensor) -> Tensor:
    """Return by how much frames (B, T, H, W) move: the lesser of before and after, 0 for the first (B, T)."""
    motion = torch.zeros(blurred.shape[:2], device=blurred.device)
    motion[:, 1:] = (blurred[:, 1:] - blurred[:, :-1]).abs_().mean((-2, -1))
    motion[:, :-1] = torch.minimum(motion[:, :-1], motion[:, 1:])
    return motion
