"""What every annotator is asked for in every round: all videos, and ladders of the videos held out."""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from datamodules.labels import Request
from datamodules.round_data import RoundDataModule
from datamodules.simulators import SIMULATORS, Simulator, find_simulators
from datamodules.video import Video

CALIBRATION_LADDERS = 42
"""Ladders that scale the errors: 24 leave these uncertain by up to a third, and more keep the codecs busy."""

REPORT_CONTENTS = 24
"""Contents of the report split whose ladders are scored: nothing but the report asks for them."""

SLOW = ("h265",)
"""Simulators that scale the errors only where they are named: of whole frames x265 encodes a few a second."""


class RoundRequests(NamedTuple):
    """Videos and versions of them, the same in all rounds.

    Attributes:
        sources: the readable videos of all splits.
        report: ladders of the report split by simulators that are trained on, for the report: on one video
            each of at most about `REPORT_CONTENTS` contents.
        select: the same of the select split, for the weights of teachers and the probe.
        errors: ladders of the select split by simulators that are not trained on; these scale the student's
            errors and belong to the probe.
        references: versions of the select split's clean sources, which the student is judged by across
            contents; a full-reference metric scores them, and no teacher.
    """

    sources: list[Request]
    report: list[Request]
    select: list[Request]
    errors: list[Request]
    references: list[Request]

    @property
    def probe(self) -> list[Request]:
        """All ladders of the select split, each version once."""
        return list({request.key: request for request in (*self.select, *self.errors)}.values())

    @property
    def of_teachers(self) -> list[Request]:
        """What the teachers are asked for."""
        return [*self.sources, *self.report, *self.select]

    @property
    def of_student(self) -> list[Request]:
        """What the student is asked for at the end of a round."""
        return [*self.sources, *self.report, *self.probe, *self.references]


def ids(data: RoundDataModule, split: str) -> list[str]:
    """Return the ids of the readable videos of a split."""
    return [video.video_id for video in data.split(split)]


def round_requests(
    data: RoundDataModule, count: int, calibration_simulators: list[str] | None
) -> RoundRequests:
    """Find what a run's annotators are asked for.

    Args:
        data: after its setup, with videos in all splits.
        count: simulators whose ladder is asked for on each content.
        calibration_simulators: as `SelfImprovement` has it.
    """
    splits = ("train", "select", "report")
    trained = list(data.simulators.values())
    shown, select = one_a_content(data.split("report")), data.split("select")
    few = select[:: ceil(len(select) / CALIBRATION_LADDERS)]
    return RoundRequests(
        [Request(video) for split in splits for video in data.split(split)],
        ladders(shown[:: ceil(len(shown) / REPORT_CONTENTS)], trained, count),
        ladders(select, trained, count),
        ladders(few, _calibrating(data, calibration_simulators), ceil(CALIBRATION_LADDERS / len(few))),
        [] if data.clean is None else data.clean.probe,
    )


def one_a_content(videos: Sequence[Video]) -> list[Video]:
    """Return the first video of each content, in order.

    Example:
        >>> [one.path for one in one_a_content([Video("0", "a", content="x"), Video("1", "b", content="x")])]
        ['a']
    """
    return list({video.content: video for video in reversed(videos)}.values())[::-1]


def _calibrating(data: RoundDataModule, names: list[str] | None) -> list[Simulator]:
    if names is not None:
        return list(find_simulators(names).values())
    unseen = [simulator for name, simulator in SIMULATORS.items() if name not in (*data.simulators, *SLOW)]
    return unseen or list(data.simulators.values())


def ladders(videos: Sequence[Video], simulators: Sequence[Simulator], count: int) -> list[Request]:
    """Return all levels of `count` simulators on each video, the simulators taking turns."""
    return [
        Request(video, simulator, level + 1)
        for place, video in enumerate(videos)
        for turn in range(min(count, len(simulators)))
        for simulator in [simulators[(place * count + turn) % len(simulators)]]
        for level in range(len(simulator.levels))
    ]
