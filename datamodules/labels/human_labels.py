"""Labels that people gave: MOS lists matched to a corpus, and METHOD's rule on their differences.

The unit of a level is what people differ by, the standard deviation of the votes on a video, as in the paper
and in Compare2Score. How well a MOS is known, the standard error, is another matter: it blurs the labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from lightning_utilities.core.rank_zero import rank_zero_info

from datamodules.corpus import match_names
from datamodules.errors import InputError
from datamodules.labels.consensus import Consensus, cuts_for_balance
from datamodules.labels.fitted_consensus import shrink
from datamodules.labels.teacher_scales import Floats
from datamodules.opinions import BENCHMARKS, Opinions, read_opinions
from datamodules.video import Video

OBSERVERS = 24
"""Votes a video is taken to have where a list does not say: what ITU-T P.913 asks of one test room."""

EVEN = (0.8, 0.4)
"""Shares of random pairs beyond the inner and the outer cut when all five levels are equally frequent."""


@dataclass(frozen=True)
class MOSList:
    """A list of mean opinion scores to draw pairs from.

    Attributes:
        path: in any layout that `read_opinions` knows.
        name: of the set in `BENCHMARKS` that it is of, which brings its sign with it.
        higher_is_better: False where a larger number means a worse video; None: as is known of the set, else
            True.
        name_column: header of the column that names the video; None: found by the usual names.
        mos_column: header of the column of scores; None: found by the usual names.
    """

    path: str
    name: str | None = None
    higher_is_better: bool | None = None
    name_column: str | None = None
    mos_column: str | None = None

    def read(self) -> Opinions:
        """Read the list.

        Raises:
            InputError: as `read_opinions` does, or no set has the name.
        """
        known = None if self.name is None else BENCHMARKS.get(self.name)
        if known is None and self.name is not None:
            raise InputError(
                f"The name of {self.path} in data.labelling.mos must be one of {', '.join(BENCHMARKS)}; got "
                f"{self.name}: leave the name out and set higher_is_better."
            )
        sign = known is None or known.higher_is_better
        return read_opinions(
            Path(self.path).expanduser(),
            higher_is_better=sign if self.higher_is_better is None else self.higher_is_better,
            name_column=self.name_column,
            mos_column=self.mos_column,
            average_repeated=known is not None and known.average_repeated,
        )


class HumanScores(NamedTuple):
    """What one list says of some videos.

    Attributes:
        consensus: MOS, the variance of the votes on each video, and the cuts between the levels.
        blur: of the labels, in margins: how much of the votes' deviation is left in their mean.
    """

    consensus: Consensus
    blur: float


def human_scores(mos: Floats, deviation: Floats, votes: Floats, video_ids: Sequence[str]) -> HumanScores:
    """Prepare METHOD's rule, D against sD = sqrt(s_A^2 + s_B^2), for the videos of one list.

    s is the standard deviation of the votes on a video and not the standard error of their mean: a level says
    how much better a video looks, and by the standard error 73 to 87 % of random pairs would be superior or
    inferior (VQEG-HD3, YouTube-UGC). The deviations are shrunk to their pooled mean (`shrink`), for
    a few votes may happen to agree. What the standard error gives is the label's own doubt: a margin D / sD
    is known to 1 / sqrt(votes).

    Where no deviation is known, people are taken to differ by as much as the videos do (rms deviation over
    the standard deviation of the MOS: YouTube-UGC .91, VQEG-HD3 .71, NFLX .59), and METHOD's cuts give way to
    those under which all five levels are equally frequent.

    Args:
        mos: (n,), higher better, any scale.
        deviation: (n,) of the votes, in the unit of the MOS; nan where not known.
        votes: (n,), nan where not known.
        video_ids: (n,).
    """
    votes = np.where(votes > 0, votes, OBSERVERS)
    freedom = np.where(np.isfinite(deviation), np.maximum(votes - 1, 0), 0.0)
    variance = shrink(np.nan_to_num(deviation) ** 2, freedom) if freedom.any() else np.zeros(len(mos))
    if variance.any():
        consensus = Consensus(tuple(video_ids), mos, variance)
    else:
        consensus = Consensus(tuple(video_ids), mos, np.full(len(mos), mos.var()))
        consensus = replace(consensus, cuts=cuts_for_balance(consensus, EVEN))
    blur = np.sqrt(np.average(1 / votes, weights=consensus.variance))
    return HumanScores(consensus, float(blur))


def read_mos(entry: MOSList, corpus: Sequence[Video]) -> tuple[HumanScores, dict[str, float]]:
    """Read a list and keep the train split apart from the report split; no other MOS may be used.

    Args:
        entry: the list.
        corpus: all readable videos with their splits.

    Returns:
        What the list says of the train split, to draw pairs from, and video_id -> MOS of the report split,
        for figures only.

    Raises:
        InputError: the list cannot be read, fits no video of the corpus, or does not tell two videos of the
            train split apart.
    """
    opinions = entry.read()
    # Over all of the corpus, for only so is a name known to be unambiguous.
    rows = match_names(opinions.names, corpus, Path(entry.path).expanduser())
    if all(row is None for row in rows):
        raise InputError(
            f"The MOS list {entry.path} names none of the {len(corpus)} videos of the corpus (its first is "
            f"{opinions.names[0]}, the corpus's {corpus[0].path}): name their list in data.labelling.mos."
        )
    known = [(video, row) for video, row in zip(corpus, rows, strict=True) if row is not None]
    absent = sorted(set(range(len(opinions.names))).difference(row for _, row in known))
    if absent:
        names = ", ".join(opinions.names[row] for row in absent[:3])
        rank_zero_info(f"{entry.path}: {len(absent)} of its videos are not in the corpus, such as {names}")
    train = [(video.video_id, row) for video, row in known if video.split == "train"]
    place = np.array([row for _, row in train], dtype=np.int64)
    if len(np.unique(opinions.mos[place])) < 2:
        raise InputError(
            f"The MOS list {entry.path} has {len(train)} videos of the train split, no two of different MOS: "
            "give a longer list, or more of its videos the split train."
        )
    spread = opinions.deviation[place], opinions.votes[place]
    report = {video.video_id: float(opinions.mos[row]) for video, row in known if video.split == "report"}
    return human_scores(opinions.mos[place], *spread, [name for name, _ in train]), report


def scores_among(lists: Sequence[HumanScores], video_ids: Sequence[str]) -> list[HumanScores]:
    """Return what the lists say of these videos; a list that knows fewer than two of them is left out.

    Raises:
        InputError: no list is left.
    """
    known = [HumanScores(scores.restrict(video_ids), blur) for scores, blur in lists]
    known = [scores for scores in known if len(scores.consensus.video_ids) > 1]
    if not known:
        raise InputError(
            "Fewer than two readable videos of the train split have a MOS: bring the files of data.videos "
            "back, or set data.counts.human to 0."
        )
    return known
