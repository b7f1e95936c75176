"""The command `compare`: encodes beside each other on a page, two of a content or whole ladders.

Nothing is left out in silence: a file without a counterpart and a file that cannot be read stand on the page
and in the terminal.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from callbacks.scores.report import save_page
from callbacks.scores.rows import SUFFIXES, checked_page
from datamodules.checks import check_above, check_least
from datamodules.corpus import build_corpus
from datamodules.corpus.table import all_videos
from datamodules.errors import InputError, UnreadableVideo
from datamodules.names import file_of, name_of, place_of
from datamodules.video import Video, bitrate
from vqa_lightning.annotators.scorer import Scorer
from vqa_lightning.checkpoints.scorer_file import SHIPPED
from vqa_lightning.encodes import Content, Encode
from vqa_lightning.pages.compare_page import chance, compare_page, sized, told_bd_rate
from vqa_lightning.pages.page import short_names


def as_lists(words: Sequence[str]) -> list[str]:
    """Return the words with those that stand without a name, and ladders that are given again, as lists.

    Raises:
        InputError: a word is a file of scores.

    Example:
        >>> as_lists(["a.mp4", "--title", "two", "b.mp4"])
        ['--title', 'two', '--videos=["a.mp4", "b.mp4"]']
    """
    rest: list[str] = []
    given: dict[str, list[str]] = {"--videos": [], "--ladder": []}
    left = iter(words)
    for word in left:
        name, joined, value = word.partition("=") if word.startswith("-") else ("--videos", "=", word)
        if not joined and name not in ("-h", "--help"):
            value = next(left, "")
        if value.lower().endswith(SUFFIXES):
            raise InputError(
                f"compare takes videos; got {value}: two files of scores are compared by "
                "vqa-lightning agreement --first A --second B --labels LIST."
            )
        if name in given:
            given[name].append(value)
        else:
            rest += [word] if joined or not value else [word, value]
    return rest + [f"{name}={json.dumps(own, ensure_ascii=False)}" for name, own in given.items() if own]


def compare_videos(
    videos: tuple[str, ...] = (),
    ladder: tuple[str, ...] = (),
    ckpt_path: Path = SHIPPED,
    output: Path = Path("compare.html"),
    title: str | None = None,
    score_every: float = 1.0,
    pictured: int = 20,
) -> None:
    """Write a page of encodes beside each other: rates, scores, differences over time, frames under a slider.

    Args:
        videos: two encodes or more of one content, or two folders whose files are matched by their names
            without suffix. They stand without a name: compare A.mp4 B.mp4.
        ladder: NAME=FOLDER or NAME="GLOB" of the encodes of one content by one encoder, given twice or more
            in place of videos; each is held against the first by its BD-rate.
        ckpt_path: a .ckpt that fit wrote, or a scorer; by default the scorer of this package.
        output: page to write.
        title: of the page; null: what is compared.
        score_every: seconds between which quality is told over time.
        pictured: how many pairs have curves and pictures, those first in which the second falls most.

    Raises:
        InputError: there is nothing to compare, a file of two cannot be read, or the page cannot be written.
    """
    check_above("--score_every", score_every, 0)
    check_least("--pictured", pictured, 0)
    checked_page(str(output), "--output")
    groups, unmatched = _groups(videos, ladder)
    scorer = Scorer(ckpt_path)
    contents = []
    bar = Console(stderr=True)
    alone, shown = len(groups) == 1, bar.is_terminal
    hidden = alone or not shown
    for name, encodes in track(groups.items(), "Scoring", disable=hidden, console=bar, transient=True):
        given = [one.video for one in encodes]
        found = scorer.score_encodes(given, score_every, progress=alone and shown)
        contents.append(Content(name, encodes, found))
    _require_two(contents)
    whole = [*videos] or [one.partition("=")[0] for one in ladder]
    heading = title or _together([Path(one).name or one for one in whole])
    page = compare_page(contents, heading, scorer.model, unmatched, pictured)
    _tell(contents, unmatched)
    count = sum(len(one.pairs) for one in contents)
    print(save_page(output, page, f"{count} pair{'' if count == 1 else 's'}"))


def _groups(
    videos: Sequence[str], ladders: Sequence[str]
) -> tuple[Mapping[str, tuple[Encode, ...]], list[str]]:
    """Return the encodes of each content, and the files without a counterpart."""
    if ladders:
        if videos:
            raise InputError(f"--ladder must stand in place of videos; got {videos[0]} besides.")
        return {_together([one.partition("=")[0] for one in ladders]): _of_ladders(ladders)}, []
    if len(videos) < 2:
        raise InputError(
            "compare needs two encodes or more, two folders, or --ladder NAME=FOLDER twice; got "
            f"{videos[0] if videos else 'none'}."
        )
    folders = [word for word in videos if place_of(word).is_dir()]
    if folders and (len(videos) > 2 or len(folders) < 2):
        raise InputError(f"compare takes two folders, or files alone; got {', '.join(videos)}.")
    if folders:
        return _matched(*folders)
    found = [video for word in videos for video in _probed(word)]
    if len(found) == 2 and (errors := [video.error for video in found if video.status != "ok"]):
        raise InputError(errors[0])
    names = short_names([video.path for video in found])
    return {_together(list(names.values())): tuple(_encode(video, names[video.path]) for video in found)}, []


def _together(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} others"


def _of_ladders(ladders: Sequence[str]) -> tuple[Encode, ...]:
    named = dict(one.partition("=")[::2] for one in ladders)
    if len(named) < max(2, len(ladders)) or not all(named) or not all(named.values()):
        raise InputError(
            "--ladder must be NAME=FOLDER or NAME=GLOB, and given twice or more by other names; got "
            f"{', '.join(ladders)}."
        )
    found = {name: _probed(place) for name, place in named.items()}
    names = short_names([video.path for own in found.values() for video in own])
    return tuple(_encode(video, names[video.path], name) for name, own in found.items() for video in own)


def _matched(first: str, second: str) -> tuple[Mapping[str, tuple[Encode, ...]], list[str]]:
    sides = [_by_name(folder) for folder in (first, second)]
    both = [name for name in sides[0] if name in sides[1]]
    unmatched = [video.path for side in sides for name, video in side.items() if name not in both]
    if not both:
        raise InputError(
            f"{first} and {second} share no name: files are matched by their names without suffix, such as "
            f"{Path(unmatched[0]).name}."
        )
    pairs = {name: [side[name] for side in sides] for name in both}
    names = short_names([video.path for pair in pairs.values() for video in pair])
    encodes = {
        name: tuple(_encode(video, names[video.path]) for video in pair) for name, pair in pairs.items()
    }
    return encodes, unmatched


def _by_name(folder: str) -> dict[str, Video]:
    """Return the videos of a folder by their relative paths without suffix."""
    root = name_of(place_of(folder))
    found: dict[str, Video] = {}
    for video in _probed(folder):
        name = str(Path(video.path).relative_to(root).with_suffix(""))
        if name in found:
            raise InputError(
                f"{folder} has two files of one name, {Path(found[name].path).name} and "
                f"{Path(video.path).name}: files are matched by their names without suffix."
            )
        found[name] = video
    return found


def _probed(place: str) -> list[Video]:
    return list(all_videos(build_corpus(place, progress=Console(stderr=True).is_terminal)))


def _encode(video: Video, name: str, ladder: str = "") -> Encode:
    path = file_of(video.path)
    rate = float("nan")
    with suppress(UnreadableVideo):  # what can be read when it is scored says so then
        rate = bitrate(video) if video.status == "ok" else rate
    return Encode(video, name, rate, path.stat().st_size if path.is_file() else 0, ladder)


def _require_two(contents: Sequence[Content]) -> None:
    """Refuse to go on without a single pair that can be read."""
    if any(content.pairs for content in contents):
        return
    error = next((error for content in contents for error in content.found.errors if error), "")
    raise InputError(f"not two encodes of a content could be read; the first: {error}")


def _tell(contents: Sequence[Content], unmatched: Sequence[str]) -> None:
    """Print every pair, what cannot be read, and what has no counterpart."""
    table = Table("encode", "beside", title="50: middle of the training corpus, 10: its deviation")
    for header in ("size", "kbit/s", "score", "difference", "P"):
        table.add_column(header, justify="right", no_wrap=True)
    for content in contents:
        for one, other in content.pairs:
            first, second = content.encodes[one], content.encodes[other]
            change = content.found.difference(one, other)
            table.add_row(
                Text(second.name, overflow="fold"),
                Text(first.name, overflow="fold"),
                sized(second.size),
                f"{second.rate / 1000:.0f}",
                f"{content.found.scores[other]:.1f}",
                f"{change.value:+.1f} ± {change.stderr:.1f}",
                chance(change.probability),
            )
    console = Console()
    console.print(table)
    for content in contents:
        for name, found in content.bd_rates().items():
            line = f"BD-rate of {name} to {content.encodes[0].ladder}: {told_bd_rate(found)}"
            console.print(line, highlight=False, markup=False)
        for error in filter(None, content.found.errors):
            console.print(f"unreadable: {error}", style="red", highlight=False, markup=False)
    for path in unmatched:
        console.print(f"without a counterpart: {path}", style="red", highlight=False, markup=False)
