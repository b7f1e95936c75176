"""Opinions of people on videos: mean opinion scores with their spread, or the raw votes behind them.

The sign is settled here and nowhere else: in an `Opinions` a higher number is always the better video.
"""

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np

from datamodules.errors import InputError
from datamodules.opinions.bt500 import screen_observers
from datamodules.opinions.label_lists import (
    NAME_COLUMNS,
    Floats,
    checked_amounts,
    checked_names,
    checked_scores,
    choose_columns,
    find_column,
    read_columns,
)

MOS_COLUMNS = ("mos", "mosfull", "score", "dmos", "video_score")
"""Headers of the column of mean opinion scores, whatever their case; the first one present is taken."""

DEVIATION_COLUMNS = ("deviation", "std", "stdfull", "mos_std", "std_mos", "sd", "sos")
"""Headers of the standard deviation of a video's votes."""

NUMBER_COLUMNS = ("votes", "num_votes", "number_of_votes", "x_subjects")
"""Headers of the number of a video's votes."""

BALLOT_COLUMNS = ("opinion_scores",)
"""Headers of a column whose cells are lists of votes, one a video, the observers always in one order."""


class Opinions(NamedTuple):
    """Mean opinions on n videos.

    Attributes:
        names: of the videos, as they stand in the list.
        mos: float64 (n,); higher is better: numbers that fall with quality in the list are negated.
        deviation: float64 (n,), standard deviation of the votes in the unit of `mos`; NaN where not known.
        votes: float64 (n,), their number; NaN where not known.
        rejected: places of the observers whose votes the screening left out.
    """

    names: list[str]
    mos: Floats
    deviation: Floats
    votes: Floats
    rejected: tuple[int, ...] = ()


def read_opinions(
    path: str | PurePath,
    *,
    higher_is_better: bool = True,
    name_column: str | None = None,
    mos_column: str | None = None,
    screening: bool = True,
    average_repeated: bool = False,
) -> Opinions:
    """Read a list of mean opinion scores, or of raw votes, in any layout of `label_lists.read_columns`.

    Raw votes give their mean, their sample standard deviation and their number. Where a score stands beside
    raw votes, the votes are taken unless `mos_column` names the score: the DMOS of NFLX, for instance.

    Args:
        path: the file.
        higher_is_better: False where a larger number means a worse video.
        name_column: header of the column that names the video; by default the first of `NAME_COLUMNS`.
        mos_column: header of the column of scores; by default the first of `MOS_COLUMNS`.
        screening: whether erratic observers among raw votes are left out (`bt500.screen_observers`).
        average_repeated: whether rows of one video are averaged, whose spread is then unknown; False: such
            rows are an error.

    Raises:
        InputError: the file is absent or not readable, a column is missing, there are no rows, a video comes
            twice, or a score or vote is no number.
    """
    path = Path(path).expanduser()
    named = {"name": name_column, "mos": mos_column}

    def choose(header: Sequence[str]) -> dict[str, str]:
        if not mos_column and find_column(header, BALLOT_COLUMNS):
            return choose_columns(path, header, {"name": NAME_COLUMNS, "ballots": BALLOT_COLUMNS}, named)
        # Of several scores in one list the spread is the usual one's.
        usual = mos_column in (None, find_column(header, MOS_COLUMNS) or mos_column)
        spread = {"deviation": DEVIATION_COLUMNS, "votes": NUMBER_COLUMNS} if usual else {}
        needed = {"name": NAME_COLUMNS, "mos": (*MOS_COLUMNS, *BALLOT_COLUMNS)}
        return choose_columns(path, header, needed, named, spread)

    columns = read_columns(path, choose, headed=any(named.values()))
    names = checked_names(path, columns["name"], repeated=average_repeated)
    if "ballots" in columns:
        opinions = _from_ballots(path, names, columns["ballots"], screening)
    else:
        opinions = Opinions(
            names,
            checked_scores(path, names, columns["mos"], "MOS"),
            checked_amounts(path, names, columns.get("deviation"), "standard deviation"),
            checked_amounts(path, names, columns.get("votes"), "number of votes"),
        )
    if not higher_is_better:
        opinions = opinions._replace(mos=-opinions.mos)
    return _averaged(opinions) if average_repeated else opinions


def _from_ballots(path: Path, names: list[str], ballots: Sequence[Any], screening: bool) -> Opinions:
    for name, ballot in zip(names, ballots, strict=True):
        if not isinstance(ballot, list) or not ballot or len(ballot) != len(ballots[0]):
            raise InputError(
                f"The votes of {name} in the list {path} must be as many as those of {names[0]}, one for "
                f"each observer and null for an observer who did not vote; got {ballot!r}."
            )
    known = [[vote is not None for vote in ballot] for ballot in ballots]
    voters = [name for name, row in zip(names, known, strict=True) for there in row if there]
    votes: Floats = np.full((len(names), len(ballots[0])), np.nan)
    cast = [vote for ballot in ballots for vote in ballot if vote is not None]
    votes[np.array(known)] = checked_scores(path, voters, cast, "vote")
    kept = screen_observers(votes) if screening else np.full(votes.shape[1], True)
    votes = votes[:, kept]
    number = (~np.isnan(votes)).sum(axis=1).astype(np.float64)
    if not number.all():
        raise InputError(
            f"The list {path} has no vote for {names[int(number.argmin())]} that counts; remove the row."
        )
    mos = np.nansum(votes, axis=1) / number
    square = np.nansum((votes - mos[:, None]) ** 2, axis=1)
    deviation = np.sqrt(np.divide(square, number - 1, out=np.full(len(names), np.nan), where=number > 1))
    return Opinions(names, mos, deviation, number, tuple(np.flatnonzero(~kept).tolist()))


def _averaged(opinions: Opinions) -> Opinions:
    names = list(dict.fromkeys(opinions.names))
    place = {name: row for row, name in enumerate(names)}
    rows = np.array([place[name] for name in opinions.names])
    count = np.bincount(rows)
    once = np.where(count == 1, 1.0, np.nan)
    mos, deviation, votes = (
        np.bincount(rows, weights=values).astype(np.float64)
        for values in (opinions.mos, opinions.deviation, opinions.votes)
    )
    return Opinions(names, mos / count, deviation * once, votes * once, opinions.rejected)
