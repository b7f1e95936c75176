"""How near near-duplicates are: the largest distance within the groups, the smallest outside of them.

Run: python benchmarks/near_duplicates.py [--videos ../shared/data/clips]
"""

import tempfile
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from experiment import arguments, table
from rich.console import Console
from rich.table import Table

from datamodules.corpus import build_corpus, find_duplicates, videos
from datamodules.corpus.duplicates import THRESHOLD, distances, hash_video
from datamodules.video import Video


def nearness(corpus: Sequence[Video], groups: Sequence[Sequence[str]]) -> Table:
    """Return the distances within the groups and the nearest distance outside of them."""
    hashes, seen = (np.stack(arrays) for arrays in zip(*map(hash_video, corpus), strict=True))
    first, second = np.array(list(combinations(range(len(corpus)), 2))).T
    apart = distances(np.ascontiguousarray(hashes).view(np.uint64), seen, first, second)
    group_of = {video_id: number for number, group in enumerate(groups) for video_id in group}
    label = np.array([group_of.get(video.video_id, -1 - place) for place, video in enumerate(corpus)])
    names = [Path(video.path).name for video in corpus]

    title = f"Near-duplicates: share of differing bits, threshold {THRESHOLD}"
    report = table(title, ["videos"], ["distance"])
    inside = label[first] == label[second]
    for number in range(len(groups)):
        members = [name for name, own in zip(names, label, strict=True) if own == number]
        report.add_row(", ".join(members), f"{apart[inside & (label[first] == number)].max():.3f}")
    outside = np.flatnonzero(~inside)
    nearest = int(outside[apart[outside].argmin()])
    others = f"nearest of {len(outside)} pairs outside: {names[first[nearest]]}, {names[second[nearest]]}"
    report.add_section()
    report.add_row(others, f"{apart[nearest]:.3f}")
    return report


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", default="../shared/data/clips")
    given = parser.parse_args()
    torch.set_num_threads(1)
    listed = build_corpus(given.videos)
    with tempfile.TemporaryDirectory() as folder:
        groups = find_duplicates(listed, cache=Path(folder), workers=1)
    Console(width=110).print(nearness(videos(listed), groups))


if __name__ == "__main__":
    main()
