"""Which rows of a file of scores stay: above a limit, no near duplicate of a better one, in the best share.

Everything is done on whole columns. Rows are ordered by score, then by path, never by where they stand in
the file: the same rows in another order give the same choice.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import ndtri

from datamodules.checks import check_above, check_least, check_that
from datamodules.errors import InputError

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rule:
    """How good a row must be.

    Args:
        keep: share of the rows that stays, the best first, above 0 and at most 1; rounded up.
        most: how many rows stay at most, if any number.
        above: least score of a row that stays, if any.
        confidence: least probability, by the row's standard error, that it is above that; .5 asks for no more
            than the score itself.

    Raises:
        InputError: a value is out of its range.
    """

    keep: float = 1.0
    most: int | None = None
    above: float | None = None
    confidence: float = 0.5

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_that(0 < self.keep <= 1, "--keep", "a share above 0 and at most 1", self.keep)
        if self.most is not None:
            check_least("--most", self.most, 1)
        if self.above is not None:
            check_above("--above", self.above, -np.inf)
        check_that(0.5 <= self.confidence < 1, "--confidence", "from 0.5 to below 1", self.confidence)
        if self.confidence > 0.5 and self.above is None:
            raise InputError("--confidence needs the limit that a score is to be above: give --above SCORE.")


class Curation:
    """Rows, each with the reason why it goes, or without one as long as it stays.

    A row that one step has dropped is not there for the next: its reason is the first, and shares are those
    of what is left.

    Args:
        paths: (n,) text, each once.
        values: (n,) by which rows are ranked, higher is better; NaN where there is none.

    Attributes:
        reasons: (n,) text, null where the row stays.
        counts: kind of reason -> rows that it has dropped, in the order of the steps.
        best_first: (n,) rows by value, ties by path, those without a value at the end.
    """

    def __init__(self, paths: pa.Array, values: Floats) -> None:
        self.paths, self.values = paths, values
        self.reasons: pa.Array = pa.nulls(len(paths), pa.string())
        self.counts: dict[str, int] = {}
        table = pa.table({"value": pa.array(values, from_pandas=True), "path": paths})
        keys = [("value", "descending"), ("path", "ascending")]
        self.best_first: npt.NDArray[np.int64] = pc.sort_indices(table, sort_keys=keys).to_numpy()

    @property
    def stays(self) -> Rows:
        """(n,) whether each row is still there."""
        found: Rows = self.reasons.is_null().to_numpy(zero_copy_only=False)
        return found

    def drop(self, rows: Rows, kind: str, reasons: Any) -> None:
        """Drop rows that are still there.

        Args:
            rows: (n,) which.
            kind: of the reason, for the counts.
            reasons: one text, or (n,) texts.
        """
        rows = rows & self.stays
        self.counts[kind] = self.counts.get(kind, 0) + int(rows.sum())
        self.reasons = pc.if_else(pa.array(rows), reasons, self.reasons)

    def drop_unread(self, errors: pa.Array) -> None:
        """Drop files that could not be read.

        Args:
            errors: (n,) text, null or empty where there was none.
        """
        failed = pc.fill_null(pc.greater(pc.utf8_length(errors), 0), False)
        reasons = pc.binary_join_element_wise("unreadable: ", errors, "")
        self.drop(failed.to_numpy(zero_copy_only=False), "unreadable", reasons)

    def drop_unscored(self, errors: pa.Array | None = None) -> None:
        """Drop rows without a value.

        Args:
            errors: (n,) text that says why there is none, where it is known.
        """
        missing = ~np.isfinite(self.values)
        if errors is not None:
            self.drop_unread(pc.if_else(pa.array(missing), errors, None))
        self.drop(missing, "no score", "no score")

    def drop_low(self, rule: Rule, stderr: Floats) -> None:
        """Drop rows that are not above the rule's limit, or not surely so.

        Args:
            rule: of the limit.
            stderr: (n,) of the values; NaN where it is not known, which is never sure.
        """
        if rule.above is None:
            return
        told = f"below {rule.above:g}"
        self.drop(self.values < rule.above, told, told)
        if rule.confidence > 0.5:
            told = f"not above {rule.above:g} with probability {rule.confidence:g}"
            sure = self.values - rule.above >= ndtri(rule.confidence) * stderr
            self.drop(~sure, told, told)

    def drop_duplicates(self, groups: npt.NDArray[np.integer[Any]]) -> None:
        """Drop all but the best of each group.

        Args:
            groups: (n,) numbers of groups; those of rows that are dropped already do not matter.
        """
        rows = self.best_first[self.stays[self.best_first]]
        _, first, group = np.unique(groups[rows], return_index=True, return_inverse=True)
        best = np.arange(len(self.paths))
        best[rows] = rows[first][group]
        reasons = pc.binary_join_element_wise("near duplicate of ", self.paths.take(pa.array(best)), "")
        self.drop(best != np.arange(len(best)), "near duplicate", reasons)

    def drop_worst(self, rule: Rule, contents: pa.Array | None = None) -> None:
        """Drop what is beyond the share and the number that the rule keeps.

        Args:
            rule: of the share and the number.
            contents: (n,) text, within each of which the rule holds; rows where it is null are one content.
                None: the rule holds for all rows together.
        """
        rows = self.best_first[self.stays[self.best_first]]
        if contents is None:
            content = np.zeros(len(rows), dtype=np.int64)
        else:
            codes = contents.dictionary_encode(null_encoding="encode").indices
            content = codes.take(pa.array(rows)).to_numpy()
        by_content = np.argsort(content, kind="stable")  # within a content still the best first
        counts = np.bincount(content)
        place = np.empty(len(rows), dtype=np.int64)
        place[by_content] = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        # A product such as .07 * 100 lies above 7 by its rounding alone.
        wanted = np.ceil(rule.keep * counts * (1 - 1e-12))
        told = "below the share kept"
        if rule.most is not None:
            wanted = np.minimum(wanted, rule.most)
            told = (
                f"below the {rule.most} kept"
                if rule.keep == 1
                else f"below the share or the {rule.most} kept"
            )
        beyond = np.zeros(len(self.paths), dtype=bool)
        beyond[rows] = place >= wanted[content]
        if contents is None:
            self.drop(beyond, told, told)
        else:
            names = pc.fill_null(contents, "no content")
            self.drop(beyond, told, pc.binary_join_element_wise(f"{told} of ", names, ""))
