"""What the students of benchmarks/weak_to_strong.py learn from: the paper's staircase and its controls.

One training may give several students, one for each of its rounds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from callbacks.annotators import Relabel
from datamodules.hard_pairs import Rule

TEACHERS = {"niqe": "datamodules.niqe.NIQE", "artefacts": "datamodules.artefacts.Artefacts"}
ENSEMBLE, LAPLACIAN = "both teachers, weighted", "mean absolute Laplacian"

GROWTH = {
    "later_pairs": {"synthetic": 15 / 250, "teacher": 85 / 250},
    "union": True,
    "hard_share": 1.0,
}
"""Later rounds of METHOD section 1, as settings of the datamodule."""


@dataclass(frozen=True)
class Control:
    """What another second round does otherwise."""

    hard_share: float = 1.0
    hard: Rule = "gmad"
    relabel: Relabel = "replace"


@dataclass(frozen=True)
class Training:
    """What a student learns from.

    Attributes:
        students: row of the table that the student at the end of each round is; none where controls follow.
        teachers: who labels round 1.
        synthetic: share of the pairs of round 1; half of them, as in METHOD section 1.
        confidence: whether the pairwise loss has the confidence term.
        length: steps and pairs of a round, in those of the others.
        growth: what later rounds draw, as settings of the datamodule.
        restart: where they begin.
        controls: row of the table -> another second round.
        beside: rows of annotators that are judged with it.
    """

    students: tuple[str, ...]
    teachers: tuple[str, ...] = tuple(TEACHERS)
    synthetic: float = 0.5
    confidence: bool = True
    length: int = 1
    growth: Mapping[str, Any] = field(default_factory=dict)
    restart: Literal["base", "continue"] = "continue"
    controls: Mapping[str, Control] = field(default_factory=dict)
    beside: tuple[str, ...] = ()

    @property
    def stages(self) -> int:
        """What it costs, in trainings of one round."""
        return self.length * (len(self.students) + len(self.controls))

    def rows(self, corpus: str) -> tuple[str, ...]:
        """Rows of the table that it gives; the contents of clips are too few to tell controls apart."""
        return (*self.students, *(self.controls if corpus == "embedded" else ()), *self.beside)


ROUNDS = ("+ confidence loss: round 1", "round 2", "round 3")
CONTINUED = ("continued: round 1", "continued: round 2", "continued: round 3")
SINGLE = "one stage, three times the pairs and steps"
FIRST_OF_ALL = "student of both teachers"
BESIDE = (*TEACHERS, ENSEMBLE, LAPLACIAN)

CONTROLS = {
    "round 2 without relabelling": Control(relabel="never"),
    "round 2, labels blended": Control(relabel="blend"),
    "round 2 without hard pairs": Control(hard_share=0.0),
    "round 2, hard by highest loss": Control(hard="loss"),
    "round 2, hard by lowest confidence": Control(hard="confidence"),
    "round 2, hard at random": Control(hard="random"),
}

TRAININGS = (
    Training((FIRST_OF_ALL,), synthetic=0.0, confidence=False, beside=BESIDE),
    Training(("student of NIQE",), ("niqe",), synthetic=0.0, confidence=False),
    Training(("student of Artefacts",), ("artefacts",), synthetic=0.0, confidence=False),
    Training(("+ synthetic pairs",), confidence=False),
    Training(ROUNDS, growth=GROWTH, restart="base"),
    Training(CONTINUED),
    Training((SINGLE,), length=3),
    Training((), growth=GROWTH, restart="base", controls=CONTROLS),
)
