"""The three splits of a corpus, by content: train, select and report."""

import hashlib

import pyarrow as pa

from datamodules.corpus.table import SPLITS, all_videos
from datamodules.errors import InputError


def assign_splits(
    corpus: pa.Table, shares: tuple[float, float, float] = (0.5, 0.17, 0.33), seed: int = 0
) -> pa.Table:
    """Divide the readable videos by content into train, select and report.

    Contents are put in the order of a hash of (seed, content) and cut by share, so that a video's split
    hardly depends on what else the corpus holds. A split given by a manifest stays, and holds for its whole
    content.

    Args:
        corpus: as `build_corpus` returns it.
        shares: parts of the contents for train, select and report; positive, of any sum.
        seed: another one gives another division.

    Returns:
        The corpus with its column `split` filled where the status is "ok" and empty elsewhere.

    Raises:
        InputError: for shares that are not three positive numbers, fewer than three readable contents, one
            content that is given two splits, or given splits that leave one of the three empty.
    """
    if len(shares) != len(SPLITS) or min(shares) <= 0:
        raise InputError(f"The shares of the splits are {shares}; give three numbers above 0.")
    readable = [video for video in all_videos(corpus) if video.status == "ok"]
    places: dict[str, str] = {}
    for video in readable:
        given = places.setdefault(video.content, video.split)
        if video.split and given and given != video.split:
            raise InputError(
                f"The content {video.content} is given the splits {given} and {video.split}; give it one."
            )
        places[video.content] = given or video.split
    if len(places) < len(SPLITS):
        raise InputError(
            f"The corpus has {len(places)} readable contents; give at least 3, for train, select and report."
        )

    free = sorted((content for content, split in places.items() if not split), key=lambda c: _order(seed, c))
    for split, count in zip(SPLITS, _counts(list(places.values()), len(free), shares), strict=True):
        places.update(dict.fromkeys(free[:count], split))
        free = free[count:]
    empty = [split for split in SPLITS if split not in places.values()]
    if empty:
        raise InputError(
            f"The manifest's splits leave no content for {' and '.join(empty)}; "
            "name one there, or leave some cells of the column empty."
        )
    splits = [places[video.content] if video.status == "ok" else "" for video in all_videos(corpus)]
    return corpus.set_column(corpus.schema.get_field_index("split"), "split", pa.array(splits, pa.string()))


def _order(seed: int, content: str) -> bytes:
    return hashlib.blake2b(f"{seed}/{content}".encode(), digest_size=16).digest()


def _counts(given: list[str], free: int, shares: tuple[float, float, float]) -> list[int]:
    """How many free contents each split receives: its share less what it was given, but at least one."""
    held = [given.count(split) for split in SPLITS]
    counts = [0, 0, 0]
    for _ in range(free):
        # One at a time, to an empty split first, then to the one that lacks most of its share.
        lacks = [
            (held[i] + counts[i] == 0, share - (held[i] + counts[i]) / len(given) * sum(shares))
            for i, share in enumerate(shares)
        ]
        counts[lacks.index(max(lacks))] += 1
    return counts
