"""What each kind of label gives: students of equal length on unseen contents and an unseen simulator family.

    python benchmarks/labels.py [--videos FOLDER] [--pairs 9600] [--jobs 2]

The contents are divided into as many folds as there are groups of simulator families. The student of a fold
sees neither the fold's contents nor its group of families. Every student has the same number of pairs, hence
of steps; the last column is the seconds that it took, labels included. The first four arms add one kind of
label after the other: synthetic pairs alone, + teachers, + reference labels across contents, + compositions;
the others have reference labels or compositions without teachers. On the fold's contents every version by
every simulator is scored, and the table prints, for the simulators that were trained and those that were held
out,

- rank accuracy within content: the share of pairs of levels of one ladder that the score puts in order, and
- SRCC across contents: of the score with XPSNR, a full-reference metric that labels nothing, over all
  versions of the fold by simulators that leave pixels in place.

The mean absolute Laplacian stands beside them. Intervals are 95 % of a bootstrap over contents.
"""

import argparse
import csv
import hashlib
import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from datamodules.corpus import build_corpus, find_duplicates, join_contents, videos
from datamodules.fidelity.xpsnr import xpsnr
from datamodules.labels import ClipItem, Request
from datamodules.labels.reference_labels import COMPARABLE
from datamodules.simulators import SIMULATORS
from datamodules.teachers import Laplacian
from datamodules.teachers.full_reference import FullReference
from datamodules.video import Video
from vqa_lightning.annotators.student import Student
from vqa_lightning.metrics import srcc
from vqa_lightning.training import RankingModule

GROUPS = (("sharpness",), ("noise", "tone"), ("compression",), ("temporal", "geometry"))
"""Families that are held out together: one family of few simulators would leave a fold with little to say."""

ARMS = {
    "synthetic": (1.0, 0.0, 0.0, 0.0),
    "+ teachers": (0.75, 0.25, 0.0, 0.0),
    "+ reference": (0.5, 0.25, 0.25, 0.0),
    "+ compositions": (0.5, 0.25, 0.25, 0.3),
    "synthetic, 25 % reference": (0.75, 0.0, 0.25, 0.0),
    "synthetic, 50 % reference": (0.5, 0.0, 0.5, 0.0),
    "synthetic, compositions": (1.0, 0.0, 0.0, 0.3),
}
"""Shares of synthetic, teacher and reference pairs, and of the synthetic ones that are composed."""

Scores = dict[tuple[str, str | None, int], float]


class XPSNR(FullReference):
    """The judge: XPSNR against the source, on windows that hold what the student sees of a clip."""

    def __init__(self) -> None:
        super().__init__("ssim", segments=2, window=256)
        self.name = "xpsnr"

    def score_items(self, clips: torch.Tensor, items: Sequence[ClipItem]) -> torch.Tensor:
        """Return decibels, at most 100: equal clips have infinitely many."""
        sources = torch.stack([item.sources for item in items])
        pairs = zip(self.apart((clips * 255).round().byte()), self.apart(sources), strict=True)
        return torch.tensor([min(xpsnr(clip, source), 100.0) for clip, source in pairs])


def folds(corpus: list[Video]) -> Iterator[set[str]]:
    """Return the contents of each fold, largest frames dealt out first so that every fold has all sizes."""
    sizes: dict[str, int] = {}
    for video in corpus:
        sizes[video.content] = max(sizes.get(video.content, 0), video.width * video.height)
    ordered = sorted(sizes, key=lambda content: (-sizes[content], content))
    for fold in range(len(GROUPS)):
        yield set(ordered[fold :: len(GROUPS)])


