"""Who scores a run's videos: the teachers when it begins, its student after each round.

All scores go to a label store, and only what a store lacks is computed. Who labels pairs is found from the
stores alone (`callbacks.rounds.labels`).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor

from callbacks.rounds.requests import RoundRequests
from datamodules.labels import Annotator, ClipItem, Consensus, LabelStore, Request, annotate_missing
from datamodules.labels.seen_clips import SeenClips, clip_key
from datamodules.round_data import RoundDataModule
from datamodules.teachers import Laplacian, Teacher
from datamodules.teachers.one_reading import alike, annotate_together
from datamodules.teachers.scored_clips import Onlooker
from datamodules.teachers.scores_file import ScoresFile
from datamodules.video import read_clip
from vqa_lightning.annotators.student import Student
from vqa_lightning.lmm.frozen_eyes import FrozenEyes, frozen_eyes
from vqa_lightning.scoring.anchors import calmest, named_clips
from vqa_lightning.training import RankingModule


def annotate(
    trainer: Trainer,
    data: RoundDataModule,
    annotator: Annotator,
    store: LabelStore,
    round: int,
    requests: Sequence[Request],
) -> None:
    """Have an annotator score what the store lacks, each process its share; return when all are done."""
    began = time.monotonic()
    # A loader draws from the global generator: found or computed, scores must lead to the same weights.
    with isolate_rng():
        done = annotate_missing(
            annotator,
            requests,
            store,
            round,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            workers=data.workers,
        )
    trainer.strategy.barrier()
    if done:
        rank_zero_info(
            f"labels of round {round}: {annotator.name} scored {done} clips "
            f"in {time.monotonic() - began:.0f} s"
        )


def let_teachers_annotate(
    trainer: Trainer, data: RoundDataModule, module: RankingModule, requests: RoundRequests, *, blend: bool
) -> None:
    """Have the teachers, the baseline and full-reference metrics score what nobody had them score before.

    Args:
        trainer: whose processes share the work.
        data: whose videos, teachers and label store they are.
        module: the student, which may look on while versions of clean sources are scored.
        requests: of the run.
        blend: whether the teachers will be weighed beside students, on what these are not trained on.
    """
    wanted = [*requests.of_teachers, *(requests.errors if blend else ())]
    annotators = (*data.teachers, Laplacian())
    for annotator in annotators:
        if isinstance(annotator, Teacher):
            annotator.device = trainer.strategy.root_device
            annotator.prepare(data.split("train"))
        elif isinstance(annotator, ScoresFile):
            annotator.prepare([request.video for request in requests.sources])
    _annotate_groups(trainer, data, annotators, wanted)
    if (clean := data.clean) is not None:
        of_versions = (clean.metric, *clean.teachers)  # copies of teachers that were prepared above
        for one in of_versions:
            one.device = trainer.strategy.root_device
        _annotate_groups(trainer, data, of_versions, clean.requests, _student_looks(trainer, data, module))


@dataclass(frozen=True)
class StudentLooks:
    """Keeps the features of the clips that training will show.

    Attributes:
        eyes: of the student.
        window: side of the clips that it is trained on.
        seen: where features are kept.
    """

    eyes: FrozenEyes
    window: int
    seen: SeenClips

    def look(self, request: Request, item: ClipItem) -> Tensor | None:
        """Return the features (S, F) of a version; smaller frames come whole here, and padded in training."""
        if request.simulator is None or item.frames.shape[-1] != self.window:
            return None
        return self.eyes(item.frames / 255)[0]

    def keep(self, request: Request, seen: Tensor) -> None:
        """Keep the features of a version as those of its first draw."""
        assert request.simulator is not None
        self.seen.keep(clip_key(request.video.video_id, 0, [(request.simulator, request.level)]), seen)


def _student_looks(trainer: Trainer, data: RoundDataModule, module: RankingModule) -> StudentLooks | None:
    """Return who looks on while versions are scored, where the student has frozen eyes."""
    config, cut = module.lmm_config, module.sampling
    eyes = None if cut.window is None or trainer.world_size > 1 else frozen_eyes(config, cut)
    if eyes is None or cut.window is None:
        return None
    data.seen = SeenClips(config.feature_cache_gb * 1e9 / 2**20)
    return StudentLooks(eyes, cut.window, data.seen)


def _annotate_groups(
    trainer: Trainer,
    data: RoundDataModule,
    annotators: Sequence[Annotator],
    requests: Sequence[Request],
    onlooker: Onlooker | None = None,
) -> None:
    """Have annotators score what the shared store lacks; those that cut clips alike read them once."""
    for group in alike(annotators):
        began = time.monotonic()
        # A loader draws from the global generator: found or computed, scores must lead to the same weights.
        with isolate_rng():
            done = annotate_together(
                group,
                requests,
                data.labels,
                rank=trainer.global_rank,
                world_size=trainer.world_size,
                workers=data.workers,
                onlooker=onlooker,
            )
        trainer.strategy.barrier()
        if any(done.values()):
            scored = ", ".join(f"{name} {count}" for name, count in done.items())
            rank_zero_info(f"labels of round 0: {scored} clips in {time.monotonic() - began:.0f} s")


def let_student_annotate(
    trainer: Trainer,
    data: RoundDataModule,
    module: RankingModule,
    store: LabelStore,
    round: int,
    requests: RoundRequests,
) -> str:
    """Have the student score what it is asked for at the end of a round; return its fingerprint."""
    if module.score_by == "pairwise":
        module.refresh_anchors()
    student = Student(module)
    annotate(trainer, data, student, store, round, requests.of_student)
    return student.fingerprint


def anchor_clips(data: RoundDataModule, module: RankingModule, consensus: Consensus) -> list[Tensor]:
    """Return the clips that a pairwise student compares others with: those named, or by the consensus."""
    if module.scoring.files is not None:
        return named_clips(module.scoring.files, module.sampling)
    train = {video.video_id: video for video in data.split("train")}
    chosen = calmest(consensus.restrict(list(train)), module.anchors.count)
    return [read_clip(train[name], module.sampling).frames for name in chosen]
