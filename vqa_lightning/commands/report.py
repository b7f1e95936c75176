"""The command `report`: a page of what predict wrote, in one file that needs no network."""

from pathlib import Path

import pyarrow as pa

from callbacks.scores.report import write_page
from callbacks.scores.rows import SUFFIXES, Row, checked_page, read_rows
from callbacks.scores.table import SCHEMA, SECONDS_SCHEMA, seconds_beside
from datamodules.checks import check_choice, check_least
from datamodules.errors import InputError
from datamodules.names import name_of
from vqa_lightning.pages.score_page import COLUMNS


def write_report(
    scores: Path, output: Path = Path("report.html"), title: str | None = None, pictured: int = 200
) -> None:
    """Write a page of scores: distribution, a table that sorts, quality over time, the worst moments.

    Intervals are taken from the file that predict wrote beside the scores with data.score_every. Pictures are
    read from the videos, where these still lie.

    Args:
        scores: a file that predict wrote.
        output: page to write.
        title: of the page; null: the name of the file of scores.
        pictured: how many videos have pictures and a curve, the worst first.

    Raises:
        InputError: the file is no file of scores or has no row, or the page cannot be written.
    """
    check_least("--pictured", pictured, 0)
    checked_page(str(output), "--output")
    check_choice(f"The suffix of {scores}", scores.suffix, SUFFIXES)
    rows = _read(scores, SCHEMA)
    if not rows:
        raise InputError(f"{scores} has no row: there is nothing to show.")
    seconds = seconds_beside(scores)
    intervals = _read(seconds, SECONDS_SCHEMA) if seconds.is_file() else []
    models = {row["model"] for row in rows}
    intervals = [row for row in intervals if row["model"] in models]  # the file may be of an earlier command
    print(write_page(output, rows, intervals, title or scores.name, pictured))


def _read(file: Path, schema: pa.Schema) -> list[Row]:
    if not file.exists():
        raise InputError(f"{name_of(file)} does not exist: name a file that predict wrote.")
    try:
        return read_rows(file, schema, tuple(COLUMNS))
    except InputError as error:
        raise InputError(f"{name_of(file)} is no file that predict wrote: {error}") from error
