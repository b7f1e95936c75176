"""The page of a file of scores: distribution, a table that sorts, quality over time, the worst moments."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from datamodules.checks import is_number
from datamodules.errors import UnreadableVideo
from datamodules.names import file_of
from datamodules.video import Span, probe
from vqa_lightning.pages.page import least, rendered, short_names
from vqa_lightning.pages.pictures import Floats, frames_at, histogram, jpeg, over_time

Row = Mapping[str, Any]

MOMENTS = 3
"""Worst moments of each video that are shown."""

COLUMNS = {
    "percentile": "share of the training corpus that scores lower, in per cent",
    "mean": "mean over time",
    "harmonic": "harmonic mean over time",
    "p5": "what the worst twentieth of the time does not exceed",
    "min": "worst interval",
    "calibrated": "score on the human scale",
}
"""Columns that a file of scores may have beside the score, and what they say."""


@dataclass(frozen=True)
class Moment:
    """A part of a video: when it is, its score, and the address of its picture."""

    start: float
    score: float
    picture: str


@dataclass
class Shown:
    """A video on the page.

    Attributes:
        name: as short as tells it from the others.
        path: as the scores have it.
        score: on the published scale.
        stderr: its standard error.
        more: further columns, by their name.
        note: what is wrong with its time stamps, or empty.
        picture: address of its middle frame; None where the file cannot be read here, or is one too many.
        curve: quality over time as SVG; None without intervals.
        moments: the worst of it, in order of time.
    """

    name: str
    path: str
    score: float
    stderr: float
    more: dict[str, float | None]
    note: str = ""
    picture: str | None = None
    curve: str | None = None
    moments: list[Moment] = field(default_factory=list)


@dataclass(frozen=True)
class LeftOut:
    """What the page of a chosen part says of the rest; the page's rows are then of what stays.

    Attributes:
        kept: how many rows stay; the page may have fewer of them.
        counts: kind of reason -> rows that went for it.
        rows: some of those that went, with `path`, `score` and `reason`.
        scores: of all rows that stay, and of all that went, finite.
    """

    kept: int
    counts: Mapping[str, int]
    rows: Sequence[Row]
    scores: tuple[Floats, Floats]


def score_page(
    rows: Sequence[Row],
    seconds: Sequence[Row],
    title: str,
    pictured: int = 200,
    left_out: LeftOut | None = None,
) -> str:
    """Return the page as HTML.

    Args:
        rows: of a file of scores: `path`, `score`, `stderr`, `error`, `model`, and any of `COLUMNS`.
        seconds: of intervals: `path`, `start`, `end`, `score` and `stderr`; empty where there are none.
        title: of the page.
        pictured: how many videos have pictures and a curve, the worst first: each weighs some 50 KB.
        left_out: of a file of which only a part stays.
    """
    good = sorted((row for row in rows if is_number(row["score"])), key=lambda row: float(row["score"]))
    columns = [name for name in COLUMNS if any(is_number(row.get(name)) for row in good)]
    names = short_names([str(row["path"]) for row in rows])
    shown = [
        Shown(
            names[str(row["path"])],
            str(row["path"]),
            float(row["score"]),
            float(row["stderr"]) if is_number(row["stderr"]) else math.nan,
            {name: float(row[name]) if is_number(row.get(name)) else None for name in columns},
            str(row.get("error") or ""),
        )
        for row in good
    ]
    intervals: dict[str, list[Row]] = {}
    for row in sorted(seconds, key=lambda row: float(row["start"])):
        intervals.setdefault(str(row["path"]), []).append(row)
    for number, video in enumerate(shown[:pictured]):
        _picture(video, intervals.get(video.path, []), f"curve {number}")
    return rendered(
        "score_page.html",
        title=title,
        models=sorted({str(row["model"]) for row in rows}),
        videos=shown,
        columns={name: COLUMNS[name] for name in columns},
        unread=[
            {"name": names[str(row["path"])], "path": row["path"], "error": row["error"]}
            for row in rows
            if not is_number(row["score"])
        ],
        plots=_plots(shown) if left_out is None else _divided(left_out),
        left_out=left_out,
        pictured=min(pictured, len(shown)),
    )


def worst(intervals: Sequence[Row]) -> list[Row]:
    """Return the intervals with the least scores, in order of time, no two of them neighbours."""
    scores = [float(row["score"]) if is_number(row["score"]) else math.nan for row in intervals]
    return [intervals[place] for place in least(scores, MOMENTS)]


def _picture(video: Shown, intervals: Sequence[Row], salt: str) -> None:
    """Add a video's pictures and its curve; what cannot be read here is left out."""
    moments = worst(intervals) if len(intervals) > 1 else []
    spans: list[Span | None] = [None, *((float(row["start"]), float(row["end"])) for row in moments)]
    try:
        frames = frames_at(probe(file_of(video.path)), spans)
    except (UnreadableVideo, OSError):
        frames = []
    if frames:
        video.picture, *others = map(jpeg, frames)
        video.moments = [
            Moment(float(row["start"]), float(row["score"]), picture)
            for row, picture in zip(moments, others, strict=True)
        ]
    if len(intervals) > 1:
        columns = ("start", "score", "stderr")
        starts, scores, errors = (np.array([row[name] for row in intervals], dtype=float) for name in columns)
        edges = np.append(starts, float(intervals[-1]["end"]))
        video.curve = over_time(edges, scores, errors, salt)


def _plots(videos: Sequence[Shown]) -> list[str]:
    """Return how scores and percentiles are distributed; nothing where there is nothing to distribute."""
    if len(videos) < 2:
        return []
    scores = np.array([video.score for video in videos])
    edges = np.histogram_bin_edges(scores, bins=min(30, max(5, round(2 * len(scores) ** (1 / 3)))))
    found = [histogram(scores, edges, "score", np.quantile(scores, [0.25, 0.5, 0.75]))]
    ranks = np.array([video.more.get("percentile") for video in videos], dtype=float)
    if np.isfinite(ranks).any():
        label = "percentile of the training corpus"
        found.append(histogram(ranks[np.isfinite(ranks)], np.linspace(0, 100, 11), label))
    return found


def _divided(left_out: LeftOut) -> list[str]:
    """Return how the scores of what stays and of what went are distributed."""
    values = np.concatenate(left_out.scores)
    if len(values) < 2:
        return []
    edges = np.histogram_bin_edges(values, bins=30)
    return [histogram(left_out.scores[0], edges, "score", others=left_out.scores[1])]
