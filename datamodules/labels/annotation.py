"""Annotation: what is to be scored, who scores it, and the loop that computes only missing scores.

Teachers at round 0 and the student at every later round go through the same loop. A rank's share depends on
the requests alone and never on the state of the store, so that ranks that start at different moments leave no
gap.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from datamodules.labels.label_store import Annotation, Key, LabelStore
from datamodules.simulators import Simulator
from datamodules.video import Span, Video

PART_ROWS = 4096

PART_SECONDS = 300.0
"""A part is written when it has this many scores or is this old. Smaller parts would lose less with a killed
process, but make more files of a large corpus."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """A video to be scored: the source itself, a distorted version of it, or a span of it.

    Attributes:
        video: the source.
        simulator: None for the source itself.
        level: of the simulator.
        span: seconds between which the clips lie; None: the whole video. The label store knows no spans.
    """

    video: Video
    simulator: Simulator | None = None
    level: int = 0
    span: Span | None = None

    @property
    def key(self) -> Key:
        """Video id, the simulator's identity and level, as the label store keeps them."""
        return self.video.video_id, None if self.simulator is None else self.simulator.identity, self.level


class Annotator(Protocol):
    """Whoever scores videos: a teacher, a file of scores, the student. A higher score is better.

    One that scores in batches may say by `together` how many requests a batch has (1 where it does not).
    """

    name: str

    @property
    def fingerprint(self) -> str:
        """Hexadecimal hash of name, settings and fit; scores of another fingerprint do not count."""

    @property
    def settings(self) -> Mapping[str, object]:
        """What the fingerprint stands for, in plain types; kept beside the scores."""

    def annotate(self, requests: Sequence[Request], workers: int) -> Iterator[Annotation]:
        """Score the requests; name each unreadable video in a warning and leave it out.

        Args:
            requests: what is to be scored.
            workers: processes that read clips; 0 reads in this one.
        """


def fingerprint_of(name: str, settings: Mapping[str, object]) -> str:
    """Hash a name and plain settings to 12 hexadecimal digits.

    Example:
        >>> fingerprint_of("niqe", {"window": None})
        '5b1de90f2a7a'
    """
    canonical = json.dumps([name, settings], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def annotate_missing(
    annotator: Annotator,
    requests: Sequence[Request],
    store: LabelStore,
    round: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
) -> int:
    """Score this rank's share of the requests that the store does not have yet, and write them in parts.

    After an interruption at any moment, the same call goes on where the last whole part ended. Every rank
    must be given the same requests; wait for all ranks before reading the store.

    Args:
        annotator: who scores.
        requests: all that is to be scored, by all ranks together; repeated keys count once.
        store: where scores are kept.
        round: 0 for teachers.
        rank: this process.
        world_size: the number of processes.
        workers: processes that read clips, of this rank.

    Returns:
        How many scores were computed here.

    Raises:
        InputError: the store cannot be written to.
    """
    together: int = getattr(annotator, "together", 1)
    asked = missing_requests(annotator, requests, store, round, rank, world_size, together)
    if not asked:
        return 0
    store.require_writable()
    have = store.have(round, annotator.fingerprint)
    probe = []
    if together == 1:
        # After a restart only the clips on which the annotator failed are missing: a clip that it has scored
        # before shows that the fault is not the annotator's.
        probe = [request for request in sorted(requests, key=_order) if request.key in have][:1]
    parts = Parts(annotator, store, round, rank)
    try:
        for annotation in annotator.annotate([*probe, *asked], workers):
            if annotation[:3] not in have:
                parts.add(annotation)
    finally:
        parts.flush()  # also on Ctrl-C
    parts.tell(sum(request.key not in have for request in asked))
    return parts.count


def missing_requests(
    annotator: Annotator,
    requests: Sequence[Request],
    store: LabelStore,
    round: int,
    rank: int,
    world_size: int,
    together: int = 1,
) -> list[Request]:
    """Return this rank's share of the requests that the store has no score of, in an order of their own.

    Of so many requests in this order all are returned where one has no score. What was scored as one batch
    is scored as that batch again after an interruption: its size decides the last digits.

    Args:
        annotator: whose scores.
        requests: all that is to be scored, by all ranks together; repeated keys count once.
        store: where scores are kept.
        round: in the store.
        rank: this process.
        world_size: the number of processes.
        together: how many requests are scored as one batch.
    """
    by_key = {request.key: request for request in requests}
    mine = sorted(by_key.values(), key=_order)[rank::world_size]
    have = store.have(round, annotator.fingerprint)
    batches = {place // together for place, request in enumerate(mine) if request.key not in have}
    return [request for place, request in enumerate(mine) if place // together in batches]


def _order(request: Request) -> tuple[str, str, int]:
    video, simulator, level = request.key
    return video, simulator or "", level


class Parts:
    """Scores on their way to the store, written in parts.

    Args:
        annotator: who gave them.
        store: where they go.
        round: in the store.
        rank: this process.
    """

    def __init__(self, annotator: Annotator, store: LabelStore, round: int, rank: int) -> None:
        self.annotator = annotator
        self.count = 0
        self._store, self._round, self._rank = store, round, rank
        self._part: list[Annotation] = []
        self._began = time.monotonic()

    def add(self, annotation: Annotation) -> None:
        """Take one score; write a part that is full or old."""
        self.count += 1
        self._part.append(annotation)
        if len(self._part) >= PART_ROWS or time.monotonic() - self._began > PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what has come since the last part."""
        part, self._part, self._began = self._part, [], time.monotonic()
        one = self.annotator
        self._store.write(
            self._round, one.name, one.fingerprint, part, rank=self._rank, settings=one.settings
        )

    def tell(self, wanted: int) -> None:
        """Say in a warning how many of the scores that were wanted did not come."""
        if self.count < wanted:
            _log.warning(
                "%s gave no score to %d of %d clips.", self.annotator.name, wanted - self.count, wanted
            )
