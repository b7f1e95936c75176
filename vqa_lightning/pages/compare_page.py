"""The page of encodes beside each other: their cost, the difference over time, frames under a slider."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from datamodules.errors import UnreadableVideo
from datamodules.video import Video
from vqa_lightning.encodes import BDRate, Content, Difference, Encode
from vqa_lightning.pages.page import least, rendered
from vqa_lightning.pages.pictures import Curve, frames_at, jpeg, rate_quality, two_over_time

WORST = 2
"""Moments of each encode that are shown."""

WIDTH = 960
"""Of a frame under the slider at most, in pixels: artefacts are small."""

QUALITY = 92
"""Of its JPEG, which must not add artefacts of its own."""


class Moment(NamedTuple):
    """An interval of two encodes: when it is, whose worst it is, both scores and both pictures."""

    start: float
    whose: str
    scores: tuple[float, float]
    pictures: tuple[str, str]


@dataclass
class Beside:
    """An encode beside another.

    Attributes:
        first: what it is held against.
        second: the encode.
        marks: of both among the encodes of the content.
        scores: of both.
        difference: by how much the second scores higher.
        size: height and width at which both are shown.
        curve: quality and difference over time as SVG; None without intervals.
        moments: the worst of either, in order of time.
        note: why there are no pictures; empty where there are.
    """

    first: Encode
    second: Encode
    marks: tuple[str, str]
    scores: tuple[float, float]
    difference: Difference
    size: tuple[int, int]
    curve: str | None = None
    moments: list[Moment] = field(default_factory=list)
    note: str = ""

    @property
    def shown(self) -> bool:
        """Whether there is more to see of it than numbers."""
        return bool(self.curve or self.moments or self.note)

    @property
    def rate_change(self) -> float:
        """By how much the second's rate is higher, in per cent."""
        return 100 * (self.second.rate / self.first.rate - 1)


@dataclass
class Section:
    """A content on the page.

    Attributes:
        content: the encodes and their scores.
        marks: a letter for each encode.
        pairs: which stand beside each other.
        bd_rates: of the later ladders to the first, or why there is none.
        plot: quality against rate as SVG; None for two encodes.
        notes: in what the encodes differ beside their quality.
    """

    content: Content
    marks: list[str]
    pairs: list[Beside]
    bd_rates: Mapping[str, BDRate | str]
    plot: str | None
    notes: list[str]

    def beside(self, place: int) -> Beside | None:
        """Return the pair in which an encode is the second."""
        return next((pair for pair in self.pairs if pair.marks[1] == self.marks[place]), None)


def compare_page(
    contents: Sequence[Content], title: str, model: str, unmatched: Sequence[str] = (), pictured: int = 20
) -> str:
    """Return the page as HTML.

    Args:
        contents: one with all its encodes, or many of two each.
        title: of the page.
        model: name and hash of what scored.
        unmatched: files that have no counterpart.
        pictured: how many pairs have curves and pictures, those first in which the second falls most: each
            weighs about a megabyte.
    """
    sections = [_section(content, f"content {number}") for number, content in enumerate(contents)]
    pairs = [(section, pair) for section in sections for pair in section.pairs]
    pairs.sort(key=lambda one: one[1].difference.value)
    for number, (section, pair) in enumerate(pairs[:pictured]):
        _picture(section, pair, f"pair {number}")
    return rendered(
        "compare_page.html",
        title=title,
        model=model,
        sections=sections,
        unmatched=unmatched,
        pairs=len(pairs),
        pictured=min(pictured, len(pairs)),
        chance=chance,
        sized=sized,
        told_bd_rate=told_bd_rate,
    )


def chance(probability: float) -> str:
    """Return a probability as it is told.

    Example:
        >>> chance(0.974), chance(0.9999), chance(0.001)
        ('.97', '> .99', '< .01')
    """
    if 0.005 <= probability < 0.995:
        return f"{probability:.2f}".removeprefix("0")
    return "> .99" if probability > 0.5 else "< .01"


