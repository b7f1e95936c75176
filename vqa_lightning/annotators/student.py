"""The model under training as an annotator, with the protocol and the loop of round 0's teachers."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from datamodules.files import weights_hash
from datamodules.labels import ClipItem, Request
from datamodules.labels.clips import distorted
from datamodules.teachers import Teacher
from vqa_lightning.checkpoints.resumable import trained_names
from vqa_lightning.training import RankingModule


class Student(Teacher):
    """Scores videos by the present weights of a RankingModule, in its raw unit.

    Args:
        module: with its anchors refreshed, where it scores by them.
    """

    pad = True  # as in training
    by_segment = False  # segments stand in one prompt

    def __init__(self, module: RankingModule) -> None:
        super().__init__("student", module.sampling, module.scoring.draws, module.device)
        self.module = module
        # Of whole frames one video at a time: as floats a few would fill the memory.
        self.whole_frames = module.sampling.window is None
        self.batch_clips = 1 if self.whole_frames else 64
        self._weights = weights_hash(_learnt(module))

    @property
    def settings(self) -> Mapping[str, object]:
        """Hash of the weights, and how clips are cut and judged."""
        module = self.module
        judged = {"score_by": module.score_by, "both_orders": module.scoring.both_orders}
        return {**super().settings, "weights": self._weights, "precision": module.precision, **judged}

    def score(self, clips: Tensor) -> Tensor:
        """Raw scores (B,) of clips (B, T, C, H, W) in [0, 1]."""
        return self.module.rate(clips)

    @torch.inference_mode()
    def _scores(self, requests: Sequence[Request], items: Sequence[ClipItem]) -> Tensor:
        """Whole frames one clip after the other, for only what is judged at once need be floats at once."""
        if not self.whole_frames:
            return super()._scores(requests, items)
        (request,), (item,) = requests, items
        scores = []
        for draw, (frames, times) in enumerate(zip(item.frames, item.times, strict=True)):
            clip = distorted(frames[None].to(self.device), times[None].to(self.device), request, draw)
            scores.append(self.module.rate(clip))
        return torch.cat(scores).double().cpu()[None]


def _learnt(module: RankingModule) -> dict[str, Tensor]:
    """Return what tells a student from every other: what was trained, and what it compares with."""
    weights = module.state_dict()
    learnt = {name: weights[name] for name in trained_names(module)}
    whole = {name: w.full_tensor() if isinstance(w, DTensor) else w for name, w in learnt.items()}
    return whole | {f"anchor {place}": clip for place, clip in enumerate(module.anchors.clips)}
