"""The scores that annotators gave, version by version, and how they rank against what is known.

The report split tells it: by the hidden truth where there is one, by severity, by people, and by each other.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import rankdata

from datamodules.bootstrap import Floats, bootstrap_intervals
from datamodules.labels import FittedConsensus, Key
from datamodules.labels.fitted_consensus import whole_clips
from datamodules.video import Video
from vqa_lightning.metrics import srcc

Scores = dict[Key, float]
"""(video_id, simulator, level) -> score, the source being (video_id, None, 0)."""

Correlations = dict[str, float | None]
"""Annotator -> SRCC."""

Estimate = tuple[float, float, float]
"""A figure and both ends of its 95 % interval over contents."""

DIFFERENCES = ("over_best", "over_ensemble")
"""What `truth_intervals` has beside the annotators."""


def scores_of(table: pa.Table, fingerprint: str, video_ids: Sequence[str] | None = None) -> Scores:
    """Return the whole-clip scores that one annotator gave to these videos, or to all, and their versions."""
    own = whole_clips(table, fingerprint)
    if video_ids is not None:
        own = own.filter(pc.is_in(own["video_id"], pa.array(video_ids, pa.string())))
    keys = zip(*(own[name].to_pylist() for name in ("video_id", "simulator", "level")), strict=True)
    return dict(zip(keys, own["score"].to_pylist(), strict=True))


def ensemble_scores(fitted: FittedConsensus, keys: Sequence[Key]) -> Scores:
    """Return the teachers' weighted mean on their common scale, for versions that any of them scored."""
    scores: Scores = {}
    for version in dict.fromkeys(key[1:] for key in keys):
        ids = [key[0] for key in keys if key[1:] == version]
        mean, _ = fitted.scores(ids, *version)
        scores |= {(name, *version): float(m) for name, m in zip(ids, mean, strict=True) if np.isfinite(m)}
    return scores


def rank_correlations(
    scores: Mapping[str, Scores],
    videos: Sequence[Video],
    ladder: Mapping[str, int],
    truth: Mapping[str, float] | None,
) -> dict[str, Correlations]:
    """Return the SRCC of each annotator across videos and within, and of the student with the others.

    Args:
        scores: annotator -> scores; the first is the student.
        videos: the report split.
        ladder: simulator -> number of levels.
        truth: video_id -> hidden quality, where there is one.

    Returns:
        `truth`: with the truth across videos, None without one. `severity`: with falling severity within
        content, the mean over the ladders that were scored. `teacher`: of the student with each other one.
    """
    known = [video for video in videos if all((video.video_id, None, 0) in own for own in scores.values())]
    across = {name: [own[video.video_id, None, 0] for video in known] for name, own in scores.items()}
    hidden = None if truth is None else [truth[video.video_id] for video in known]
    severity: Correlations = {}
    for name, own in scores.items():
        within = np.array([severity_srcc(own, video, ladder) for video in videos])
        scored = within[np.isfinite(within)]
        severity[name] = float(scored.mean()) if len(scored) else math.nan
    student, *others = scores
    return {
        "truth": {name: None if hidden is None else srcc(own, hidden) for name, own in across.items()},
        "severity": severity,
        "teacher": {name: srcc(across[student], across[name]) for name in others},
    }


def truth_intervals(
    scores: Mapping[str, Scores], videos: Sequence[Video], truth: Mapping[str, float], teachers: Sequence[str]
) -> dict[str, Estimate]:
    """Return how each annotator ranks with the hidden truth, and the student less its teachers.

    Intervals are bootstrapped over contents, whose versions rise and fall together. A difference is taken
    within each draw, so that what annotators have in common cancels; the best teacher is that of the draw.

    Args:
        scores: annotator -> scores; the first is the student, one is the ensemble.
        videos: the report split.
        truth: video_id -> hidden quality.
        teachers: names of the teachers among the annotators.

    Returns:
        Annotator -> SRCC; then `over_best` and `over_ensemble`, the student's SRCC less that of the best
        teacher and of the teachers' mean. Nan throughout where fewer than two videos have all scores.
    """
    known = [video for video in videos if all((video.video_id, None, 0) in own for own in scores.values())]
    if len(known) < 2:
        return dict.fromkeys([*scores, *DIFFERENCES], (math.nan, math.nan, math.nan))
    columns = [[own[video.video_id, None, 0] for video in known] for own in scores.values()]
    data = np.array([[truth[video.video_id] for video in known], *columns]).T
    names = list(scores)
    of_teachers, ensemble = [names.index(name) for name in teachers], names.index("ensemble")

    def figures(rows: Floats) -> Floats:
        found = rank_with_first(rows)
        best = found[of_teachers].max()
        return np.array([*found, found[0] - best, found[0] - found[ensemble]])

    ends = bootstrap_intervals(figures, data, groups=[video.content for video in known])
    figured = zip(figures(data).tolist(), ends.tolist(), strict=True)
    return dict(
        zip([*names, *DIFFERENCES], ((value, low, high) for value, (low, high) in figured), strict=True)
    )


def rank_with_first(columns: Floats) -> Floats:
    """Return the SRCC of the first column with each other one, all at once; nan where one is constant.

    Example:
        >>> rank_with_first(np.array([[1.0, 2.0, 9.0], [2.0, 5.0, 8.0], [3.0, 7.0, 1.0]])).round(2)
        array([ 1., -1.])
    """
    ranks = rankdata(columns, axis=0)
    ranks -= ranks.mean(0)
    size = np.sqrt((ranks**2).sum(0))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = ranks[:, 0] @ ranks[:, 1:] / (size[0] * size[1:])
    return found


def mos_correlations(scores: Mapping[str, Scores], lists: Sequence[Mapping[str, float]]) -> Correlations:
    """Return the SRCC of each annotator with people on the report split.

    Args:
        scores: annotator -> scores.
        lists: video_id -> MOS of the report split, for each list that the round draws from.

    Returns:
        The mean over the lists weighted by their number of videos as in METHOD section 7, nan where no list
        has two.
    """
    found: Correlations = {}
    for name, own in scores.items():
        known = [[video for video in mos if (video, None, 0) in own] for mos in lists]
        of_list = np.array([
            srcc([own[video, None, 0] for video in videos], [mos[video] for video in videos])
            for mos, videos in zip(lists, known, strict=True)
        ])  # fmt: skip
        weight = np.where(np.isfinite(of_list), [len(videos) for videos in known], 0)
        found[name] = float(np.nan_to_num(of_list) @ weight / weight.sum()) if weight.any() else math.nan
    return found


def severity_srcc(own: Scores, video: Video, ladder: Mapping[str, int]) -> float:
    """Return the mean SRCC of a video's scores with falling severity over its scored ladders, or nan."""
    found = []
    for simulator, levels in ladder.items():
        keys: list[Key] = [(video.video_id, None, 0)]
        keys += [(video.video_id, simulator, level + 1) for level in range(levels)]
        if all(key in own for key in keys):
            found.append(srcc([own[key] for key in keys], -np.arange(levels + 1.0)))
    return float(np.mean(found)) if found else math.nan
