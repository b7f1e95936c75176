"""Videos with human opinions, for `test`: sets that are checked against their lists before anything runs.

A video that several sets name is scored once, and has a row of `labels` for each of these sets.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from lightning_utilities.core.rank_zero import rank_zero_only
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from datamodules.corpus import build_corpus, match_names
from datamodules.corpus.table import all_videos
from datamodules.errors import InputError
from datamodules.opinions import BENCHMARKS, Opinions, read_opinions
from datamodules.video import Video
from datamodules.video_data import VideoDataModule

NAMED = 3
"""How many names of a kind the check of a set prints as examples."""


@dataclass(frozen=True)
class BenchmarkSet:
    """A list of opinions and its videos.

    Attributes:
        name: of the set; the sign of a set of `vqa-lightning list` is known.
        labels: the list: text, CSV, JSON, Parquet or MATLAB.
        videos: folder, file, glob or manifest; a manifest's column `content` groups versions of one scene.
        higher_is_better: False where a larger number in the list is a worse video; None: as known of the set.
        name_column: header of the list's column that names the video; None: found by the usual names.
        mos_column: header of the list's column of scores; None: found by the usual names.
        screening: whether erratic observers among raw votes are left out.
    """

    name: str
    labels: str
    videos: str
    higher_is_better: bool | None = None
    name_column: str | None = None
    mos_column: str | None = None
    screening: bool = True

    def read(self) -> Opinions:
        """Read the list.

        Raises:
            InputError: as `read_opinions` does, or nobody says which way the scores run.
        """
        known = BENCHMARKS.get(self.name)
        sign = self.higher_is_better
        if sign is None:
            if known is None:
                raise InputError(
                    f"The set {self.name} is not among the known sets ({', '.join(BENCHMARKS)}): set "
                    "higher_is_better to true or false, as its scores run."
                )
            sign = known.higher_is_better
        return read_opinions(
            self.labels,
            higher_is_better=sign,
            name_column=self.name_column,
            mos_column=self.mos_column,
            screening=self.screening,
            average_repeated=known is not None and known.average_repeated,
        )


class LabelledVideo(NamedTuple):
    """A video with its opinion in one set.

    Attributes:
        set: name of the set.
        name: of the video, as it stands in the list.
        mos: higher is better.
        deviation: standard deviation of the votes; NaN where not known.
        votes: their number; NaN where not known.
        row: of the video in `BenchmarkDataModule.rows` and `pending`, which a batch's rows point into.
        video: the file.
    """

    set: str
    name: str
    mos: float
    deviation: float
    votes: float
    row: int
    video: Video


class SetCheck(NamedTuple):
    """A folder held against a list.

    Attributes:
        set: the set that was asked for.
        opinions: its list.
        release: the release of a known set whose list has as many rows; None: no known list has.
        found: row of the list -> its video, which can be read.
        missing: names that no video has.
        unreadable: videos that the list names and that cannot be read.
        unlisted: videos that the list does not name.
    """

    set: BenchmarkSet
    opinions: Opinions
    release: str | None
    found: dict[int, Video]
    missing: list[str]
    unreadable: list[Video]
    unlisted: list[Video]


def check_set(asked: BenchmarkSet, opinions: Opinions, videos: Sequence[Video]) -> SetCheck:
    """Hold a set's videos against its list.

    Args:
        asked: the set.
        opinions: its list.
        videos: all videos of its folder, in order, readable or not.

    Raises:
        InputError: no name of the list is the name of a video, none of the named videos can be read, or a
            name fits several videos.
    """
    rows = match_names(opinions.names, videos, Path(asked.labels))
    listed = {row: video for row, video in zip(rows, videos, strict=True) if row is not None}
    if not listed:
        raise InputError(
            f"Not one of the {len(opinions.names)} names in {asked.labels} is the name of a video in "
            f"{asked.videos}: the first name is {opinions.names[0]}, the first video {videos[0].path}; give "
            "the list of these videos."
        )
    found = {row: listed[row] for row in sorted(listed) if listed[row].status == "ok"}
    unreadable = [listed[row] for row in sorted(listed) if row not in found]
    if not found:
        raise InputError(
            f"Not one of the {len(listed)} videos in {asked.videos} that {asked.labels} names can be read; "
            f"the first: {unreadable[0].error}"
        )
    known = BENCHMARKS.get(asked.name)
    return SetCheck(
        asked,
        opinions,
        None if known is None else known.release(opinions),
        found,
        [name for row, name in enumerate(opinions.names) if row not in listed],
        unreadable,
        [video for row, video in zip(rows, videos, strict=True) if row is None],
    )


class BenchmarkDataModule(VideoDataModule):
    """Sets of videos with human opinions.

    Args:
        benchmark: name of the only set; one of `vqa-lightning list`, or any other with `higher_is_better`.
        labels: its list: text, CSV, JSON, Parquet or MATLAB.
        videos: its folder, file, glob or manifest.
        higher_is_better: False where a larger number in its list is a worse video; null: as known of the set.
        sets: several sets, each with name, labels and videos, instead of the four settings above.
        allow_missing: whether a set counts if some of its videos are absent or cannot be read; such videos
            are named either way.
        workers: processes that read clips; 0 reads in the main process; null: as there are cores to spare.

    Raises:
        InputError: neither one set nor several sets are given in full, or two sets have one name.
    """

    labels: list[LabelledVideo]
    """The opinions on the videos, set by set in the order of the lists."""
    checks: list[SetCheck]
    """How each set's videos fit its list."""

    def __init__(
        self,
        benchmark: str | None = None,
        labels: str | None = None,
        videos: str | None = None,
        higher_is_better: bool | None = None,
        sets: list[BenchmarkSet] | None = None,
        allow_missing: bool = True,
        workers: int | None = None,
    ) -> None:
        super().__init__(videos, workers=workers)
        single = {"benchmark": benchmark, "labels": labels, "videos": videos}
        if sets and any(single.values()):
            given = ", ".join(f"data.{name}" for name, value in single.items() if value)
            raise InputError(
                f"data.sets and {given} are given; give either several sets or the settings of the only set."
            )
        if not sets:
            for name, value in single.items():
                if not value:
                    raise InputError(
                        f"data.{name} is not given: name a set by data.benchmark, data.labels and "
                        "data.videos, or several sets by data.sets."
                    )
            sets = [BenchmarkSet(str(benchmark), str(labels), str(videos), higher_is_better)]
        [(twice, count)] = Counter(one.name for one in sets).most_common(1)
        if count > 1:
            raise InputError(f"data.sets has two sets named {twice}; give each set a name of its own.")
        self.sets = sets
        self.allow_missing = allow_missing

    def setup(self, stage: str) -> None:
        """Read the lists, probe the videos and print how they fit.

        Raises:
            InputError: a list or its videos are absent or wrong, as `check_set` says, or a set is incomplete
                and `allow_missing` is False.
        """
        opinions = [one.read() for one in self.sets]  # all lists first: a folder takes its time
        corpora = [build_corpus(one.videos) for one in self.sets]
        videos = [list(all_videos(corpus)) for corpus in corpora]
        self.checks = [check_set(*parts) for parts in zip(self.sets, opinions, videos, strict=True)]
        print_checks(self.checks)
        for check in self.checks:
            absent = len(check.missing) + len(check.unreadable)
            if absent and not self.allow_missing:
                raise InputError(
                    f"{check.set.name} lacks {absent} of its {len(check.opinions.names)} videos, and "
                    "data.allow_missing is false: complete the folder, or set it to true."
                )
        self.corpus = pa.concat_tables(corpora)
        self.rows, self.labels = [], []
        row_of: dict[str, int] = {}
        for check in self.checks:
            for place, video in check.found.items():
                row = row_of.setdefault(video.video_id, len(self.rows))
                if row == len(self.rows):
                    self.rows.append(video)
                mos, deviation, votes = (float(values[place]) for values in check.opinions[1:4])
                name = check.opinions.names[place]
                self.labels.append(LabelledVideo(check.set.name, name, mos, deviation, votes, row, video))

    def test_dataloader(self) -> DataLoader[Any]:
        """Return batches over the videos of all sets, each video once, as in prediction."""
        return self.predict_dataloader()


