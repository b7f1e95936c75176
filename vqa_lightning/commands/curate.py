"""The command `curate`: from the scores of a corpus to a manifest of what stays, and why the rest went.

Rows are columns of Arrow throughout. Only what may still stay is looked at for near-duplicates, and only the
rows on the page become Python objects.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from callbacks.scores.pooling import POOLS
from callbacks.scores.report import write_page
from callbacks.scores.rows import Row, checked_page
from callbacks.scores.table import SECONDS_SCHEMA, seconds_beside
from datamodules.checks import check_choice
from datamodules.corpus import group_files
from datamodules.errors import InputError
from datamodules.files import numbers, read_table, texts
from datamodules.names import is_url
from datamodules.selection.curation import Curation, Floats, Rule
from vqa_lightning.commands.curate_files import (
    beside,
    check_place,
    joined,
    read_rows,
    replaced,
    same_place,
    write_rows,
)
from vqa_lightning.pages.score_page import COLUMNS, LeftOut
from vqa_lightning.ray import hashes
from vqa_lightning.ray.pipeline import require_ray

SUFFIXES = (".csv", ".parquet")

ENGINES = ("threads", "ray")
"""What reads videos for near-duplicates: threads of this process, or the tasks of a cluster."""

ON_PAGE = 2000
"""Most rows on the page of those that stay, and of those that went: those nearest to the limit."""

_NUMBERS = ("score", "stderr", *COLUMNS, *(f"{pool}_stderr" for pool in POOLS), "whole", "whole_stderr")

_BLANK: Row = {"stderr": None, "error": "", "model": ""}
"""What a page shows and a file of another tool may lack."""

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Curate:
    """Write a manifest of the videos that stay, and a table of the others with the reason why each went.

    Steps come in this order, each on what the one before has left: rows without a score, --above, --dedupe,
    then --keep and --most. Near-duplicates therefore take no share of what is kept. Higher is better; ties
    are broken by path, and rows are written best first, whatever their order in the file.

    Args:
        scores: a file that predict wrote (.csv, .jsonl, .parquet), its folder of Parquet parts, or any file
            with path and a column of numbers; also behind a URL that fsspec knows.
        output: manifest to write, .csv or .parquet, for --data.videos, or a URL. The others go to the file
            beside it whose name has .dropped before the suffix.
        keep: share of the videos that stays, above 0 and at most 1, rounded up.
        most: number of videos that stay at most.
        above: least score of a video that stays.
        confidence: least probability that a video is above that, by its standard error.
        column: that ranks: score, p5, min, percentile, calibrated or any other of the file.
        per: column within each of whose values --keep and --most hold, such as content. Videos without a
            value count as one content.
        manifest: .csv or .parquet whose columns are joined to the scores by path, such as content and split;
            or a URL.
        dedupe: keep only the best of near-duplicates. Videos are read, once: what is found is cached.
        report: HTML page to write, too, with what stays, what went and why.
        engine: threads; or ray, where --dedupe reads videos, also behind URLs, by tasks on the cluster of
            RAY_ADDRESS or on this machine, and keeps what is found in the folder beside the output whose name
            has .hashes instead of its suffix.

    Raises:
        InputError: nothing is asked for, a file cannot be read or written, a column is not there or no
            numbers, a path is there twice, scores are of several models, or nothing would stay.
    """

    scores: str
    output: str = "kept.csv"
    keep: float = 1.0
    most: int | None = None
    above: float | None = None
    confidence: float = 0.5
    column: str = "score"
    per: str | None = None
    manifest: str | None = None
    dedupe: bool = False
    report: Path | None = None
    engine: str = "threads"
    rule: Rule = field(init=False)

    def __post_init__(self) -> None:
        """Check what can be checked before anything is read."""
        object.__setattr__(self, "rule", Rule(self.keep, self.most, self.above, self.confidence))
        if self.keep == 1 and self.most is None and self.above is None and not self.dedupe:
            raise InputError("curate must be told what stays: give --keep, --most, --above or --dedupe.")
        if self.per is not None and self.keep == 1 and self.most is None:
            raise InputError(f"--per {self.per} needs a share or a number to keep: give --keep or --most.")
        check_choice("--engine", self.engine, ENGINES)
        if self.engine == "ray":
            if not self.dedupe:
                raise InputError("--engine ray is for --dedupe: without it no video is read.")
            require_ray()
        check_choice(f"The suffix of --output {self.output}", Path(self.output).suffix, SUFFIXES)
        check_place(self.output)
        if self.report is not None:
            checked_page(str(self.report))
        written = {same_place(place, "--output") for place in (self.output, beside(self.output, "dropped"))}
        for setting, given in (("The file of scores", self.scores), ("--manifest", self.manifest)):
            if given is not None and same_place(given, setting) in written:
                raise InputError(f"--output {self.output} would write over {given}: name another file.")

    def __call__(self) -> None:
        """Curate, write the files, and print how many rows went for which reason."""
        table = self._read()
        curation = self._curate(table)
        stays = curation.stays
        if not stays.any():
            told = ", ".join(f"{count} {kind}" for kind, count in curation.counts.items() if count)
            example = f"{table['path'][0]}: {curation.reasons[0]}".rstrip(".")
            raise InputError(
                f"Not one of the {len(stays)} rows of {self.scores} stays ({told}; such as {example})."
            )
        kept, dropped = _halves(curation)
        reasons = table.append_column("reason", pa.chunked_array([curation.reasons]))
        others = beside(self.output, "dropped")
        write_rows(self.output, table.take(pa.array(kept)))
        write_rows(others, reasons.take(pa.array(dropped)))
        _print(Path(self.scores).name, len(kept), curation.counts)
        print(f"{self.output}: {len(kept)} rows; {others}: {len(dropped)} rows")
        if self.report is not None:
            print(self._write_page(self.report, reasons, curation))

    def _read(self) -> pa.Table:
        """Return the scores, joined with the manifest."""
        table = read_rows(self.scores, "The file of scores")
        if self.manifest is not None:
            table = joined(table, read_rows(self.manifest, "--manifest"), self.manifest)
        if "reason" in table.column_names:  # of a file that curate wrote
            table = table.drop_columns("reason")
        for flag, name in (("--column", self.column), ("--per", self.per)):
            if name is not None and name not in table.column_names:
                known = ", ".join(table.column_names)
                where = self.scores if self.manifest is None else f"{self.scores} or {self.manifest}"
                raise InputError(f"{flag} must be a column of {where}; got {name!r}, not one of {known}.")
        for name in {self.column, self._error, *_NUMBERS} & set(table.column_names):
            table = replaced(table, name, numbers(table, name, self.scores))
        if "model" in table.column_names and len(models := pc.unique(table["model"].drop_null())) > 1:
            raise InputError(
                f"{self.scores} has scores of {len(models)} models, such as {models[0]} and {models[1]}: "
                "they have no common scale; curate one model's."
            )
        return table.combine_chunks()

    def _curate(self, table: pa.Table) -> Curation:
        """Take the steps one after the other."""
        curation = Curation(table["path"].combine_chunks(), _floats(table[self.column]))
        curation.drop_unscored(self._texts(table, "error") if "error" in table.column_names else None)
        curation.drop_low(self.rule, self._stderr(table))
        if self.dedupe:
            places = np.flatnonzero(curation.stays)
            groups = np.full(len(table), -1)
            groups[places], failed = self._groups(curation.paths.take(pa.array(places)))
            errors = np.full(len(table), None, dtype=object)
            errors[places[list(failed)]] = list(failed.values())
            curation.drop_unread(pa.array(errors, pa.string()))
            curation.drop_duplicates(groups)
        curation.drop_worst(self.rule, None if self.per is None else self._texts(table, self.per))
        return curation

    def _groups(self, paths: pa.Array) -> tuple[npt.NDArray[np.int32], dict[int, str]]:
        """Return the groups of near-duplicates, and why files at some places could not be read."""
        if self.engine == "threads":
            return group_files(paths)
        folder = beside(self.output, "hashes", suffix=False)
        return hashes.group_files(paths, folder, progress=sys.stderr.isatty())

    @property
    def _error(self) -> str:
        """Name of the column with the standard errors of what ranks."""
        return "stderr" if self.column == "score" else f"{self.column}_stderr"

    def _stderr(self, table: pa.Table) -> Floats:
        """Return the standard errors of what ranks, NaN where there are none."""
        if self._error in table.column_names:
            return _floats(table[self._error])
        if self.confidence > 0.5:
            raise InputError(
                f"--confidence needs the standard errors of {self.column}, a column {self._error}, which "
                f"{self.scores} does not have."
            )
        return np.full(len(table), np.nan)

    def _texts(self, table: pa.Table, name: str) -> pa.Array:
        """Return a column as text."""
        return texts(table, name, self.manifest or self.scores).combine_chunks()

    def _write_page(self, page: Path, table: pa.Table, curation: Curation) -> str:
        """Write the page, and return what was written in one line."""
        kept, dropped = _halves(curation)
        shown = [table.take(pa.array(rows)).to_pylist() for rows in (kept[-ON_PAGE:], dropped[:ON_PAGE])]
        ranked = "score" if "score" in table.column_names else self.column
        rows, others = ([{**_BLANK, **row, "score": row[ranked]} for row in half] for half in shown)
        scores = _floats(table[ranked])
        finite = [scores[half][np.isfinite(scores[half])] for half in (kept, dropped)]
        left_out = LeftOut(len(kept), curation.counts, others, (finite[0], finite[1]))
        title = f"{Path(self.output).name}, of {Path(self.scores).name}"
        return write_page(page, rows, self._intervals(rows), title, left_out=left_out)

    def _intervals(self, rows: Sequence[Row]) -> list[Row]:
        """Return the scores over time of some rows, where predict wrote any beside the file."""
        over_time = seconds_beside(Path(self.scores))
        if is_url(self.scores) or not over_time.exists():
            return []
        table = read_table(over_time)
        if not set(SECONDS_SCHEMA.names) <= set(table.column_names):
            return []
        table = table.select(SECONDS_SCHEMA.names)
        asked = {name: pa.array({row[name] for row in rows}, pa.string()) for name in ("path", "model")}
        for name, values in asked.items():
            table = table.filter(pc.is_in(table[name], values))
        for name in ("start", "end", "score", "stderr"):
            table = replaced(table, name, numbers(table, name, over_time))
        found: list[Row] = table.to_pylist()
        return found


def _halves(curation: Curation) -> tuple[Places, Places]:
    """Return the rows that stay and the rows that went, each the best first."""
    order, stays = curation.best_first, curation.stays
    return order[stays[order]], order[~stays[order]]


def _floats(column: pa.ChunkedArray) -> Floats:
    """Return a column of float64, NaN where it is null."""
    found: Floats = column.to_numpy(zero_copy_only=False)
    return found


def _print(title: str, kept: int, counts: Mapping[str, int]) -> None:
    """Print how many rows stay, and how many went for which reason."""
    rows = kept + sum(counts.values())
    table = Table("", title=title)
    for header in ("rows", "%"):
        table.add_column(header, justify="right")
    gone = {kind: count for kind, count in counts.items() if count}
    for told, count in {"rows": rows, "kept": kept, **gone}.items():
        table.add_row(told, f"{count}", f"{100 * count / rows:.1f}", end_section=told in ("rows", "kept"))
    Console().print(table)
