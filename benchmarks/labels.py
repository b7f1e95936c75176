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

import hashlib
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiment import (
    XPSNR,
    Scores,
    arguments,
    fit,
    folder_name,
    folds,
    table,
    versions,
    with_interval,
    write_manifest,
)
from rich.console import Console

from datamodules.corpus import build_corpus, find_duplicates, join_contents, videos
from datamodules.simulators import COMPARABLE, SIMULATORS
from datamodules.teachers import Laplacian
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


def settings(arm: str, group: Sequence[str], pairs: int, seed: int) -> dict[str, object]:
    """Return what the command line says of a student: its labels, and the families that it does not see."""
    synthetic, teacher, reference, composed = ARMS[arm]
    simulators = [name for name, one in SIMULATORS.items() if one.family not in group]
    return {
        "trainer.max_epochs": 1,
        "trainer.accelerator": "cpu",
        "seed_everything": seed,
        "data.splits.seed": seed,
        "data.counts.synthetic": round(synthetic * pairs),
        "data.counts.teacher": round(teacher * pairs),
        "data.counts.reference": round(reference * pairs),
        "data.drawing.composed": composed,
        "data.simulators": f"[{', '.join(simulators)}]",
    }


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
    return with_interval(value, (low, high), 2)


def main() -> None:
    """Train and print."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", default="../shared/data/clips")
    parser.add_argument("--pairs", type=int, default=9600, help="of all kinds, for each student")
    parser.add_argument("--jobs", type=int, default=2, help="students trained side by side, one thread each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, default=Path("runs/labels"), help="where the students lie")
    args = parser.parse_args()
    torch.set_num_threads(1)

    listed = build_corpus(args.videos)
    corpus = videos(join_contents(listed, find_duplicates(listed)))
    held_out = list(folds(corpus, len(GROUPS)))
    # Students of other contents, lengths or seeds are others.
    contents_hash = hashlib.sha256(repr([sorted(fold) for fold in held_out]).encode()).hexdigest()
    root = args.root / f"{contents_hash[:8]}-{args.pairs}-{args.seed}"
    jobs = []
    for fold, contents in enumerate(held_out):
        folder = (root / f"fold_{fold}").resolve()
        folder.mkdir(parents=True, exist_ok=True)
        others = sorted({video.content for video in corpus}.difference(contents))
        manifest = folder / "manifest.csv"
        write_manifest(manifest, corpus, contents, others[0])
        jobs += [
            (
                arm,
                folder / folder_name(arm),
                {"data.videos": manifest, **settings(arm, GROUPS[fold], args.pairs, args.seed)},
            )
            for arm in ARMS
        ]
    with ThreadPoolExecutor(args.jobs) as pool:
        runs = list(pool.map(lambda job: fit(job[1], "round.yaml", job[2]), jobs))

    judge, scores = {}, {name: {} for name in ("laplacian", *ARMS)}  # type: dict, dict[str, Scores]
    requests = versions(corpus, SIMULATORS.values())
    for row in XPSNR().annotate([request for request in requests if request.simulator is not None]):
        judge[row.video_id, row.simulator, row.level] = row.score
    for row in Laplacian(window=256).annotate(requests):
        scores["laplacian"][row.video_id, row.simulator, row.level] = row.score
    in_fold = [[video for video in corpus if video.content in contents] for contents in held_out]
    for number, ((arm, *_), (checkpoint, _)) in enumerate(zip(jobs, runs, strict=True)):
        student = Student(RankingModule.load_from_checkpoint(checkpoint, map_location="cpu").eval())
        for row in student.annotate(versions(in_fold[number // len(ARMS)], SIMULATORS.values())):
            scores[arm][row.video_id, row.simulator, row.level] = row.score

    report = table(
        f"{len(corpus)} videos, {args.pairs} pairs a student, seed {args.seed}",
        ("labels", "within, trained", "within, held out", "across, trained", "across, held out", "s"),
    )
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
        spent = [seconds for (arm, *_), (_, seconds) in zip(jobs, runs, strict=True) if arm == name]
        report.add_row(name, *cells, f"{np.mean(spent):.0f}" if spent else "")
    Console(width=130).print(report)


if __name__ == "__main__":
    main()
