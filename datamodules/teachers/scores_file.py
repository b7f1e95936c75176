"""Scores that some other tool or some people gave, read from the file they come in.

Published lists are read as they are. Only the sign is the caller's to say: "DMOS" rises with quality in one
list and falls in another.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath

import numpy as np

from datamodules.corpus import match_names
from datamodules.errors import InputError
from datamodules.labels import Annotation, Request, fingerprint_of
from datamodules.opinions.label_lists import (
    NAME_COLUMNS,
    SCORE_COLUMNS,
    checked_amounts,
    checked_names,
    checked_scores,
    choose_columns,
    read_columns,
)
from datamodules.teachers.teacher import name_of_file
from datamodules.video import Video

_NEEDED = {"name": NAME_COLUMNS, "score": SCORE_COLUMNS}


class ScoresFile:
    """An annotator whose scores come from a file that some other tool wrote.

    The file is text, CSV, JSON, JSON lines, Parquet or MATLAB. An optional column `stderr` is in the score's
    unit. Rows are matched to videos by `video_names.match_names`, which needs to see all of a corpus: give
    the corpus to `prepare` before the first of several calls. Distorted versions have no row and get no
    score.

    Args:
        path: the file.
        higher_is_better: False for distances such as NIQE and for most DMOS; the sign is turned here.
        name: under which the scores are stored; the file's stem by default.
        name_column: header of the column that names the video; by default path, name or another usual name.
        score_column: header of the column of scores; by default score, mos or another usual name.
        partial: True leaves videos without a row without a score; False: such a video is an error.

    Raises:
        InputError: the file is absent or not readable, a column is missing, a video comes twice, or a score
            is no finite number.
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
        self.name = name or name_of_file(self.path)
        self.higher_is_better = higher_is_better
        self.partial = partial
        self._row_of: dict[str, int | None] = {}
        named = {"name": name_column, "score": score_column}
        columns = read_columns(
            self.path,
            lambda header: choose_columns(self.path, header, _NEEDED, named, {"stderr": ("stderr",)}),
            headed=any(named.values()),
        )
        self._names = checked_names(self.path, columns["name"])
        self._scores = checked_scores(self.path, self._names, columns["score"], "score")
        self._stderr = checked_amounts(self.path, self._names, columns.get("stderr"), "stderr")

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._names)

    @property
    def settings(self) -> Mapping[str, object]:
        """The sign and a hash of the rows: an edited file is another annotator, a moved one is the same."""
        order = sorted(range(len(self)), key=self._names.__getitem__)
        digest = hashlib.sha256("\0".join(self._names[row] for row in order).encode())
        digest.update(np.stack([self._scores, self._stderr])[:, order].astype("<f8").tobytes())
        return {"higher_is_better": self.higher_is_better, "rows": digest.hexdigest()[:16]}

    @property
    def fingerprint(self) -> str:
        """Hash of name and settings."""
        return fingerprint_of(self.name, self.settings)

    def prepare(self, videos: Sequence[Video]) -> None:
        """Match all videos that will be asked for, so that calls with some of the videos find the same rows.

        Raises:
            InputError: as `match` does.
        """
        rows = self.match(videos)
        self._row_of = {video.video_id: row for video, row in zip(videos, rows, strict=True)}

    def annotate(self, requests: Sequence[Request], workers: int = 0) -> Iterator[Annotation]:
        """Yield the score of each source among the requests that has one.

        Without `prepare` the sources among the requests are matched as if there were no others.

        Raises:
            InputError: as `match` does, or a source is not among the prepared videos.
        """
        sources = [request.video for request in requests if request.simulator is None]
        sign = 1 if self.higher_is_better else -1
        for video, row in zip(sources, self._prepared(sources), strict=True):
            if row is not None:
                score, stderr = float(self._scores[row]), float(self._stderr[row])
                yield Annotation(video.video_id, None, 0, sign * score, stderr)

    def _prepared(self, sources: Sequence[Video]) -> list[int | None]:
        if not self._row_of:
            return self.match(sources)
        for video in sources:
            if video.video_id not in self._row_of:
                raise InputError(
                    f"The scores file {self.path} was matched to other videos than {video.path}; prepare it "
                    "with all videos."
                )
        return [self._row_of[video.video_id] for video in sources]

    def match(self, videos: Sequence[Video]) -> list[int | None]:
        """Return the row of each video, None where it has none.

        Raises:
            InputError: several rows fit a video, one row fits several videos, or a video has no row. Where
                the file may be partial, a missing row is an error only if no video has a row.
        """
        rows = match_names(self._names, videos, self.path)
        missing = [video for video, row in zip(videos, rows, strict=True) if row is None]
        if missing and not (self.partial and len(missing) < len(videos)):
            remedy = "check its names" if self.partial else "add their rows, or set partial to true"
            raise InputError(
                f"The scores file {self.path} has no score for {len(missing)} of {len(videos)} videos, the "
                f"first being {missing[0].path}; {remedy}."
            )
        return rows
