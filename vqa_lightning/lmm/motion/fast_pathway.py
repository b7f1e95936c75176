"""The fast pathway of SlowFast-R50, the motion backbone of W2S-VQA: many frames, few channels.

Nothing flows from the slow pathway into the fast one (Feichtenhofer et al., "SlowFast Networks for Video
Recognition", ICCV 2019), so that the fast one stands alone. Names are PyTorchVideo's, whose weights it takes.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

CHECKPOINT = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/SLOWFAST_8x8_R50.pyth"
"""Of both pathways, trained on Kinetics-400 (Apache-2.0)."""

STAGES = ((3, 32), (4, 64), (6, 128), (3, 256))
"""Blocks, and channels that leave each."""

MEAN, DEVIATION = 0.45, 0.225
"""Of all three channels of what it was trained on."""


class FastView(nn.Module):
    """Frames as W2S-VQA shows them to the pathway: squashed to 224 x 224 pixels, and normalised."""

    crop_size = (224, 224)

    def forward(self, clips: Tensor) -> Tensor:
        """Return (B, 3, T, 224, 224) of clips (B, T, 3, H, W) in [0, 1]."""
        frames = F.interpolate(clips.flatten(0, 1), self.crop_size, mode="bilinear", antialias=True)
        normalised = (frames - MEAN) / DEVIATION
        return normalised.view(*clips.shape[:3], *self.crop_size).transpose(1, 2)


class FastPathway(nn.Module):
    """From clips (B, 3, T, H, W), normalised, to features (B, 256): the mean over time and place.

    Example:
        >>> import torch
        >>> with torch.no_grad():
        ...     FastPathway().eval()(torch.rand(1, 3, 4, 32, 32)).shape
        torch.Size([1, 256])
    """

    def __init__(self) -> None:
        super().__init__()
        widths = [8, *(width for _, width in STAGES)]
        stages = [
            _Stage(blocks, into, out, stride=1 if out == STAGES[0][1] else 2)
            for (blocks, out), into in zip(STAGES, widths, strict=False)
        ]
        self.blocks = nn.ModuleList([_Stem(widths[0]), *stages])

    def forward(self, clips: Tensor) -> Tensor:
        """Return features (B, 256)."""
        for block in self.blocks:
            clips = block(clips)
        return clips.mean(dim=(2, 3, 4))

    @staticmethod
    def own(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
        """Return the fast pathway's part of PyTorchVideo's checkpoint, or of its state dict."""
        state = checkpoint.get("model_state", checkpoint)
        fast = ".multipathway_blocks.1."
        return {name.replace(fast, "."): value for name, value in state.items() if fast in name}


class _Stem(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, width, (5, 7, 7), (1, 2, 2), (2, 3, 3), bias=False)
        self.norm = nn.BatchNorm3d(width)
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))

    def forward(self, clips: Tensor) -> Tensor:
        pooled: Tensor = self.pool(self.norm(self.conv(clips)).relu())
        return pooled


class _Stage(nn.Module):
    def __init__(self, blocks: int, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.res_blocks = nn.Sequential(
            _Block(into, out, stride), *(_Block(out, out, 1) for _ in range(blocks - 1))
        )

    def forward(self, features: Tensor) -> Tensor:
        passed: Tensor = self.res_blocks(features)
        return passed


class _Block(nn.Module):
    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.branch1_conv = nn.Conv3d(into, out, 1, (1, stride, stride), bias=False) if into != out else None
        self.branch1_norm = nn.BatchNorm3d(out) if into != out else None
        self.branch2 = _Bottleneck(into, out, stride)

    def forward(self, features: Tensor) -> Tensor:
        short = features
        if self.branch1_conv is not None and self.branch1_norm is not None:
            short = self.branch1_norm(self.branch1_conv(features))
        summed: Tensor = short + self.branch2(features)
        return summed.relu()


class _Bottleneck(nn.Module):
    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        inner = out // 4
        self.conv_a = nn.Conv3d(into, inner, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self.norm_a = nn.BatchNorm3d(inner)
        self.conv_b = nn.Conv3d(inner, inner, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
        self.norm_b = nn.BatchNorm3d(inner)
        self.conv_c = nn.Conv3d(inner, out, 1, bias=False)
        self.norm_c = nn.BatchNorm3d(out)

    def forward(self, features: Tensor) -> Tensor:
        features = self.norm_a(self.conv_a(features)).relu()
        features = self.norm_b(self.conv_b(features)).relu()
        passed: Tensor = self.norm_c(self.conv_c(features))
        return passed
