"""Reference labels beside a judge that labels nothing, and how near near-duplicates are.

    python benchmarks/reference_labels.py [--videos ../shared/data/clips] [--no-codecs]

Every video by every simulator that leaves pixels in place is scored by SSIM, GMSD and XPSNR on the same
clips. The first table prints SRCC with XPSNR of SSIM, of 1 - GMSD and of the reference label, which is the
mean of both mapped to one scale, pooled over contents. The second has the groups of near-duplicates with the
largest distance within, and the nearest two videos that share no group. Scores lie in a temporary folder.
"""

import argparse
import tempfile
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from experiment import XPSNR, arguments, table, versions
from rich.console import Console
from rich.table import Table

from datamodules.codecs import Codec
from datamodules.corpus import build_corpus, find_duplicates, videos
from datamodules.corpus.duplicates import THRESHOLD, distances, hash_video
from datamodules.labels import LabelStore, annotate_missing
from datamodules.labels.reference_labels import COMPARABLE, eligible, reference_versions
from datamodules.simulators import SIMULATORS, Simulator
from datamodules.teachers.full_reference import FullReference
from datamodules.video import Video
from vqa_lightning.metrics import srcc

SEGMENTS, FRAMES, WINDOW = 4, 2, 256


def agreement(corpus: Sequence[Video], simulators: dict[str, Simulator]) -> Table:
    """Score all versions and compare each metric, and the label, with the judge."""
    requests = [request for request in versions(corpus, simulators.values()) if request.simulator]
    metrics = [FullReference(name, SEGMENTS, FRAMES, WINDOW) for name in ("ssim", "gmsd")]
    judge = XPSNR(SEGMENTS, FRAMES, WINDOW)
    with tempfile.TemporaryDirectory() as folder:
        store = LabelStore(folder)
        for annotator in (*metrics, judge):
            annotate_missing(annotator, requests, store, round=0)
        stored = store.read(round=0)
    scores = {
        (row["annotator"], row["video_id"], row["simulator"], row["level"]): row["score"]
        for row in stored.to_pylist()
    }
    labelled = reference_versions(
        stored, [video.video_id for video in corpus], simulators, [metric.fingerprint for metric in metrics]
    )
    keys = [
        (video_id, simulators[name].identity, level)
        for video_id, name, level in zip(
            labelled.consensus.video_ids, labelled.simulators, labelled.levels.tolist(), strict=True
        )
    ]
    columns = {
        name: np.array([scores[(name, *key)] for key in keys]) for name in ("ssim", "gmsd", judge.name)
    }
    columns["mean"] = labelled.consensus.score

    used = np.array(labelled.simulators)
    family = np.array([simulators[name].family for name in used])
    encoded = np.array([isinstance(simulators[name], Codec) for name in used])
    rows = {"all": np.ones(len(keys), dtype=bool), "without tone": family != "tone"}
    rows |= {name: family == name for name in COMPARABLE}
    if encoded.any():
        rows["compression, codecs only"] = encoded
        rows["compression, without codecs"] = (family == "compression") & ~encoded
        rows["all, without codecs"] = ~encoded
        rows["without tone, without codecs"] = (family != "tone") & ~encoded
    report = table(
        f"SRCC with XPSNR: {len(corpus)} videos, {len(simulators)} simulators, {SEGMENTS} x {FRAMES} "
        f"frames, windows of {WINDOW} pixels",
        ["simulators"],
        ("versions", "ssim", "gmsd", "mean"),
    )
    for name, chosen in rows.items():
        found = [
            srcc(columns[label][chosen], columns[judge.name][chosen]) for label in ("ssim", "gmsd", "mean")
        ]
        report.add_row(name, str(chosen.sum()), *(f"{value:.3f}" for value in found))
    return report


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
    """Print both tables."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", default="../shared/data/clips")
    parser.add_argument("--codecs", action=argparse.BooleanOptionalAction, default=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=110)
    listed = build_corpus(given.videos)
    corpus = videos(listed)
    chosen = {
        name: simulator
        for name, simulator in eligible(SIMULATORS).items()
        if given.codecs or not isinstance(simulator, Codec)
    }
    console.print(agreement(corpus, chosen))
    with tempfile.TemporaryDirectory() as folder:
        groups = find_duplicates(listed, cache=Path(folder), workers=1)
    console.print(nearness(corpus, groups))


if __name__ == "__main__":
    main()
