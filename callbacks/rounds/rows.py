"""The rows of `rounds.csv` and `teachers.csv`: what each column is, and how it is written."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from callbacks.rounds.scores import DIFFERENCES, Correlations, Estimate
from datamodules.files import written_whole
from datamodules.labels.teacher_weights import TeacherWeight

ACROSS = ("probe_across", "probe_across_low", "probe_across_high")


@dataclass(frozen=True)
class RoundRow:
    """One round in `rounds.csv`.

    All values are plain, so that a checkpoint that holds them is loaded with `weights_only`.

    Attributes:
        round: its number, from 0.
        pairs: number of pairs by source (synthetic, teacher, reference, and human where people's lists are
            used), those drawn as hard ones counted apart as hard: columns `pairs_SOURCE`.
        rank_accuracy: share of the report split's pairs whose order the student tells rightly.
        level_accuracy: share of the report split's pairs whose level the student tells rightly.
        flipped: share of the round's pairs of different videos whose level the new labels change; nan without
            such pairs.
        seconds: the round took, annotation included.
        srcc: annotator -> SRCC on the report split, by what it is with: truth, severity, teacher, and mos
            where people's lists are used: columns `truth_srcc_NAME` and so on. None where there is no truth.
        probe: agreement with the probe's known orders (Kendall's tau) and both ends of its 95 % interval:
            columns `probe`, `probe_low` and `probe_high`.
        verdict: kept or rejected.
        label_entropy: in bits, of the levels that random pairs have by the student's scores.
        score_spread: how far the student's scores differ between videos, in standard errors.
        annotation_seconds: of the round's seconds those in which annotators scored.
        truth: annotator -> SRCC with the hidden truth, and both ends of its interval: columns
            `truth_low_NAME` and `truth_high_NAME`; and how far the student's exceeds that of the best teacher
            and of the teachers' mean: columns `truth_over_best`, `truth_over_ensemble`, and their
            `..._low` and `..._high`. Empty where there is no truth.
        probe_across: SRCC of the student with a full-reference metric on versions of the select split's clean
            sources, and both ends of its 95 % interval: columns `ACROSS`; None without reference pairs.
    """

    round: int
    pairs: dict[str, int]
    rank_accuracy: float
    level_accuracy: float
    flipped: float
    seconds: float
    srcc: dict[str, Correlations]
    probe: tuple[float, float, float]
    verdict: str
    label_entropy: float
    score_spread: float
    annotation_seconds: float
    truth: dict[str, Estimate] = field(default_factory=dict)
    probe_across: tuple[float, float, float] | None = None

    def columns(self) -> dict[str, Any]:
        """Return header -> value, in the order of the file; None leaves a cell empty."""

        def srcc(kind: str) -> Correlations:
            return {f"{kind}_srcc_{name}": value for name, value in self.srcc.get(kind, {}).items()}

        pairs = {f"pairs_{source}": count for source, count in self.pairs.items()}
        human = {"pairs_human": pairs.pop("pairs_human")} if "human" in self.pairs else {}
        return {
            "round": self.round,
            **pairs,
            "rank_accuracy": self.rank_accuracy,
            "level_accuracy": self.level_accuracy,
            "flipped": self.flipped,
            "seconds": self.seconds,
            **srcc("truth"),
            **srcc("severity"),
            **srcc("teacher"),
            **human,
            **srcc("mos"),
            **dict(zip(("probe", "probe_low", "probe_high"), self.probe, strict=True)),
            "verdict": self.verdict,
            "label_entropy": self.label_entropy,
            "score_spread": self.score_spread,
            "annotation_seconds": self.annotation_seconds,
            **self._truth_columns(),
            **({} if self.probe_across is None else dict(zip(ACROSS, self.probe_across, strict=True))),
        }

    def _truth_columns(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, (value, low, high) in self.truth.items():
            if name in DIFFERENCES:
                found |= {f"truth_{name}": value, f"truth_{name}_low": low, f"truth_{name}_high": high}
            else:
                found |= {f"truth_low_{name}": low, f"truth_high_{name}": high}
        return found


@dataclass(frozen=True)
class TeacherRow:
    """One teacher in `teachers.csv`.

    Attributes:
        teacher: its name.
        fingerprint: its fingerprint.
        agreement: with `judged_by`, from -1 to 1.
        low: lower end of the 95 % interval of the agreement.
        high: upper end of that interval.
        judged_by: order, by Kendall's tau with known severities; or teachers, by the correlation with the
            others: column `with`.
        weight: in the consensus, from 0 to 1.
        verdict: sound, noise, upside-down or unjudged, as `TeacherWeight` has it.
    """

    teacher: str
    fingerprint: str
    agreement: float
    low: float
    high: float
    judged_by: str
    weight: float
    verdict: str

    def columns(self) -> dict[str, Any]:
        """Return header -> value, in the order of the file."""
        return {"with" if name == "judged_by" else name: value for name, value in asdict(self).items()}


def teacher_rows(teachers: Sequence[TeacherWeight], *, equal: bool) -> list[TeacherRow]:
    """Return what was found of the teachers, and the weight that each has in the consensus.

    Args:
        teachers: of `weigh_teachers`.
        equal: whether all have the same weight, whatever was found.
    """
    return [
        TeacherRow(
            one.name,
            one.fingerprint,
            one.agreement.value,
            *one.agreement.interval,
            "order" if one.by_order else "teachers",
            1 / len(teachers) if equal else one.weight,
            one.verdict,
        )
        for one in teachers
    ]


def pair_counts(pairs: pa.Table, *, human: bool) -> dict[str, int]:
    """Return the number of pairs by source, hard ones counted apart; of people's only where `human`."""
    easy = pairs.filter(pc.invert(pairs["hard"]))["source"].to_pylist()
    counts = {source: easy.count(source) for source in ("synthetic", "teacher", "reference")}
    return counts | {"hard": len(pairs) - len(easy)} | ({"human": easy.count("human")} if human else {})


def write_rows(file: Path, rows: Sequence[RoundRow] | Sequence[TeacherRow]) -> None:
    """Write a CSV of the run folder, whole or not at all."""
    tables = [row.columns() for row in rows]
    with written_whole(file) as hidden, hidden.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(tables[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(name, value) for name, value in row.items()} for row in tables)


def _cell(name: str, value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return f"{value:.1f}" if name.endswith("seconds") else f"{value:.6f}"
