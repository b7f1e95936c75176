"""Scores that some other tool or some people gave, read from the file they come in.

Published lists are read as they are: the header's names, the W2S and the DOVER layout are known here, while
the sign is not, since "DMOS" rises with quality in one list and falls in another: it is the caller's to say.
"""

import csv
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from datamodules.annotation import Request, fingerprint_of
from datamodules.decoding import Video
from datamodules.errors import InputError
from datamodules.label_store import Annotation
from datamodules.video_names import match_names

NAME_COLUMNS = (
    "path", "name", "video", "video_name", "filename", "file", "image_id", "vid", "flickr_id",
)  # fmt: skip
"""Headers of the column that names the video, whatever their case; the first one present is taken."""

SCORE_COLUMNS = ("score", "mos", "dmos", "mosfull", "video_score")
"""Headers of the column of scores, whatever their case; the first one present is taken."""

_HEADERLESS = {2: ("name", "score"), 4: ("name", "duration", "fps", "mos")}  # columns of files without header
_STRING_OR_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[\]}])')


class ScoresFile:
    """An annotator whose scores come from a file that some other tool wrote.

    Rows are matched to videos by `video_names.match_names`, which is only right over all of a corpus: give
    that to `prepare` before the first of several calls. Distorted versions have no row and get no score.

    The file is a .csv or .txt (with a header, or without one as name and score, or as name, duration, frames
    per second and score: the layout of DOVER and FAST-VQA), a .json (a list of objects, or W2S's
    `{"annotations": [...]}`) or a .parquet. An optional column `stderr` is in the score's unit.

    Args:
        path: the file.
        higher_is_better: False for distances such as NIQE and for most DMOS; the sign is turned here.
        name: under which the scores are stored; the file's stem by default.
        name_column: header of the column that names the video; by default the first of `NAME_COLUMNS`.
        score_column: header of the column of scores; by default the first of `SCORE_COLUMNS`.
        partial: whether videos without a row are left without a score; False: they are an error.

    Raises:
        InputError: if the file is absent or not readable, a column is missing, a video comes twice, or a
            score is no finite number.
    """

    def __init__(
        self,
        path: str | PurePath,
        higher_is_better: bool = True,
        name: str | None = None,
        name_column: str | None = None,
        score_column: str | None = None,
        partial: bool = False,
    ) -> None:
        self.path = Path(path)
        self.name = name or re.sub(r"[^\w.+-]", "_", self.path.stem, flags=re.ASCII)
        self.higher_is_better = higher_is_better
        self.partial = partial
        self._rows = _checked(self.path, _read_columns(self.path, name_column, score_column))
        self._hash = _hash(self._rows)
        self._row_of: dict[str, int | None] = {}

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._rows.names)

    @property
    def settings(self) -> Mapping[str, object]:
        """The sign and a hash of the rows: an edited file is another annotator, a moved one is the same."""
        return {"higher_is_better": self.higher_is_better, "rows": self._hash}

    @property
    def fingerprint(self) -> str:
        """Hash of name and settings."""
        return fingerprint_of(self.name, self.settings)

    def prepare(self, videos: Sequence[Video]) -> None:
        """Match all videos that will be asked for, so that calls with some of them find the same rows.

        Raises:
            InputError: as `match` does.
        """
        rows = self.match(videos)
        self._row_of = {video.video_id: row for video, row in zip(videos, rows, strict=True)}

    def annotate(self, requests: Sequence[Request], workers: int = 0) -> Iterator[Annotation]:
        """Yield the score of each source among the requests that has one.

        Without `prepare` the sources among the requests are matched as if there were no others.

        Raises:
            InputError: as `match` does, or if a source is not among the videos prepared for.
        """
        sources = [request.video for request in requests if request.simulator is None]
        sign = 1 if self.higher_is_better else -1
        for video, row in zip(sources, self._prepared(sources), strict=True):
            if row is not None:
                score, stderr = float(self._rows.scores[row]), float(self._rows.stderr[row])
                yield Annotation(video.video_id, None, 0, sign * score, stderr)

    def _prepared(self, sources: Sequence[Video]) -> list[int | None]:
        if not self._row_of:
            return self.match(sources)
        for video in sources:
            if video.video_id not in self._row_of:
                raise InputError(
                    f"Scores file {self.path} was matched to other videos than {video.path}; "
                    "prepare it with all of them."
                )
        return [self._row_of[video.video_id] for video in sources]

    def match(self, videos: Sequence[Video]) -> list[int | None]:
        """Return the row of each video, None where it has none.

        Raises:
            InputError: if several rows fit a video, one row fits several videos, or a video has no row;
                where the file may be partial, if not one has.
        """
        rows = match_names(self._rows.names, videos, self.path)
        missing = [video for video, row in zip(videos, rows, strict=True) if row is None]
        if missing and not (self.partial and len(missing) < len(videos)):
            remedy = "check its names" if self.partial else "add their rows, or set partial to true"
            raise InputError(
                f"Scores file {self.path} has no score for {len(missing)} of {len(videos)} videos, the first "
                f"being {missing[0].path}; {remedy}."
            )
        return rows


class _Rows(NamedTuple):
    names: list[str]
    scores: npt.NDArray[np.float64]
    stderr: npt.NDArray[np.float64]


class _Columns(NamedTuple):
    """Three columns as they stand in the file; stderr is all None where there is no such column."""

    names: list[Any]
    scores: list[Any]
    stderr: list[Any]


