"""Families, judgements, views and losses at equal time, on the embedded LMM.

    python benchmarks/ablation.py [--seconds 75] [--seeds 3] [--jobs 2] [--page docs/model.md]

Every arm differs from the base, which is configs/round.yaml, by what its name says. A student trains on one
thread for a time, not for a number of steps: the number of steps is what fits into `--seconds` of CPU time,
by the pace of a short run before. So the schedule ends with the training, and other work on the machine
changes nothing. The teachers' labels and the clips are made beforehand. There are two corpora:

- embedded: the procedural one. The choice is to be made by the select split; the figures are the report
  split's. SRCC across contents is with the hidden truth.
- clips: the videos of `--videos`. Contents are dealt into as many folds as there are seeds; the student of a
  seed trains without its fold and is judged on it. SRCC is with XPSNR, which labels nothing, over all
  versions that leave pixels in place, in the mean over the folds.

Rank accuracy is over synthetic pairs of different level, pooled over the seeds, by the judgement that
scores. The mean absolute Laplacian stands beside them. Intervals are 95 % of a bootstrap over contents. Each
student's answers are kept in a file of its own under `--root`: an interrupted run goes on, and a finished one
prints at once. `--page` puts the tables between the marks `<!-- ablation -->` and `<!-- /ablation -->` of a
file.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablation_student import BASELINE, Job, run_student
from experiment import XPSNR, Scores, arguments, folds, in_own_process, versions, write_manifest
from labels import across, drawn

from callbacks.rounds.scores import scores_of
from datamodules.corpus import build_corpus, find_duplicates, join_contents, videos
from datamodules.files import cache_folder
from datamodules.labels import LabelStore, annotate_missing
from datamodules.procedural import read_truth, write_corpus
from datamodules.round_data import EMBEDDED_CONTENTS, RoundDataModule
from datamodules.simulators import comparable
from datamodules.video import Video
from vqa_lightning.metrics import bootstrap_interval, rank_accuracy, srcc

BASE = "base: llava_onevision, both judgements, both orders, crop of 72"

PAIRWISE = ("--model.judgements=[pairwise]", "--model.score_by=pairwise")
POINTWISE = ("--model.judgements=[pointwise]",)
WINDOW = ('--model.sampling={"segments": 1, "frames": 4, "window": 144}',)


def _loss(judgement: str, name: str, **settings: object) -> tuple[str]:
    chosen = {"class_path": f"vqa_lightning.losses.{name}", "init_args": settings}
    return (f"--model.loss.{judgement}={json.dumps(chosen)}",)


ARMS: dict[str, tuple[str, ...]] = {
    BASE: (),
    "family qwen3_vl": ("--model.lmm.embedded.family=qwen3_vl",),
    "family smolvlm": ("--model.lmm.embedded.family=smolvlm",),
    "family internvl": ("--model.lmm.embedded.family=internvl",),
    "pairwise alone": PAIRWISE,
    "pointwise alone": POINTWISE,
    "one order": ("--model.both_orders=false",),
    "pairwise alone, one order": (*PAIRWISE, "--model.both_orders=false"),
    "window 144, crop": WINDOW,
    "window 144, resize": (*WINDOW, "--model.lmm.view=resize"),
    "window 144, fragments": (*WINDOW, "--model.lmm.view=fragments"),
    # Two pictures of 48 pixels have 72 patches, one of 64 has 64.
    "window 144, resize and fragments of 48": (
        *WINDOW,
        "--model.lmm.view=resize_fragments",
        "--model.lmm.embedded.image_size=48",
    ),
    "hard levels": _loss("pairwise", "LevelCrossEntropy", hard=True),
    "confidence term": _loss("pairwise", "ConfidenceCrossEntropy"),
    "ordered probit": _loss("pointwise", "OrderedProbit"),
    "Bradley-Terry": _loss("pointwise", "BradleyTerry"),
    "fidelity": _loss("pointwise", "Fidelity"),
    "family qwen3_vl, pointwise alone": ("--model.lmm.embedded.family=qwen3_vl", *POINTWISE),
    "window 144, fragments, pointwise alone": (*WINDOW, "--model.lmm.view=fragments", *POINTWISE),
    "pairwise alone, confidence term, hard levels": (
        *PAIRWISE,
        *_loss("pairwise", "ConfidenceCrossEntropy", hard=True),
    ),
}
"""Name -> what the command line would say beside the config."""


def write_folds(source: str, count: int, root: Path) -> list[Video]:
    """Write a manifest for each fold: contents to report on, one other to select by, the rest to train on."""
    table = build_corpus(source)
    corpus = videos(join_contents(table, find_duplicates(table)))
    held_out = list(folds(corpus, count))
    for fold, report in enumerate(held_out):
        write_manifest(root / f"fold_{fold}.csv", corpus, report, held_out[0 if fold else 1][0])
    return corpus


def run(job: Job, root: Path, seconds: float) -> None:
    """Train one student in a process of its own on one thread, unless its answers lie there already."""
    if job.file(root).is_file():
        return
    words = [sys.executable, __file__, "--root", str(root), "--seconds", str(seconds)]
    in_own_process(
        [*words, "--student", json.dumps(job)],
        job.file(root).with_suffix(".log"),
        f"{job.corpus}, seed {job.seed}, {job.arm}",
    )


def figure(value: float, ends: Sequence[float] = ()) -> str:
    """Return `.712`, or with the ends of its interval `.712 [.651, .774]`."""
    middle, *rest = (f"{number:.3f}".replace("0.", ".", 1) for number in (value, *ends))
    return f"{middle} [{', '.join(rest)}]" if rest else middle


def pair_cell(runs: Sequence[Mapping[str, Any]], split: str, *, ends: bool) -> str:
    """Return rank accuracy over the pairs of all seeds."""
    difference, order, content = (
        np.concatenate([run[split][name] for run in runs]) for name in ("difference", "order", "content")
    )
    value = rank_accuracy(difference, order)
    if not ends:
        return figure(value)
    return figure(value, bootstrap_interval(rank_accuracy, difference, order, groups=content))


def mean_cell(runs: Sequence[Mapping[str, Any]], name: str) -> str:
    """Return the mean of a figure of the report split over the seeds; empty where there is none."""
    values = [run["report"][name] for run in runs if run["report"][name] is not None]
    return figure(float(np.mean(values))) if values else ""


def truth_cell(runs: Sequence[Mapping[str, Any]], corpus: Sequence[Video]) -> str:
    """Return SRCC with the hidden truth of the embedded corpus, the mean over the seeds."""
    videos = {video.video_id: video for video in corpus}
    truth = read_truth(Path(corpus[0].path).parent)
    scores = [{row[0]: row[3] for row in run["scores"]} for run in runs]
    known = sorted(set.intersection(*(set(one) for one in scores)))
    predicted = np.array([[one[name] for one in scores] for name in known])
    hidden = np.array([truth[Path(videos[name].path).name] for name in known])

    def mean_srcc(predicted: np.ndarray, hidden: np.ndarray) -> float:
        return float(np.mean([srcc(column, hidden) for column in predicted.T]))

    ends = bootstrap_interval(mean_srcc, predicted, hidden, groups=[videos[name].content for name in known])
    return figure(mean_srcc(predicted, hidden), ends)


def judge_cell(runs: Sequence[Mapping[str, Any]], corpus: Sequence[Video], judge: Scores) -> str:
    """Return SRCC with the judge over all versions of a fold, the mean over the folds."""
    folds = []
    for run in runs:
        scores = {(row[0], row[1], row[2]): row[3] for row in run["scores"]}
        folds.append((scores, [video for video in corpus if (video.video_id, None, 0) in scores]))

    def mean_srcc(generator: np.random.Generator | None) -> float:
        found = [across(scores, judge, drawn(members, generator), False, ()) for scores, members in folds]
        return float(np.nanmean(found))

    generator = np.random.default_rng(0)
    ends = np.nanquantile([mean_srcc(generator) for _ in range(200)], [0.025, 0.975])
    return figure(mean_srcc(None), ends.tolist())


def markdown(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the table of one corpus."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (columns, ["---"] * len(columns), *rows)]
    return "\n".join((title, "", *lines, ""))


def report(
    root: Path, seeds: int, seconds: float, corpora: Mapping[str, Sequence[Video]], judge: Scores
) -> str:
    """Return both tables, with the arms of which all seeds are there."""
    tables = []
    for name, corpus in corpora.items():
        embedded = name == "embedded"
        rows = []
        for arm in (BASELINE, *ARMS):
            files = [Job(arm, name, seed).file(root) for seed in range(seeds)]
            if not all(file.is_file() for file in files):
                continue
            runs = [json.loads(file.read_text()) for file in files]
            steps = "" if arm == BASELINE else f"{np.mean([run['steps'] for run in runs]):.0f}"
            truth = truth_cell(runs, corpus) if embedded else ""
            rows.append(
                [
                    arm,
                    steps,
                    *([pair_cell(runs, "select", ends=False)] if embedded else []),
                    pair_cell(runs, "report", ends=True),
                    mean_cell(runs, "level_accuracy"),
                    truth or judge_cell(runs, corpus, judge),
                    mean_cell(runs, "consistency"),
                ]
            )
        columns = ["arm", "steps", *(["select: rank accuracy"] if embedded else []), "rank accuracy"]
        columns += [
            "level accuracy",
            f"SRCC with {'the truth' if embedded else 'XPSNR'}",
            "order consistency",
        ]
        contents = len({video.content for video in corpus})
        what = "Embedded corpus, report split" if embedded else f"Real clips, {contents} contents in folds"
        spent = f"{seconds:g} s of one CPU thread a student, seeds 0 to {seeds - 1}"
        tables.append(markdown(f"**{what}**; {spent}:", columns, rows))
    return "\n".join(tables)


def put(page: Path, tables: str, mark: str = "ablation") -> None:
    """Replace what stands between the marks of a page."""
    opening, closing = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, _, rest = page.read_text().partition(opening)
    _, found, after = rest.partition(closing)
    if not found:
        raise SystemExit(
            f"{page} has no {opening} with a {closing} after it: write them where the tables go."
        )
    page.write_text(f"{before}{opening}\n\n{tables}\n{closing}{after}")


def main() -> None:
    """Train what is missing and print."""
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=75, help="of CPU time that a student trains")
    parser.add_argument("--seeds", type=int, default=3, help="and folds")
    parser.add_argument("--jobs", type=int, default=2, help="students trained side by side, one thread each")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), metavar="ARM", help="by name; default: all")
    parser.add_argument("--corpora", nargs="+", default=["embedded", "clips"], choices=["embedded", "clips"])
    parser.add_argument("--videos", default="../shared/data/clips", help="of the corpus clips")
    parser.add_argument("--root", type=Path, default=Path("runs/ablation"), help="where answers are kept")
    parser.add_argument("--page", type=Path, help="file whose tables are replaced")
    parser.add_argument("--student", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.student is not None:
        job = Job(*json.loads(args.student))
        run_student(job, ARMS[job.arm], args.root, args.seconds, baseline=job.arm == BASE)
        return
    torch.set_num_threads(1)
    root = (args.root / f"{args.seconds:g}-seconds-{args.seeds}-seeds").resolve()
    root.mkdir(parents=True, exist_ok=True)
    corpora: dict[str, list[Video]] = {}
    judge: Scores = {}
    if "embedded" in args.corpora:
        corpora["embedded"] = videos(
            build_corpus(write_corpus(cache_folder() / "embedded", EMBEDDED_CONTENTS))
        )
    if "clips" in args.corpora:
        corpora["clips"] = write_folds(args.videos, args.seeds, root)
        xpsnr, store = XPSNR(), LabelStore(root / "xpsnr")
        asked = versions(corpora["clips"], comparable(RoundDataModule().simulators).values())
        annotate_missing(xpsnr, [request for request in asked if request.simulator], store, 0)
        judge = scores_of(store.read(round=0), xpsnr.fingerprint)
    jobs = [Job(arm, name, seed) for seed in range(args.seeds) for name in args.corpora for arm in args.arms]
    # The first of each corpus and seed leaves the teachers' labels behind for the others.
    first = {(job.corpus, job.seed): job for job in reversed(jobs)}
    for job in reversed(first.values()):
        run(job, root, args.seconds)
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda job: run(job, root, args.seconds), jobs))
    tables = report(root, args.seeds, args.seconds, corpora, judge)
    print(tables)
    if args.page is not None:
        put(args.page, tables)


if __name__ == "__main__":
    main()
