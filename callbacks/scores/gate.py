"""A gate for pipelines: which scores are too low, or lower than they were, and how sure that is."""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from scipy.special import ndtr

from callbacks.scores.pooling import POOLS
from callbacks.scores.rows import Row, one_sentence, read_rows
from callbacks.scores.table import SCHEMA
from datamodules.checks import check_above, check_between
from datamodules.errors import InputError

EXIT_CODE = 3
"""Of a command whose scores did not pass."""


class GateClosed(Exception):  # noqa: N818 - it is no error: the command did what it was asked for
    """Scores did not pass; the message has a line for each file."""


class Limit(NamedTuple):
    """A column and the least that it may be.

    Attributes:
        column: `score`, `percentile`, or a pool over time.
        least: in the column's unit.
    """

    column: str
    least: float


@dataclass(frozen=True)
class Gate:
    """What scores must hold.

    Args:
        fail_below: limits, each a number for `score` or `COLUMN:NUMBER`.
        baseline: a file that predict wrote before, by the same model; null: none.
        max_drop: by which a score may be lower than in the baseline.
        confidence: of the statement that a score has dropped at all, without which no drop counts.
        junit: file to write as JUnit XML; null: none.

    Raises:
        InputError: a value is no limit or out of its range, or the baseline is no file of scores.
    """

    fail_below: Sequence[str] = ()
    baseline: str | None = None
    max_drop: float = 0.0
    confidence: float = 0.95
    junit: str | None = None

    def __post_init__(self) -> None:
        """Check the values, before anything is scored."""
        check_between("--confidence", self.confidence, 0.5, 1)
        if self.max_drop:
            check_above("--max-drop", self.max_drop, 0)
            if self.baseline is None:
                raise InputError("--max-drop needs a --baseline FILE that predict wrote before.")
        _ = self.limits, self.before

    @property
    def limits(self) -> list[Limit]:
        """The limits, parsed."""
        return [_limit(text) for text in self.fail_below]

    @property
    def before(self) -> dict[str, Row]:
        """The rows of the baseline by their path."""
        if self.baseline is None:
            return {}
        try:
            rows = read_rows(Path(self.baseline), SCHEMA)
        except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
            raise InputError(f"--baseline {self.baseline} is no file that predict wrote.") from error
        if not rows:
            raise InputError(f"--baseline {self.baseline} has no row: name scores that predict wrote.")
        return {str(row["path"]): row for row in rows}

    @property
    def asked(self) -> bool:
        """Whether there is anything to hold."""
        return bool(self.fail_below) or self.baseline is not None

    def check(self, rows: Sequence[Row], model: str) -> None:
        """Write the JUnit file, and pass or not.

        Args:
            rows: all rows that predict has written.
            model: name and hash.

        Raises:
            GateClosed: a file does not hold a limit, has dropped, or cannot be read.
            InputError: the baseline is another model's, or has none of the files; a column is not there.
        """
        if not self.asked:
            return
        faults = self.faults(rows, model)
        if self.junit is not None:
            write_junit(Path(self.junit), [str(row["path"]) for row in rows], faults)
        if faults:
            lines = [f"{path}: {'; '.join(said)}" for path, said in faults.items()]
            raise GateClosed("\n".join([*lines, f"{len(faults)} of {len(rows)} files did not pass"]))

    def faults(self, rows: Sequence[Row], model: str) -> dict[str, list[str]]:
        """Return path -> what is wrong with its score, for the files that do not pass."""
        before = _matched([str(row["path"]) for row in rows], self.before)
        if self.baseline is not None:
            models = {row["model"] for row in self.before.values()}
            if models != {model}:
                others = ", ".join(sorted(map(str, models)))
                raise InputError(
                    f"--baseline {self.baseline} was written with {others}, not with {model}: "
                    "scores of two models have no common scale."
                )
            if rows and not before:
                raise InputError(f"--baseline {self.baseline} has none of the files that were scored.")
        found: dict[str, list[str]] = {}
        for row in rows:
            path = str(row["path"])
            if row["score"] is None:
                said = [str(row["error"]).removeprefix(path).strip() or "has no score"]
            else:
                said = [_below(row, limit) for limit in self.limits]
                said += [self._dropped(row, before[path])] if path in before else []
            if any(said):
                found[path] = [one for one in said if one]
        return found

    def _dropped(self, row: Row, before: Row) -> str:
        if before["score"] is None:
            return ""
        drop, joint = before["score"] - row["score"], math.hypot(before["stderr"], row["stderr"])
        sure = float(ndtr(drop / joint)) if joint else float(drop > 0)
        if drop <= self.max_drop or sure < self.confidence:
            return ""
        return (
            f"score {row['score']:.1f} is {drop:.1f} below the baseline's {before['score']:.1f} "
            f"(at most {self.max_drop:g} wanted; lower with probability {_sure(sure)})"
        )


