"""The model under training as an annotator, with the protocol and the loop of round 0's teachers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from operator import attrgetter

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from datamodules.distortions import Distortion
from datamodules.files import weights_hash
from datamodules.labels import Annotation, ClipDataset, ClipItem, Request
from datamodules.labels.clips import NOTHING, distorted
from datamodules.labels.seen_clips import SeenClips, clip_key
from datamodules.teachers import Teacher
from datamodules.teachers.batch import Batch
from datamodules.video import Sampling
from vqa_lightning.checkpoints.resumable import LATER, trained_names
from vqa_lightning.lmm.frozen_eyes import FrozenEyes
from vqa_lightning.training import RankingModule


class Student(Teacher):
    """Scores videos by the present weights of a RankingModule, in its raw unit.

    Args:
        module: with its anchors refreshed, where it scores by them.
        sampling: how the clips are cut; None: as they are trained on.
    """

    pad = True  # as in training
    by_segment = False  # segments stand in one prompt

    def __init__(self, module: RankingModule, sampling: Sampling | None = None) -> None:
        sampling = module.sampling if sampling is None else sampling
        super().__init__("student", sampling, module.scoring.draws, module.device)
        self.module = module
        # Of whole frames one video at a time: as floats a few would fill the memory.
        self.whole_frames = self.sampling.window is None
        self.batch_clips = 1 if self.whole_frames and self.seen is None else 64
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

    def annotate(self, requests: Sequence[Request], workers: int = 0) -> Iterator[Annotation]:
        """Yield the mean score over draws of each request, as every teacher does.

        Versions whose features this process knows from its last rounds are not read again. They stand in
        batches with the others, so that a process that knows nothing gives the same scores to the bit.
        """
        known = self._known(requests)
        others = [place for place in range(len(requests)) if place not in known]
        unread = [requests[place] for place in others]
        # Without a GPU each worker looks, and sends what it saw in place of the clips.
        far = self.seen is not None and workers > 0 and self.device.type == "cpu"
        looking = Looking(self.module.lmm.eyes) if far else None
        read = ClipDataset(unread, self.sampling, self.draws, self.pad, looking).read(workers)
        yield from self.annotate_clips(
            requests,
            merge(
                (ClipItem(place, NOTHING, NOTHING, NOTHING, None, seen=one) for place, one in known.items()),
                (self._looked_at(requests, item._replace(position=others[item.position])) for item in read),
                key=attrgetter("position"),
            ),
        )

    @property
    def seen(self) -> SeenClips | None:
        """Features of clips, where the model keeps them and scores by them alone."""
        return self.module.lmm.seen if self.module.score_by == "pointwise" else None

    def _known(self, requests: Sequence[Request]) -> dict[int, Tensor]:
        """Return the features (D, S, F) of requests by their places, in order, where all are known."""
        seen = self.seen
        if seen is None:
            return {}
        keys = {place: self._keys(request) for place, request in enumerate(requests)}
        return {
            place: torch.stack([seen[key] for key in own])
            for place, own in keys.items()
            if all(key in seen for key in own)
        }

    @torch.no_grad()
    def _looked_at(self, requests: Sequence[Request], item: ClipItem) -> ClipItem:
        """Return an item with features in place of clips that nobody looked at where they were read."""
        if self.seen is None or item.seen is not None:
            return item
        request = requests[item.position]
        clips = distorted(item.frames.to(self.device), item.times, request)
        return item.without_clips(seen=self.module.lmm.eyes(clips))

    def _keys(self, request: Request) -> list[str]:
        applied = [] if request.simulator is None else [(request.simulator, request.level)]
        whole = self.whole_frames
        return [clip_key(request.video.video_id, draw, applied, whole=whole) for draw in range(self.draws)]

    @torch.no_grad()
    def _by_features(self, batch: Batch, seen: SeenClips) -> Tensor:
        """Return the scores (V, draws) of V items with features, and keep these."""
        lmm = self.module.lmm
        keys = [key for request in batch.requests for key in self._keys(request)]
        features = torch.cat([item.seen.to(self.device) for item in batch.items if item.seen is not None])
        for key, one in zip(keys, features, strict=True):
            seen.keep(key, one)  # which changes nothing where it is known
        scores = lmm.score(lmm.tokens_of(features))
        return scores.cpu().double().view(len(batch.items), -1)

    def _scores(self, batch: Batch) -> Tensor:
        if self.seen is not None:
            return self._by_features(batch, self.seen)
        if self.whole_frames:
            return self._of_whole_frames(batch.requests, batch.items)
        return super()._scores(batch)

    @torch.inference_mode()
    def _of_whole_frames(self, requests: Sequence[Request], items: Sequence[ClipItem]) -> Tensor:
        """Whole frames one clip after the other, for only what is judged at once need be floats at once."""
        (request,), (item,) = requests, items
        scores = []
        for draw, (frames, times) in enumerate(zip(item.frames, item.times, strict=True)):
            clip = distorted(frames[None].to(self.device), times[None], request, draw)
            scores.append(self.module.rate(clip))
        return torch.cat(scores).cpu().double()[None]


@dataclass(frozen=True)
class Looking:
    """What is done with a clip where it is read: frozen parts look at it, and it is not wanted any more."""

    eyes: FrozenEyes

    def __call__(self, request: Request, item: ClipItem) -> ClipItem:
        """Return the item with features (D, S, F) in place of its clips."""
        if isinstance(request.simulator, Distortion):  # whose noise is drawn for all draws together
            return item.without_clips(seen=self.eyes(distorted(item.frames, item.times, request)))
        return item.without_clips(seen=torch.cat([self.eyes(clip[None] / 255) for clip in item.frames]))


def _learnt(module: RankingModule) -> dict[str, Tensor]:
    """Return what tells a student from every other: what was trained, and what it compares with."""
    weights = module.state_dict()
    learnt = {name: weights[name] for name in trained_names(module) if name not in LATER}
    whole = {name: w.full_tensor() if isinstance(w, DTensor) else w for name, w in learnt.items()}
    return whole | {f"anchor {place}": clip for place, clip in enumerate(module.anchors.clips)}