@rank_zero_only
def print_checks(checks: Sequence[SetCheck]) -> None:
    """Print a row for each set, and name the videos that do not fit."""
    console = Console()
    table = Table("set", title="Videos and lists", title_justify="left")
    for header in ("listed", "found", "missing", "unreadable", "unlisted"):
        table.add_column(header, justify="right")
    for check in checks:
        parts = (check.opinions.names, check.found, check.missing, check.unreadable, check.unlisted)
        table.add_row(check.set.name, *(str(len(part)) for part in parts))
    console.print(table)
    for check in checks:
        for note in _notes(check):
            console.print(f"{check.set.name}: {note}", markup=False, highlight=False)


def _notes(check: SetCheck) -> list[str]:
    rows = len(check.opinions.names)
    known = BENCHMARKS.get(check.set.name)
    notes = []
    if known is not None and check.release is not None:
        notes.append(f"{rows} rows, as in the list of {check.release}")
    elif known is not None:
        others = ", ".join(f"{one.rows} ({release})" for release, one in known.lists.items())
        notes.append(f"{rows} rows, as in no known list: {others}")
    if check.opinions.rejected:
        places = ", ".join(str(place + 1) for place in check.opinions.rejected)
        notes.append(f"votes of observer {places} left out (BT.500)")
    for kind, names in (
        ("missing", check.missing),
        ("unreadable", [video.error.rstrip(".") for video in check.unreadable]),
        ("unlisted", [Path(video.path).name for video in check.unlisted]),
    ):
        if names:
            notes.append(f"{kind}: {', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''}")
    return notes
