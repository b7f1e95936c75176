"""The model under training as an annotator, with the protocol and the loop of round 0's teachers."""

from collections.abc import Mapping

from torch import Tensor

from datamodules.fingerprints import weights_hash
from datamodules.teachers import Teacher
from vqa_lightning.module import RankingModule


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
