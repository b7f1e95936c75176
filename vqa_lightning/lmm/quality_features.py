"""576 numbers of a frame: what the channels of a frozen network's early stages do over its pixels.

Mean, deviation and maximum of a channel forget where something is and keep what is there. Trained on versions
of clean clips, they carry over to real video where a tower that begins at random does not.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from vqa_lightning.lmm.efficientnet import CHANNELS, EarlyStages, published_weights

FEATURES = 3 * sum(CHANNELS)
"""Mean, deviation and maximum of each channel."""

PIXELS = {"cpu": 2**17, "cuda": 2**22}
"""Of the frames that are computed at a time: few stay in a CPU's cache, many keep a GPU busy."""

LIMIT = 4.0
"""Deviations from the mean beyond which a standardised feature is clipped."""

STATISTICS = Path(__file__).with_name("quality_statistics.safetensors")
"""Mean and deviation of each feature, which `benchmarks/quality_statistics.py` measured."""


class Statistics(NamedTuple):
    """What the features are standardised by.

    Attributes:
        mean: (576,) of the features of many frames.
        deviation: (576,) of them, above 0.
    """

    mean: Tensor
    deviation: Tensor


@cache
def early_stages(device: torch.device) -> EarlyStages:
    """Return the network, once for each device.

    Raises:
        InputError: the package with its weights is not installed.
    """
    return EarlyStages(published_weights()).to(device)


def read_statistics() -> Statistics:
    """Return what the features are standardised by, from the file of this package."""
    return Statistics(**load_file(STATISTICS))


@torch.no_grad()
def pool(channels: Tensor) -> Tensor:
    """Return the means, deviations and maxima (N, 3 C) of channels (N, C, h, w) over their pixels.

    Example:
        >>> pool(torch.tensor([1.0, 3.0, 1.0, 3.0]).view(1, 1, 2, 2))
        tensor([[2., 1., 3.]])
    """
    # Channels last, as the network leaves them: torch.std_mean takes three times as long.
    pixels = channels.movedim(1, -1).flatten(1, 2)
    mean = pixels.mean(dim=1)
    deviation = (pixels - mean[:, None]).square_().mean(dim=1).sqrt_()
    return torch.cat([mean, deviation, pixels.amax(dim=1)], dim=1)


@torch.no_grad()
def quality_features(frames: Tensor, stages: EarlyStages | None = None) -> Tensor:
    """Return the features of frames, as they are, in float32 whatever autocast says.

    Args:
        frames: (N, 3, H, W) in [0, 1], in native pixels; of any size.
        stages: the network; None: the published one, on the device of the frames.

    Returns:
        (N, 576): means, deviations and maxima of the stem's channels, then those of each stage.

    Raises:
        InputError: the package with the network's weights is not installed.

    Example:
        >>> quality_features(torch.rand(2, 3, 90, 160)).shape
        torch.Size([2, 576])
    """
    stages = early_stages(frames.device) if stages is None else stages
    height, width = frames.shape[-2:]
    at_once = max(1, PIXELS.get(frames.device.type, PIXELS["cpu"]) // (height * width))
    with torch.autocast(frames.device.type, enabled=False):
        pooled = [
            torch.cat([pool(channels) for channels in stages(some)], dim=1)
            for some in torch.split(frames.float(), at_once)
        ]
    return torch.cat(pooled)
