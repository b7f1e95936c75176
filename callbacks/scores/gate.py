"""A gate for pipelines: which scores are too low, or lower than they were, and how sure that is."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from scipy.special import ndtr

from callbacks.scores.pooling import POOLS, Pool
from callbacks.scores.rows import Row, checked_place, one_sentence, read_rows
from callbacks.scores.table import SCHEMA
from datamodules.checks import check_above, check_between, is_number
from datamodules.errors import InputError
from datamodules.names import place_of

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

EXIT_CODE = 3
"""Of a command whose scores did not pass."""


OVER_TIME = "give --data.score_every"

COLUMNS = ("percentile", *POOLS)
"""Columns beside the score that may have a limit."""


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


@dataclass
class Gate:
    """What scores must hold.

    Args:
        fail_below: limits, each a number for `score` or `COLUMN:NUMBER`; in lists, where it is given again.
        baseline: a file that predict wrote before, by the same model; null: none.
        max_drop: by which a score may be lower than in the baseline.
        confidence: of the statement that a score has dropped at all, without which no drop counts.
        junit: file to write as JUnit XML; null: none.

    Attributes:
        limits: parsed.
        before: rows of the baseline, by their path: as they are before anything is scored.

    Raises:
        InputError: a value is no limit or out of its range, the baseline is no file of scores, or the JUnit
            file's folder does not exist.
    """

    fail_below: Sequence[Any] | str | float = ()
    baseline: str | None = None
    max_drop: float = 0.0
    confidence: float = 0.95
    junit: str | None = None
    limits: list[Limit] = field(init=False)
    before: dict[str, Row] = field(init=False)

    def __post_init__(self) -> None:
        """Check the values, before anything is scored."""
        check_between("--confidence", self.confidence, 0.5, 1)
        if self.max_drop:
            check_above("--max-drop", self.max_drop, 0)
            if self.baseline is None:
                raise InputError("--max-drop needs a --baseline FILE that predict wrote before.")
        if self.junit is not None:
            checked_place(self.junit, "--junit")
        self.limits = [_limit(text) for text in _words(self.fail_below)]
        self.before = self._read_baseline()

    def _read_baseline(self) -> dict[str, Row]:
        if self.baseline is None:
            return {}
        try:
            rows = read_rows(place_of(self.baseline), SCHEMA, ("whole", *POOLS))
        except InputError as error:
            raise InputError(f"--baseline {self.baseline} is no file that predict wrote: {error}") from error
        if not rows:
            raise InputError(f"--baseline {self.baseline} has no row: name scores that predict wrote.")
        return {str(row["path"]): row for row in rows}

    @property
    def asked(self) -> bool:
        """Whether there is anything to hold."""
        return bool(self.limits) or self.baseline is not None

    def check_output(self, output: Path) -> None:
        """Refuse a baseline that the command would write over.

        Raises:
            InputError: the baseline is the output.
        """
        if self.baseline is not None and Path(self.baseline).resolve() == output.resolve():
            raise InputError(f"--baseline {self.baseline} is the --output: name another output.")

    def check_baseline(self, model: str, pool: Pool | None) -> None:
        """Refuse a baseline whose scores are of another scale.

        Args:
            model: name and hash of the model that scores.
            pool: over time, which stands under `score`.

        Raises:
            InputError: the baseline is another model's, or has another pool.
        """
        models = {str(row["model"]) for row in self.before.values()}
        if models and models != {model}:
            raise InputError(
                f"--baseline {self.baseline} was written with {', '.join(sorted(models))}, not with {model}: "
                "scores of two models have no common scale."
            )
        for row in self.before.values():
            other = "whole" in row if pool is None else row.get(pool) != row["score"]
            if is_number(row["score"]) and other:
                with_it = "without --pool" if pool is None else f"with --pool {pool}"
                raise InputError(f"--baseline {self.baseline} was not written {with_it}, as this command is.")

    def check(self, rows: Sequence[Row]) -> None:
        """Write the JUnit file, and pass or not.

        Args:
            rows: all rows that predict has written.

        Raises:
            GateClosed: a file does not hold a limit, has dropped, or cannot be read.
            InputError: the baseline has none of the files, a column is not there, or the JUnit file cannot be
                written.
        """
        faults = self.faults(rows) if self.asked else {}
        if self.junit is not None:
            write_junit(Path(self.junit), [str(row["path"]) for row in rows], faults)
        if faults:
            lines = [f"{path}: {'; '.join(said)}" for path, said in faults.items()]
            raise GateClosed("\n".join([*lines, f"{len(faults)} of {len(rows)} files did not pass"]))

    def faults(self, rows: Sequence[Row]) -> dict[str, list[str]]:
        """Return path -> what is wrong with its score, for the files that do not pass."""
        scored = [row for row in rows if is_number(row["score"])]
        for column in {limit.column for limit in self.limits}:
            if scored and not any(is_number(row.get(column)) for row in scored):
                remedy = "the checkpoint is older than percentiles" if column == "percentile" else OVER_TIME
                raise InputError(f"--fail-below {column} asks for a column that is not there: {remedy}.")
        before = _matched([str(row["path"]) for row in rows], self.before)
        if self.baseline is not None and rows and not before:
            raise InputError(f"--baseline {self.baseline} has none of the files that were scored.")
        found: dict[str, list[str]] = {}
        for row in rows:
            path = str(row["path"])
            if not is_number(row["score"]):
                said = [str(row["error"]).removeprefix(path).strip() or "has no score"]
            else:
                said = [_below(row, limit) for limit in self.limits]
                said += [self._dropped(row, before[path])] if path in before else []
            if any(said):
                found[path] = [one for one in said if one]
        return found

    def _dropped(self, row: Row, before: Row) -> str:
        if not is_number(before["score"]):
            return ""
        errors = [one["stderr"] if is_number(one["stderr"]) else 0.0 for one in (before, row)]
        drop, joint = before["score"] - row["score"], math.hypot(*errors)
        sure = float(ndtr(drop / joint)) if joint else float(drop > 0)
        if drop <= self.max_drop or sure < self.confidence:
            return ""
        return (
            f"score {row['score']:.1f} is {drop:.1f} below the baseline's {before['score']:.1f} "
            f"(at most {self.max_drop:g} wanted; lower with probability {_sure(sure)})"
        )


def _words(given: Sequence[Any] | str | float) -> list[str]:
    """Return the limits of one setting, of a list, or of a list of lists."""
    if isinstance(given, str | int | float):
        return [str(given)]
    return [word for part in given for word in _words(part)]


def _limit(text: str) -> Limit:
    column, colon, number = text.rpartition(":")
    column = column if colon else "score"
    if column not in ("score", *COLUMNS) or not re.fullmatch(r"-?\d+(\.\d+)?", number):
        names = ", ".join(COLUMNS)
        raise InputError(
            f"--fail-below must be a number for the score, or COLUMN:NUMBER with one of {names}; got {text}."
        )
    return Limit(column, float(number))


def _below(row: Row, limit: Limit) -> str:
    """Return what to say of a row that does not hold a limit."""
    column, least = limit
    value = row.get(column)
    if value is None or not is_number(value):
        return f"has no {column}"
    if value >= least:
        return ""
    told = f"{column} {value:.1f} is {least - value:.1f} below {least:g}"
    stderr = row.get("stderr" if column == "score" else f"{column}_stderr")
    if stderr is None or not is_number(stderr) or not stderr:
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
    counted = Counter(names)
    found = {}
    for path, name in zip(paths, names, strict=True):
        if path in before:
            found[path] = before[path]
        elif counted[name] == 1 and len(by_name.get(name, [])) == 1:
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
    """Write the bytes of what XML cannot hold as `names` does."""
    return _NOT_XML.sub(lambda found: ascii(found[0])[1:-1], text)