def read_json(path: Path) -> Any:
    """Read JSON, with the trailing commas that published lists have.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no UTF-8 text or no JSON.
    """
    text = path.read_text(encoding="utf-8-sig")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return json.loads(_STRING_OR_COMMA.sub(r"\1", text))


def _read_columns(path: Path, name_column: str | None, score_column: str | None) -> _Columns:
    suffix = path.suffix.lower()
    try:
        if suffix in (".csv", ".txt"):
            return _read_text(path, name_column, score_column)
        if suffix == ".json":
            return _read_objects(path, name_column, score_column)
        if suffix in (".parquet", ".pq"):
            header = pq.read_schema(path).names
            chosen = _choose(path, header, name_column, score_column)
            table = pq.read_table(path, columns=[column for column in chosen if column is not None])
            blank = [None] * table.num_rows
            return _Columns(*(blank if c is None else table[c].to_pylist() for c in chosen))
    except (
        OSError,
        ValueError,
        csv.Error,
    ) as error:  # UnicodeDecodeError, JSON's and Arrow's are ValueErrors
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"Scores file {path} cannot be read ({reason}); give a CSV, JSON or Parquet file."
        ) from error
    raise InputError(f"Scores file {path} has the suffix {suffix!r}; give a .csv, .json or .parquet file.")


def _read_text(path: Path, name_column: str | None, score_column: str | None) -> _Columns:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = (line for line in csv.reader(file, skipinitialspace=True) if line)
        header = next(lines, [])
        asked = name_column is not None or score_column is not None
        bare = not asked and len(header) in _HEADERLESS and math.isfinite(_number(header[-1]))
        rows = [header] if bare else []
        header = list(_HEADERLESS[len(header)]) if bare else [cell.strip() for cell in header]
        chosen = _choose(path, header, name_column, score_column)
        places = [None if column is None else header.index(column) for column in chosen]
        columns: _Columns = _Columns([], [], [])
        for row in (*rows, *lines):
            for column, place in zip(columns, places, strict=True):
                column.append(row[place] if place is not None and place < len(row) else None)
        return columns


def _read_objects(path: Path, name_column: str | None, score_column: str | None) -> _Columns:
    rows = read_json(path)
    if isinstance(rows, dict):
        rows = rows.get("annotations")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(
            f'Scores file {path} is not a list of rows; write it as [{{"path": ..., "score": ...}}, ...].'
        )
    chosen = _choose(path, list(rows[0]) if rows else [], name_column, score_column)
    return _Columns(*([None if column is None else row.get(column) for row in rows] for column in chosen))


def _choose(
    path: Path, header: Sequence[str], name_column: str | None, score_column: str | None
) -> tuple[str, str, str | None]:
    """The columns of names, of scores, and perhaps of standard errors."""
    folded = {column.strip().lower(): column for column in reversed(header)}
    name = name_column or next((folded[known] for known in NAME_COLUMNS if known in folded), None)
    score = score_column or next((folded[known] for known in SCORE_COLUMNS if known in folded), None)
    if name is None or score is None or not {name, score} <= set(header):
        found = "the columns " + ", ".join(header) if header else "no rows"
        wanted = (
            repr(name_column) if name_column else "one that names the video (path, name, ...)",
            repr(score_column) if score_column else "one of scores (score, mos, ...)",
        )
        raise InputError(
            f"Scores file {path} has {found}; it needs {wanted[0]} and {wanted[1]}: "
            "say which they are by name_column and score_column."
        )
    return name, score, folded.get("stderr")


def _checked(path: Path, columns: _Columns) -> _Rows:
    names = ["" if name is None else str(name).strip() for name in columns.names]
    if not names:
        raise InputError(f"Scores file {path} has no rows; give one for each video.")
    if "" in names:
        raise InputError(
            f"Scores file {path} has a row without a name, number {names.index('') + 1}; "
            "fill it in or remove the row."
        )
    if len(set(names)) < len(names):
        name = Counter(names).most_common(1)[0][0]
        raise InputError(f"Scores file {path} names {name} twice; keep one row for each video.")
    scores = _numbers(columns.scores)
    wrong = np.flatnonzero(~np.isfinite(scores))
    if wrong.size:
        raise InputError(
            f"Scores file {path} gives {names[wrong[0]]} the score {columns.scores[wrong[0]]!r}; write a "
            "finite number or remove the row."
        )
    given = np.array([value not in (None, "") for value in columns.stderr])
    stderr = _numbers([value if known else None for value, known in zip(columns.stderr, given, strict=True)])
    wrong = np.flatnonzero(given & ~((stderr >= 0) & np.isfinite(stderr)))
    if wrong.size:
        raise InputError(
            f"Scores file {path} gives {names[wrong[0]]} the stderr {columns.stderr[wrong[0]]!r}; write a "
            "number from 0 up or leave it empty."
        )
    return _Rows(names, scores, stderr)


def _numbers(values: Sequence[Any]) -> npt.NDArray[np.float64]:
    """Read numbers that may be text; NaN for what is none."""
    try:
        return np.array(values, dtype=np.float64)
    except (ValueError, TypeError):
        return np.array([_number(value) for value in values])


def _number(value: Any) -> float:
    try:
        return float(value)
    except (ValueError, TypeError):
        return math.nan


def _hash(rows: _Rows) -> str:
    order = sorted(range(len(rows.names)), key=rows.names.__getitem__)
    digest = hashlib.sha256("\0".join(rows.names[row] for row in order).encode())
    digest.update(np.stack([rows.scores, rows.stderr])[:, order].astype("<f8").tobytes())
    return digest.hexdigest()[:16]