def train(root: Path, manifest: Path, arm: str, group: Sequence[str], pairs: int, seed: int) -> float:
    """Fit one student on one thread unless it lies there already; return the seconds that it took."""
    spent = root / "seconds.txt"
    if spent.is_file():
        return float(spent.read_text())
    synthetic, teacher, reference, composed = ARMS[arm]
    simulators = [name for name, one in SIMULATORS.items() if one.family not in group]
    words = ["fit", "--config", "round.yaml", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
    words += ["--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", str(root)]
    words += ["--seed_everything", str(seed), "--data.splits.seed", str(seed), "--data.videos", str(manifest)]
    words += ["--data.counts.synthetic", str(round(synthetic * pairs))]
    words += ["--data.counts.teacher", str(round(teacher * pairs))]
    words += ["--data.counts.reference", str(round(reference * pairs))]
    words += ["--data.drawing.composed", str(composed), "--data.simulators", f"[{', '.join(simulators)}]"]
    began = time.monotonic()
    with (root / "log.txt").open("w") as log:
        subprocess.run(
            [sys.executable, "-m", "vqa_lightning", *words],
            check=True,
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    seconds = time.monotonic() - began
    spent.write_text(f"{seconds:.1f}")
    return seconds


def folder_name(arm: str) -> str:
    """Return the arm's name without characters that a shell would trip over."""
    return "_".join(re.findall(r"\w+", arm))


def versions(contents: Sequence[Video]) -> list[Request]:
    """Return the videos and all their versions by every simulator."""
    return [
        Request(video, simulator, level)
        for video in contents
        for simulator, level in [
            (None, 0),
            *((one, level + 1) for one in SIMULATORS.values() for level in range(len(one.levels))),
        ]
    ]


def read_student(root: Path) -> Student:
    """Return the student at the end of the newest run under `root`."""
    checkpoint = sorted(root.glob("runs/*/version_*/checkpoints/last.ckpt"))[-1]
    return Student(RankingModule.load_from_checkpoint(checkpoint, map_location="cpu").eval())


def ladder_accuracy(scores: Scores, video: Video, held_out: bool, group: Sequence[str]) -> float:
    """Return the share of pairs of levels that are in order, the mean over the ladders of one video."""
    found = []
    for one in SIMULATORS.values():
        if (one.family in group) == held_out:
            ladder = [scores[video.video_id, None, 0]]
            ladder += [scores[video.video_id, one.identity, level + 1] for level in range(len(one.levels))]
            found += [float(a > b) + 0.5 * (a == b) for a, b in itertools.combinations(ladder, 2)]
    return float(np.mean(found))


def across(scores: Scores, judge: Scores, contents: Sequence[Video], held_out: bool, group: Any) -> float:
    """Return SRCC with the judge over the versions of several contents; a content may come more than once."""
    identities = [
        (one.identity, len(one.levels))
        for one in SIMULATORS.values()
        if (one.family in group) == held_out and one.family in COMPARABLE
    ]
    keys = [
        (video.video_id, identity, level + 1)
        for video in contents
        for identity, count in identities
        for level in range(count)
    ]
    keys = [key for key in keys if key in scores and key in judge]
    if not keys:
        return float("nan")
    return srcc(np.array([scores[key] for key in keys]), np.array([judge[key] for key in keys]))


Generator = np.random.Generator | None


def drawn(members: Sequence[Video], generator: Generator) -> list[Video]:
    """Return the videos of as many contents, drawn with replacement; without a generator all of them."""
    if generator is None:
        return list(members)
    contents = sorted({video.content for video in members})
    chosen = generator.choice(contents, len(contents))
    return [video for content in chosen for video in members if video.content == content]


def interval(draw: Any, count: int = 1000) -> str:
    """Return `.71 [.65, .77]`: `draw(None)` is the figure, `draw(generator)` one of a bootstrap."""
    value = draw(None)
    if not np.isfinite(value):
        return ""
    generator = np.random.default_rng(0)
    low, high = np.nanquantile([draw(generator) for _ in range(count)], [0.025, 0.975])
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", default="../shared/data/clips")
    parser.add_argument("--pairs", type=int, default=9600, help="of all kinds, for each student")
    parser.add_argument("--jobs", type=int, default=2, help="students trained side by side, one thread each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, default=Path("runs/labels"), help="where the students lie")
    args = parser.parse_args()
    torch.set_num_threads(1)

    table = build_corpus(args.videos)
    corpus = videos(join_contents(table, find_duplicates(table)))
    held_out = list(folds(corpus))
    # Students of other contents, lengths or seeds are others.
    contents_hash = hashlib.sha256(repr([sorted(fold) for fold in held_out]).encode()).hexdigest()
    root = args.root / f"{contents_hash[:8]}-{args.pairs}-{args.seed}"
    jobs = []
    for fold, contents in enumerate(held_out):
        folder = (root / f"fold_{fold}").resolve()
        folder.mkdir(parents=True, exist_ok=True)
        others = sorted({video.content for video in corpus} - contents)
        with (folder / "manifest.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("path", "content", "split"))
            for video in corpus:
                others_split = "select" if video.content == others[0] else "train"
                split = "report" if video.content in contents else others_split
                rows.writerow((Path(video.path).resolve(), video.content, split))
        for arm in ARMS:
            place = folder / folder_name(arm)
            place.mkdir(exist_ok=True)
            jobs.append((place, folder / "manifest.csv", arm, GROUPS[fold], args.pairs, args.seed))
    with ThreadPoolExecutor(args.jobs) as pool:
        seconds = list(pool.map(lambda job: train(*job), jobs))

    judge, scores = {}, {name: {} for name in ("laplacian", *ARMS)}  # type: dict, dict[str, Scores]
    requests = versions(corpus)
    for row in XPSNR().annotate([request for request in requests if request.simulator is not None]):
        judge[row.video_id, row.simulator, row.level] = row.score
    for row in Laplacian(window=256).annotate(requests):
        scores["laplacian"][row.video_id, row.simulator, row.level] = row.score
    in_fold = []
    for fold, contents in enumerate(held_out):
        members = [video for video in corpus if video.content in contents]
        in_fold.append(members)
        for arm in ARMS:
            student = read_student((root / f"fold_{fold}" / folder_name(arm)).resolve())
            for row in student.annotate(versions(members)):
                scores[arm][row.video_id, row.simulator, row.level] = row.score

    report = Table(title=f"{len(corpus)} videos, {args.pairs} pairs a student, seed {args.seed}")
    for column in (
        "labels",
        "within, trained",
        "within, held out",
        "across, trained",
        "across, held out",
        "s",
    ):
        report.add_column(column)
    for name, own in scores.items():
        cells = []
        for which in (False, True):
            right = {
                video.video_id: ladder_accuracy(own, video, which, GROUPS[fold])
                for fold, members in enumerate(in_fold)
                for video in members
            }

            def within(generator: Generator, right: dict[str, float] = right) -> float:
                return float(np.mean([right[v.video_id] for fold in in_fold for v in drawn(fold, generator)]))

            cells.append(interval(within))
        for which in (False, True):

            def pooled(generator: Generator, which: bool = which, own: Scores = own) -> float:
                chosen = [drawn(members, generator) for members in in_fold]
                found = [across(own, judge, v, which, GROUPS[fold]) for fold, v in enumerate(chosen)]
                return float(np.nanmean(found))

            cells.append(interval(pooled, 200))
        spent = [s for job, s in zip(jobs, seconds, strict=True) if job[2] == name]
        report.add_row(name, *cells, f"{np.mean(spent):.0f}" if spent else "")
    Console(width=130).print(report)


if __name__ == "__main__":
    main()
