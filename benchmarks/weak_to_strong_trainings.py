"""What the students of benchmarks/weak_to_strong.py learn from: the method, and the method without each part.

Every training is `configs/round.yaml` with some settings of the command line. One training gives a student at
the end of each of its rounds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from datamodules.simulators import find_simulators

Videos = Literal["embedded", "with real", "real"]
"""Of the train split: the embedded corpus's, real clips of half of the repositories beside them, or alone."""

GROUPS = (("sharpness", "temporal"), ("noise", "tone", "geometry"), ("compression",))
"""Families that the students of a seed never see; over three seeds each is left out once."""

LADDERS = (("blur", "downup", "drop"), ("grain", "gamma"), ("x264", "x265", "vp9", "av1"))
"""Ladders of real clips by the group of what makes them."""

LEVELS = (0, 1, 2, 3, 4, 5)

PAIRS, STEPS = {"synthetic": 144, "teacher": 384, "reference": 1872}, 100
"""Of a round, as in the config."""

ENCODERS = ("h264", "h265", "vp9", "av1")


def counts(**pairs: int) -> dict[str, object]:
    """Return settings for so many pairs of a round."""
    return {f"data.counts.{source}": pairs.get(source, 0) for source in PAIRS}


@dataclass(frozen=True)
class Training:
    """What a student learns from.

    Attributes:
        students: row of the table that the student at the end of each of the last rounds is.
        settings: of the command line.
        without: what versions do not go through, beside the families that a seed leaves out.
        videos: of the train split.
        references: whether real clips are sources of reference labels.
        labelled_by: row of the student whose checkpoint labels videos in the teachers' place.
    """

    students: tuple[str, ...]
    settings: Mapping[str, object] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    videos: Videos = "embedded"
    references: bool = False
    labelled_by: str | None = None

    @property
    def name(self) -> str:
        """The row of its last student."""
        return self.students[-1]


ROUNDS = ("round 1", "round 2", "round 3")
PAPER = tuple(f"union and restarts: {name}" for name in ROUNDS)
ONE_STAGE = "one stage of as many pairs and steps"
TEACHERS_ALONE = "teachers' pairs alone"

GROWTH = {
    "data.later.shares": {"synthetic": 0.06, "teacher": 0.34, "reference": 0.06},
    "data.later.union": True,
    "data.later.hard.share": 1.0,
    "callbacks.SelfImprovement.relabel": "replace",
    "callbacks.SelfImprovement.restart": "base",
}
"""Later rounds of the paper."""

UNTRAINED = {
    "model.lmm.quality_tower": None,
    "model.lmm.pictures": True,
    "model.lmm.feature_cache": None,
}
"""The embedded family's own tower sees, which learns from random weights."""

THREE = {"trainer.max_epochs": 3}
FAMILIES = (
    Training(ROUNDS, THREE),
    Training((ONE_STAGE,), counts(**{source: 3 * count for source, count in PAIRS.items()})),
    Training(("without reference labels",), {**THREE, **counts(synthetic=655, teacher=1745)}),
    Training(
        ("without the pretrained tower",),
        {**THREE, **UNTRAINED},
    ),
    Training(("without codecs",), THREE, ENCODERS),
    Training(("without chains",), THREE, ("chains",)),
    Training(
        ("without teachers",),
        {**THREE, **counts(synthetic=171, reference=2229), "data.references.teachers": 0},
    ),
    Training(("without synthetic pairs",), {**THREE, **counts(teacher=408, reference=1992)}),
    Training(PAPER, {**THREE, **GROWTH}),
    Training((TEACHERS_ALONE,), {**THREE, **counts(teacher=2000)}),
)
"""With families left out in turn, judged on all real clips."""

EMBEDDED = tuple(f"embedded corpus: {name}" for name in ROUNDS)
BY_STUDENT, BY_TEACHERS = "real pairs by the student", "real pairs by the teachers"
REAL_PAIRS = {
    "trainer.max_epochs": 1,
    **counts(synthetic=400, teacher=2000),
    "callbacks.SelfImprovement.relabel": "never",
}
HALVES = (
    Training(EMBEDDED, THREE),
    Training(
        ("and real clips, severity alone",),
        {**THREE, **counts(synthetic=600, reference=1872, teacher=384)},
        videos="with real",
    ),
    Training(
        ("and real clips, reference labels too",),
        {**THREE, **counts(synthetic=300, reference=2900, teacher=384)},
        videos="with real",
        references=True,
    ),
    Training((BY_TEACHERS,), REAL_PAIRS, videos="real"),
    Training((BY_STUDENT,), REAL_PAIRS, videos="real", labelled_by=EMBEDDED[-1]),
)
"""With all families, on half of the repositories and judged on the other; a seed's half is its parity."""


def trained(seed: int) -> list[str]:
    """Return the names of the distortions that the students of a seed learn from."""
    out = GROUPS[seed % len(GROUPS)]
    return [name for name, one in find_simulators(None).items() if one.family not in out]
