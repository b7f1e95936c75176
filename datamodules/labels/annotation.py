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
    """Whoever scores videos: a teacher, a file of scores, the student. A higher score is better."""

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
    by_key = {request.key: request for request in requests}
    keys = sorted(by_key, key=lambda key: (key[0], key[1] or "", key[2]))
    fingerprint = annotator.fingerprint
    have = store.have(round, fingerprint)
    missing = [by_key[key] for key in keys[rank::world_size] if key not in have]
    if not missing:
        return 0
    store.require_writable()

    def write(part: list[Annotation]) -> None:
        store.write(round, annotator.name, fingerprint, part, rank=rank, settings=annotator.settings)

    # After a restart only the clips on which the annotator failed are missing: a clip that it has scored
    # before shows that the fault is not the annotator's.
    probe = [by_key[key] for key in keys if key in have][:1]
    computed, part, began = 0, [], time.monotonic()
    try:
        for annotation in annotator.annotate([*probe, *missing], workers):
            if annotation[:3] in have:
                continue
            computed += 1
            part.append(annotation)
            if len(part) >= PART_ROWS or time.monotonic() - began > PART_SECONDS:
                full, part, began = part, [], time.monotonic()
                write(full)
    finally:
        write(part)  # also on Ctrl-C
    if computed < len(missing):
        _log.warning(
            "%s gave no score to %d of %d clips.", annotator.name, len(missing) - computed, len(missing)
        )
    return computed