def _limit(text: str) -> Limit:
    column, colon, number = text.rpartition(":")
    column = column if colon else "score"
    if column not in (known := ("score", "percentile", *POOLS)) or not re.fullmatch(r"-?\d+(\.\d+)?", number):
        names = ", ".join(known[1:])
        raise InputError(
            f"--fail-below must be a number for the score, or COLUMN:NUMBER with one of {names}; got {text}."
        )
    return Limit(column, float(number))


def _below(row: Row, limit: Limit) -> str:
    """Return what to say of a row that does not hold a limit."""
    column, least = limit
    value = row.get(column)
    if value is None or math.isnan(value):
        remedy = "give --data.score_every" if column in POOLS else "the checkpoint is older than percentiles"
        raise InputError(f"--fail-below {column}:{least:g} asks for a column that is not there: {remedy}.")
    if value >= least:
        return ""
    told = f"{column} {value:.1f} is {least - value:.1f} below {least:g}"
    stderr = row.get("stderr" if column == "score" else f"{column}_stderr")
    if not stderr:
        return told
    return f"{told} (below it with probability {_sure(float(ndtr((least - value) / stderr)))})"


def _sure(probability: float) -> str:
    """Return a probability with two digits, and never as certain.

    Example:
        >>> _sure(0.9731), _sure(0.99999)
        ('.97', 'above .99')
    """
    return "above .99" if probability > 0.994 else f"{probability:.2f}".replace("0.", ".", 1)


def _matched(paths: Sequence[str], before: Mapping[str, Row]) -> dict[str, Row]:
    """Return path -> the baseline's row: of the same path, or else of the one file of that name."""
    by_name: dict[str, list[str]] = {}
    for path in before:
        by_name.setdefault(Path(path).name, []).append(path)
    names = [Path(path).name for path in paths]
    found = {}
    for path, name in zip(paths, names, strict=True):
        if path in before:
            found[path] = before[path]
        elif names.count(name) == 1 and len(by_name.get(name, [])) == 1:
            found[path] = before[by_name[name][0]]
    return found


def write_junit(file: Path, paths: Sequence[str], faults: Mapping[str, Sequence[str]]) -> None:
    """Write a JUnit file with a test case for each video.

    Args:
        file: to write.
        paths: of all videos.
        faults: path -> what is wrong.

    Raises:
        InputError: the file cannot be written.
    """
    count = {"tests": str(len(paths)), "failures": str(len(faults)), "errors": "0"}
    suite = ElementTree.Element("testsuite", {"name": "vqa-lightning predict", **count})
    for path in paths:
        case = ElementTree.SubElement(suite, "testcase", {"classname": "score", "name": _printable(path)})
        if path in faults:
            message = _printable("; ".join(faults[path]))
            ElementTree.SubElement(case, "failure", {"message": message, "type": "score"}).text = message
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    with one_sentence(file):
        ElementTree.ElementTree(suites).write(file, encoding="utf-8", xml_declaration=True)


def _printable(text: str) -> str:
    """Replace what XML cannot hold."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
