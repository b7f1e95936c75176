"""What the students of benchmarks/weak_to_strong.py learn from: the paper's staircase and its controls.

One training may give several students, one for each of its rounds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from callbacks.rounds.labels import Relabel
from datamodules.pairs.hard.recorded import Rule

TEACHERS = {"niqe": "datamodules.NIQE", "artefacts": "datamodules.Artefacts"}
TRUTH = "truth"
"""In the teachers' place: the hidden truth of the procedural contents. No method, but a ceiling."""

ENSEMBLE, LAPLACIAN = "both teachers, weighted", "mean absolute Laplacian"

HALVES = {"synthetic": 1 / 2, "teacher": 1 / 2}
"""Pairs of a stage by source, as in the paper."""

MIXED = {"synthetic": 0.2, "teacher": 0.3, "reference": 0.5}
"""Ours: chosen on other contents than those that judge here."""

HARD_SHARE = 0.2
"""Of a later round's pairs: the paper's second stage has 100 of 600 thousand, its third 200 of 700."""

GROWTH = {
    "later.shares": {"synthetic": 15 / 250, "teacher": 85 / 250, "reference": 15 / 250},
    "later.union": True,
    "hard.share": 1.0,
}
"""Later rounds of the paper, as settings of the datamodule."""


@dataclass(frozen=True)
class Control:
    """What another second round does otherwise."""

    hard_share: float = HARD_SHARE
    hard: Rule = "gmad"
    relabel: Relabel = "blend"


@dataclass(frozen=True)
class Training:
    """What a student learns from.

    Attributes:
        students: row of the table that the student at the end of each round is.
        teachers: who labels round 1, keys of `TEACHERS` or `TRUTH`.
        shares: source -> share of the pairs of round 1.
        confidence: whether the pairwise loss has the confidence term.
        length: steps and pairs of a round, in those of the others.
        growth: what later rounds draw, as settings of the datamodule.
        relabel: who labels later rounds.
        restart: where they begin.
        controls: row of the table -> another second round.
        beside: rows of annotators that are judged with it.
        clips: whether it is worth its time on real clips, whose contents are few.
    """

    students: tuple[str, ...]
    teachers: tuple[str, ...] = tuple(TEACHERS)
    shares: Mapping[str, float] = field(default_factory=lambda: MIXED)
    confidence: bool = True
    length: int = 1
    growth: Mapping[str, Any] = field(default_factory=lambda: {"hard.share": HARD_SHARE})
    relabel: Relabel = "blend"
    restart: Literal["base", "continue"] = "continue"
    controls: Mapping[str, Control] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    clips: bool = True

    @property
    def stages(self) -> int:
        """What it costs, in trainings of one round."""
        return self.length * (len(self.students) + len(self.controls))

    def rows(self, corpus: str) -> tuple[str, ...]:
        """Return the rows of the table that the training gives."""
        if corpus == "clips":
            return (*self.students, *self.beside) if self.clips else ()
        return (*self.students, *self.controls, *self.beside)


FIRST_OF_ALL = "student of both teachers"
ROUNDS = ("+ confidence loss: round 1", "round 2", "round 3")
RESTARTED = ("union and restarts: round 1", "union and restarts: round 2", "union and restarts: round 3")
SINGLE = "one stage, three times the pairs and steps"
CEILING = "the same under the hidden truth: a ceiling"
BESIDE = (*TEACHERS, ENSEMBLE, LAPLACIAN)

CONTROLS = {
    "round 2 without relabelling": Control(relabel="never"),
    "round 2, labels replaced": Control(relabel="replace"),
    "round 2 without hard pairs": Control(hard_share=0.0),
    "round 2, hard by highest loss": Control(hard="loss"),
    "round 2, hard by lowest confidence": Control(hard="confidence"),
    "round 2, hard at random": Control(hard="random"),
}

ALONE = {"teacher": 1.0}

TRAININGS = (
    Training((FIRST_OF_ALL,), shares=ALONE, confidence=False, beside=BESIDE),
    Training(("student of NIQE",), ("niqe",), shares=ALONE, confidence=False),
    Training(("student of Artefacts",), ("artefacts",), shares=ALONE, confidence=False),
    Training(("+ synthetic pairs",), shares=HALVES, confidence=False),
    Training(("+ reference pairs",), confidence=False),
    Training(ROUNDS, controls=CONTROLS),
    Training(RESTARTED, growth=GROWTH, relabel="replace", restart="base", clips=False),
    Training((SINGLE,), length=3),
    Training((CEILING,), (TRUTH,), length=3, clips=False),
)
