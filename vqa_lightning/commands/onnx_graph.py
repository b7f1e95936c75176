"""The pointwise score as a graph that ONNX can hold: from bytes to published scores, prompt included.

What `ScoringModule.rate` computes, without Python that asks how many clips there are or how large they are: a
trace would keep the answer for good.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.video.views import view
from vqa_lightning.families.tokens import Tokens
from vqa_lightning.lmm.efficientnet import Convolution, EarlyStages
from vqa_lightning.lmm.quality_tower import QualityTower
from vqa_lightning.training import RankingModule


class ScoreGraph(nn.Module):
    """Published scores of clips, each by itself.

    Args:
        module: that scores pointwise; its convolutions are replaced in place.
    """

    before: Tensor
    after: Tensor
    scale: Tensor

    def __init__(self, module: RankingModule) -> None:
        super().__init__()
        self.lmm = lmm = module.lmm
        if lmm.quality_tower is not None:
            _with_onnx_convolutions(lmm.quality_tower.stages)
        side = module.score_sampling.window or lmm.family.patch
        self.size = lmm.family.size_for(side, side, len(lmm.seconds))
        opening, block, *_ = lmm.prompt_ids(self.size)
        opens, closes = (block, []) if lmm.pictures else lmm.family.around(block)
        self.visual = [
            len(opening) + place for place, token in enumerate(opens) if token in lmm.family.visual_ids
        ]
        embed = lmm.model.get_input_embeddings()
        for name, ids in (("before", [*opening, *opens]), ("after", closes)):
            self.register_buffer(name, embed(torch.tensor([ids], dtype=torch.long)).detach())
        self.register_buffer("scale", module.scale.clone())

    def forward(self, frames: Tensor) -> Tensor:
        """Return scores (N,) of clips (N, T, 3, H, W) uint8."""
        clips = frames / 255
        lmm, count = self.lmm, frames.shape[0]
        prompt = [self.before.expand(count, -1, -1)]
        if lmm.pictures:
            prompt = [prompt[0].clone()]
            prompt[0][:, self.visual] = self._seen(clips)
        if lmm.quality_tower is not None:
            prompt.append(lmm.quality_tower.project(_quality_features(lmm.quality_tower, clips)))
        if lmm.motion is not None:
            prompt.append(lmm.motion(clips))
        embeddings = torch.cat([*prompt, self.after.expand(count, -1, -1)], dim=1)
        length = embeddings.shape[1]
        # One clip stands for all: the language model does not read how many there are.
        hidden = lmm.family.hidden(Tokens(embeddings, (length,), (length,)))
        raw: Tensor = lmm.score_head(hidden[:, -1])[:, 0]
        return 50 + 10 * (raw - self.scale[0]) / self.scale[1]

    def _seen(self, clips: Tensor) -> Tensor:
        lmm = self.lmm
        pictures = clips if lmm.motion is None else clips[:, :: lmm.sampling.frames]
        return lmm.family.features(view(pictures, lmm.view, self.size, lmm.family.patch, lmm.family.resize))[
            0
        ]


def _quality_features(tower: QualityTower, clips: Tensor) -> Tensor:
    frames = tower.looked_at(clips)
    pooled = torch.cat([_pool(channels) for channels in tower.stages(frames.flatten(0, 2))], dim=1)
    return pooled.view(-1, *frames.shape[1:3], pooled.shape[1]).mean(dim=2)


def _pool(channels: Tensor) -> Tensor:
    """Return what `quality_features.pool` does, in sums of sums: onnxruntime adds one pixel after the other.

    Over half a million pixels that cost the fourth digit of a mean, and scores were off by .001.
    """
    mean = channels.mean(dim=-1).mean(dim=-1)
    variance = (channels - mean[..., None, None]).square().mean(dim=-1).mean(dim=-1)
    return torch.cat([mean, variance.sqrt(), channels.amax(dim=(-2, -1))], dim=1)


class _OnnxConvolution(nn.Module):
    """A `Convolution` of which ONNX does the padding, which depends on whether a side is even.

    Args:
        made_of: the convolution.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, made_of: Convolution) -> None:
        super().__init__()
        self.register_buffer("weight", made_of.weight.contiguous())
        self.register_buffer("bias", made_of.bias)
        self.stride = made_of.stride
        self.bounded = made_of.bounded

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C', H / stride, W / stride), rounded up, of (N, C, H, W)."""
        groups = x.shape[1] // self.weight.shape[1]
        if self.stride == 1:
            x = F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2, groups=groups)
        else:
            sides = [(side + 1) // 2 for side in x.shape[-2:]]
            x = torch.onnx.ops.symbolic(
                "Conv",
                (x, self.weight, self.bias),
                {"auto_pad": "SAME_UPPER", "strides": [self.stride] * 2, "group": groups},
                dtype=x.dtype,
                shape=(x.shape[0], self.weight.shape[0], *sides),
            )
        return F.relu6(x) if self.bounded else x


def _with_onnx_convolutions(stages: EarlyStages) -> None:
    for name, layer in list(stages.named_modules()):
        if isinstance(layer, Convolution):
            stages.set_submodule(name, _OnnxConvolution(layer))
