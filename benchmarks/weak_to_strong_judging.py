"""What students of benchmarks/weak_to_strong.py are worth on versions of real clips, in and out of domain.

Most students see by the same frozen eyes: what these see of the versions is kept, so that judging one more
student costs no reading.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from carry_over_fidelity import Row
from carry_over_figures import ladder_shares
from weak_to_strong_trainings import LADDERS

from datamodules.bootstrap import bootstrap_interval
from datamodules.files import written_whole
from datamodules.labels import Request
from datamodules.labels.seen_clips import SeenClips
from datamodules.video import probe
from vqa_lightning.annotators.checkpoint_teacher import load_checkpoint
from vqa_lightning.annotators.student import Student
from vqa_lightning.metrics import srcc

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

EYES = "eyes.pt"


class Judge:
    """Scores versions by checkpoints; what frozen eyes see of a version is kept in a file.

    Args:
        rows: the versions.
        folder: where the file lies.
        workers: processes that read.
    """

    def __init__(self, rows: Sequence[Row], folder: Path, workers: int) -> None:
        self.requests = [Request(probe(row.file)) for row in rows]
        self.file, self.workers = folder / EYES, workers
        self.seen = SeenClips(megabytes=4096)
        if self.file.is_file():
            for key, features in torch.load(self.file, weights_only=True).items():
                self.seen.keep(key, features)

    def __call__(self, checkpoint: Path) -> Floats:
        """Return the checkpoint's score (n,) of each version, NaN where it cannot read one."""
        student = Student(module := load_checkpoint(checkpoint).eval(), module.score_sampling)
        if student.seen is not None:
            module.lmm.seen = self.seen
        before = len(self.seen)
        found = {row[0]: row.score for row in student.annotate(self.requests, self.workers)}
        if len(self.seen) > before:
            with written_whole(self.file) as hidden:
                torch.save(dict(self.seen.items()), hidden)
        return np.array([found.get(request.video.video_id, np.nan) for request in self.requests])


class Domain(NamedTuple):
    """Which versions and ladders count for each seed."""

    versions: Bools
    ladders: Bools


def domains(rows: Sequence[Row], names: Sequence[str], groups: Sequence[int | None]) -> dict[str, Domain]:
    """Return what counts in and out of the domain of each seed's students.

    Chains have steps of several families and count in neither; a source counts in both.

    Args:
        rows: the versions.
        names: of the ladders.
        groups: of `LADDERS`, which a seed's students have not seen; None: they have seen all.
    """
    out = [set() if group is None else set(LADDERS[group]) for group in groups]
    ladder = np.array([[name in one for one in out] for name in names], dtype=bool)
    left_out = np.array([[row.ladder in one for one in out] for row in rows], dtype=bool)
    sources = np.array([row.ladder == "source" for row in rows])[:, None]
    chains = np.array([row.ladder == "chain" for row in rows])[:, None]
    known = np.array([group is None for group in groups])
    inside = ~left_out & (~chains | known)
    return {"in": Domain(inside, ~ladder), "out": Domain(left_out | (sources & ~known), ladder)}


def agreement(
    scores: Sequence[Floats], rows: Sequence[Row], counted: Bools
) -> tuple[float, tuple[float, float]]:
    """Return SRCC with VMAF, the mean over seeds and less that of a second judge, with its interval.

    Args:
        scores: (n, seeds) of one judge, or of two that are compared.
        rows: the n versions.
        counted: (n, seeds) which of them count.
    """
    vmaf = np.array([np.nan if row.vmaf is None else row.vmaf for row in rows])

    def statistic(vmaf: Floats, counted: Bools, *scores: Floats) -> float:
        values = [_mean_srcc(own, vmaf, counted) for own in scores]
        return values[0] - sum(values[1:])

    arrays = (vmaf, counted & np.isfinite(vmaf)[:, None], *scores)
    clips = [row.clip for row in rows]
    return statistic(*arrays), bootstrap_interval(statistic, *arrays, groups=clips)


def order(scores: Sequence[Floats], rows: Sequence[Row], counted: Bools) -> tuple[float, tuple[float, float]]:
    """Return the share of pairs of levels in order, as `agreement` does; the mean over ladders and seeds.

    Args:
        scores: (n, seeds) of one judge or two.
        rows: the n versions.
        counted: (ladders, seeds) which ladders count.
    """
    shares = [np.stack([ladder_shares(column, rows)[1] for column in own.T], axis=-1) for own in scores]
    clips = sorted({row.clip for row in rows})

    def statistic(*shares: Floats) -> float:
        values = [_mean_share(own, counted) for own in shares]
        return values[0] - sum(values[1:])

    return statistic(*shares), bootstrap_interval(statistic, *shares, groups=clips)


def _mean_srcc(scores: Floats, vmaf: Floats, counted: Bools) -> float:
    found = [srcc(own[rows], vmaf[rows]) for own, rows in zip(scores.T, counted.T, strict=True) if rows.any()]
    return float(np.mean(found)) if found else np.nan


def _mean_share(shares: Floats, counted: Bools) -> float:
    """Return the mean over seeds of the mean over ladders of the mean over contents."""
    by_ladder = np.where(counted, np.nanmean(shares, axis=0), np.nan)
    seeds = counted.any(axis=0)
    return float(np.nanmean(by_ladder[:, seeds], axis=0).mean()) if seeds.any() else np.nan
