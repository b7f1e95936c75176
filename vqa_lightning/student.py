"""The model under training as an annotator, with the protocol and the loop of round 0's teachers."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from datamodules.teachers import Teacher
from vqa_lightning.module import RankingModule


def weights_hash(module: nn.Module) -> str:
    """Hash of all that a module's checkpoint would hold: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


class Student(Teacher):
    """Scores videos by the present weights of a RankingModule, in its raw unit.

    Args:
        module: with its anchors refreshed, where it scores by them.
    """

    batch_clips = 64  # windows, not whole frames
    pad = True  # as in training
    by_segment = False  # segments stand in one prompt

    def __init__(self, module: RankingModule) -> None:
        super().__init__("student", module.sampling, module.score_draws, module.device)
        self.module = module
        self._weights = weights_hash(module)

    @property
    def settings(self) -> Mapping[str, object]:
        """Hash of the weights, and how clips are cut and judged."""
        return {**super().settings, "weights": self._weights, "score_by": self.module.score_by}

    def score(self, clips: Tensor) -> Tensor:
        """Raw scores (B,) of clips (B, T, C, H, W) in [0, 1]."""
        return self.module.rate(clips)
