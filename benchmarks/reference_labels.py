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
from rich.console import Console
from rich.table import Table

from datamodules.codecs import Codec
from datamodules.corpus import build_corpus, find_duplicates, videos
from datamodules.corpus.duplicates import THRESHOLD, distances, hash_video
from datamodules.fidelity.xpsnr import xpsnr
from datamodules.labels import ClipItem, LabelStore, Request, annotate_missing
from datamodules.labels.reference_labels import COMPARABLE, eligible, reference_versions
from datamodules.simulators import SIMULATORS, Simulator
from datamodules.teachers.full_reference import FullReference
from datamodules.video import Video
from vqa_lightning.metrics import srcc

SEGMENTS, FRAMES, WINDOW = 4, 2, 256


class XPSNR(FullReference):
    """The judge, on the clips that the metrics see."""

    def __init__(self) -> None:
        super().__init__("ssim", SEGMENTS, FRAMES, WINDOW)
        self.name = "xpsnr"

    def score_items(self, clips: torch.Tensor, items: Sequence[ClipItem]) -> torch.Tensor:
        """Return decibels, at most 100: equal clips have infinitely many."""
        sources = torch.stack([item.sources for item in items])
        pairs = zip(self.apart((clips * 255).round().byte()), self.apart(sources), strict=True)
        return torch.tensor([min(xpsnr(clip, source), 100.0) for clip, source in pairs])


def agreement(corpus: Sequence[Video], simulators: dict[str, Simulator]) -> Table:
    """Score all versions and compare each metric, and the label, with the judge."""
    requests = [
        Request(video, simulator, level)
        for video in corpus
        for simulator in simulators.values()
        for level in range(1, len(simulator.levels) + 1)
    ]
    metrics = (
        FullReference("ssim", SEGMENTS, FRAMES, WINDOW),
        FullReference("gmsd", SEGMENTS, FRAMES, WINDOW),
    )
    judge = XPSNR()
    with tempfile.TemporaryDirectory() as folder:
        store = LabelStore(folder)
        for annotator in (*metrics, judge):
            annotate_missing(annotator, requests, store, round=0)
        table = store.read(round=0)
    scores = {
        (row["annotator"], row["video_id"], row["simulator"], row["level"]): row["score"]
        for row in table.to_pylist()
    }
    versions = reference_versions(
        table, [video.video_id for video in corpus], simulators, [metric.fingerprint for metric in metrics]
    )
    keys = [
        (video_id, simulators[name].identity, level)
        for video_id, name, level in zip(
            versions.consensus.video_ids, versions.simulators, versions.levels.tolist(), strict=True
        )
    ]
    columns = {
        name: np.array([scores[(name, *key)] for key in keys]) for name in ("ssim", "gmsd", judge.name)
    }
    columns["mean"] = versions.consensus.score

    used = np.array(versions.simulators)
    family = np.array([simulators[name].family for name in used])
    encoded = np.array([isinstance(simulators[name], Codec) for name in used])
    rows = {"all": np.ones(len(keys), dtype=bool), "without tone": family != "tone"}
    rows |= {name: family == name for name in COMPARABLE}
    if encoded.any():
        rows["compression, codecs only"] = encoded
        rows["compression, without codecs"] = (family == "compression") & ~encoded
        rows["all, without codecs"] = ~encoded
        rows["without tone, without codecs"] = (family != "tone") & ~encoded
    report = Table(
        title=f"SRCC with XPSNR: {len(corpus)} videos, {len(simulators)} simulators, {SEGMENTS} x {FRAMES} "
        f"frames, windows of {WINDOW} pixels",
        title_justify="left",
    )
    report.add_column("simulators")
    for column in ("versions", "ssim", "gmsd", "mean"):
        report.add_column(column, justify="right")
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

    report = Table(
        title=f"Near-duplicates: share of differing bits, threshold {THRESHOLD}", title_justify="left"
    )
    report.add_column("videos")
    report.add_column("distance", justify="right")
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", default="../shared/data/clips")
    parser.add_argument("--codecs", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=110)
    table = build_corpus(arguments.videos)
    corpus = videos(table)
    chosen = {
        name: simulator
        for name, simulator in eligible(SIMULATORS).items()
        if arguments.codecs or not isinstance(simulator, Codec)
    }
    console.print(agreement(corpus, chosen))
    with tempfile.TemporaryDirectory() as folder:
        groups = find_duplicates(table, cache=Path(folder), workers=1)
    console.print(nearness(corpus, groups))


if __name__ == "__main__":
    main()