def sized(size: int) -> str:
    """Return a size in bytes as it is told.

    Example:
        >>> sized(812), sized(70190), sized(1130822)
        ('812 B', '70.2 kB', '1.13 MB')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size} B"


def marks(count: int) -> list[str]:
    """Return a letter for each encode, and numbers where there are more of them than letters."""
    return [chr(ord("A") + place) if count <= 26 else str(place + 1) for place in range(count)]


def _section(content: Content, salt: str) -> Section:
    names = marks(len(content.encodes))
    pairs = []
    for one, other in content.pairs:
        first, second = content.encodes[one], content.encodes[other]
        larger = max(first.video, second.video, key=lambda video: video.width * video.height)
        width = min(WIDTH, larger.width)
        pairs.append(
            Beside(
                first,
                second,
                (names[one], names[other]),
                (float(content.found.scores[one]), float(content.found.scores[other])),
                content.found.difference(one, other),
                (max(1, round(larger.height * width / larger.width)), width),
            )
        )
    plot = None
    if len(content.readable) > 2:
        curves = []
        for name, places in content.ladders.items():
            ordered = sorted(places, key=lambda place: content.encodes[place].rate)
            rates = np.array([content.encodes[place].rate for place in ordered])
            scores, errors = content.found.scores[ordered], content.found.stderr[ordered]
            curves.append(Curve(name, rates, scores, errors, [names[place] for place in ordered]))
        plot = rate_quality(curves, salt)
    videos = {names[place]: content.encodes[place].video for place in content.readable}
    return Section(content, names, pairs, content.bd_rates(), plot, differences(videos))


def differences(videos: Mapping[str, Video]) -> list[str]:
    """Return in what readable encodes differ that one would not see in their scores, in sentences.

    Args:
        videos: by their letters.
    """
    notes = [video.remark for video in videos.values() if video.remark]
    if len({(video.width, video.height) for video in videos.values()}) > 1:
        told = ", ".join(f"{name} {video.width} x {video.height}" for name, video in videos.items())
        notes.append(f"Frames differ in size ({told}): the smaller are shown as large as the larger.")
    if len({round(video.fps, 2) for video in videos.values()}) > 1:
        told = ", ".join(f"{name} {video.fps:.4g}" for name, video in videos.items())
        notes.append(f"Frame rates differ ({told} a second): frames are shown that are nearest in time.")
    lengths = [video.duration for video in videos.values()]
    if lengths and max(lengths) - min(lengths) >= max(1 / video.fps for video in videos.values()):
        told = ", ".join(f"{name} {video.duration:.2f} s" for name, video in videos.items())
        notes.append(f"Lengths differ ({told}): the first {min(lengths):.2f} s are compared.")
    return notes


def _picture(section: Section, pair: Beside, salt: str) -> None:
    """Add a pair's curve and its worst moments with both frames."""
    found = section.content.found
    places = [section.marks.index(mark) for mark in pair.marks]
    scores, edges = found.over_time[places], found.edges
    if len(edges) > 2:
        pair.curve = two_over_time(pair.marks, edges, scores, found.differences(*places), salt)
    worst = [least(own.tolist(), WORST) for own in scores]
    chosen = sorted({*worst[0], *worst[1]})
    spans = [(float(edges[place]), float(edges[place + 1])) for place in chosen]
    try:
        shown = [frames_at(one.video, spans, pair.size) for one in (pair.first, pair.second)]
    except (UnreadableVideo, OSError) as error:
        pair.note = str(error)
        return
    for place, *frames in zip(chosen, *shown, strict=True):
        whose = " and ".join(mark for mark, own in zip(pair.marks, worst, strict=True) if place in own)
        one, other = (jpeg(frame, QUALITY) for frame in frames)
        first, second = scores[:, place].tolist()
        pair.moments.append(Moment(float(edges[place]), whose, (first, second), (one, other)))


def told_bd_rate(found: BDRate | str) -> str:
    """Return a BD-rate with its interval, or the sentence why there is none.

    Example:
        >>> told_bd_rate(BDRate(-12.34, -30.0, 5.0, common=1.0, pooled=False))
        '-12.3 % [-30.0, +5.0]'
    """
    if isinstance(found, str):
        return found
    told = f"{found.value:+.1f} %"
    if math.isnan(found.low):
        told += f" (no interval: in {1 - found.common:.0%} of the draws the scores do not overlap)"
    else:
        told += f" [{found.low:+.1f}, {found.high:+.1f}]"
    return told + (", scores that fell with the rate averaged" if found.pooled else "")
