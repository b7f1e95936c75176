"""The three splits of a corpus, by content: train, select and report."""

import hashlib
from dataclasses import dataclass

import pyarrow as pa

from datamodules.corpus.manifest import SPLITS
from datamodules.corpus.table import all_videos
from datamodules.errors import InputError


@dataclass(frozen=True)
class Splits:
    """How the corpus is divided.

    Args:
        shares: of the contents that go to the train, the select and the report split.
        seed: of the splits and of every round's pairs.
        duplicates: find videos that show the same pictures, and take them as one content, so that they never
            stand on both sides of a split.
    """

    shares: tuple[float, float, float] = (0.5, 0.17, 0.33)
    seed: int = 0
    duplicates: bool = True


def assign_splits(
    corpus: pa.Table, shares: tuple[float, float, float] = (0.5, 0.17, 0.33), seed: int = 0
) -> pa.Table:
    """Divide the readable videos by content into train, select and report.

    Contents are put in the order of a hash of (seed, content) and cut by share, so that a video's split
    hardly depends on the other videos of the corpus. A split given by a manifest stays, and holds for its
    whole content.

    Args:
        corpus: as `build_corpus` returns it.
        shares: parts of the contents for train, select and report; positive, of any sum.
        seed: another one gives another division.

    Returns:
        The corpus with its column `split` filled where the status is "ok" and empty elsewhere.

    Raises:
        InputError: the shares are not three positive numbers, fewer than three contents are readable, one
            content is given two splits, or the given splits leave one of the three empty.
    """
    if len(shares) != len(SPLITS) or min(shares) <= 0:
        raise InputError(f"The shares of the splits must be three numbers above 0; got {shares}.")
    readable = [video for video in all_videos(corpus) if video.status == "ok"]
    places: dict[str, str] = {}
    for video in readable:
        given = places.setdefault(video.content, video.split)
        if video.split and given and given != video.split:
            raise InputError(
                f"The content {video.content} must be in one split; got the splits {given} and {video.split}."
            )
        places[video.content] = given or video.split
    if len(places) < len(SPLITS):
        raise InputError(
            "The corpus must have 3 or more readable contents, for train, select and report; got "
            f"{len(places)}."
        )

    free = sorted((content for content, split in places.items() if not split), key=lambda c: _order(seed, c))
    for split, count in zip(SPLITS, _counts(list(places.values()), len(free), shares), strict=True):
        places.update(dict.fromkeys(free[:count], split))
        free = free[count:]
    empty = [split for split in SPLITS if split not in places.values()]
    if empty:
        raise InputError(
            f"The manifest's splits leave no content for {' and '.join(empty)}; "
            "name a content there, or leave some cells of the column empty."
        )
    splits = [places[video.content] if video.status == "ok" else "" for video in all_videos(corpus)]
    return corpus.set_column(corpus.schema.get_field_index("split"), "split", pa.array(splits, pa.string()))


def _order(seed: int, content: str) -> bytes:
    return hashlib.blake2b(f"{seed}/{content}".encode(), digest_size=16).digest()


def _counts(given: list[str], free: int, shares: tuple[float, float, float]) -> list[int]:
    """Count the free contents that each split receives: its share less the given contents, but 1 or more."""
    before = [given.count(split) for split in SPLITS]
    held = before.copy()
    for _ in range(free):
        # One at a time, to an empty split first, then to the split that lacks most of its share.
        lacks = [
            (n == 0, share - n / len(given) * sum(shares)) for n, share in zip(held, shares, strict=True)
        ]
        held[lacks.index(max(lacks))] += 1
    return [after - n for after, n in zip(held, before, strict=True)]
