"""The paper's staircase in small: does a student surpass its teachers, and a round the one before?

    python benchmarks/weak_to_strong.py --corpora embedded [--steps 200] [--seeds 3] [--page docs/rounds.md]
    python benchmarks/weak_to_strong.py --corpora clips --steps 100 [--page docs/rounds.md]

Each single teacher -> its student -> both teachers -> + synthetic pairs -> + reference pairs (ours) ->
+ confidence loss, which is round 1 -> round 2 -> round 3, by the embedded LMM, every stage with equally many
steps; beside them the controls. In these rounds, as in configs/round.yaml, weights and schedule go on, a
round's pairs are drawn anew, and the student and the teachers label them together. "Union and restarts" are
the paper's: a stage restarts from the run's first weights, here random ones, and trains on the union of pairs
so far, later ones all hard, all real ones labelled anew by the student alone.

Families of simulators are left out in turn, so that over the seeds each is once what nobody has trained on
("out of domain"; `judging.GROUPS`). Across contents, SRCC is with a truth that labels nothing, over versions
of contents that no run has seen, each by a random simulator and level; within content it is with severity,
the mean over whole ladders.

- embedded: trained on 288 contents of the embedded corpus's generator (the corpus itself is the first 128 of
  them), judged on 192 others; the truth is MS-SSIM against the clean render. Across contents the sources
  count too, which have a hidden chain behind them.
- clips: the videos of `--videos`, dealt into as many folds as there are seeds; the student of a seed trains
  without its fold and is judged on it. The truth is XPSNR against the source.

All figures are means over the seeds, intervals 95 % of a bootstrap over contents, paired for differences.
Answers are kept in files under `--root`: an interrupted run goes on, a finished one prints at once. `--page`
puts each corpus's tables between its marks, as `<!-- weak_to_strong clips -->` and
`<!-- /weak_to_strong clips -->`, of a file.
"""

import argparse
import csv
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import torch
from ablation import put, write_folds
from ablation_student import Job
from experiment import arguments, in_own_process
from judging import CORPUS_SEED, KeptClips, Row, clip_rows, procedural_rows, read_rows, write_rows
from weak_to_strong_student import run_training
from weak_to_strong_tables import judges_of, tables
from weak_to_strong_trainings import TRAININGS

from datamodules.corpus import build_corpus, videos
from datamodules.labels import LabelStore
from datamodules.procedural import write_corpus
from datamodules.video import Video

CONTENTS = 192
"""Procedural contents to judge by; with the 40 of the embedded report split an interval is twice as wide."""

LEARNT = {"train": 288, "select": 48, "report": 16}
"""Procedural contents of a run: the embedded corpus's 64 make 2016 pairs, of which a first round uses up most
and leaves few to be hard. The report split only fills the run's own report."""


def folder(root: Path, corpus: str, seeds: int) -> Path:
    """Return the folder of what judges a corpus."""
    return root / (corpus if corpus == "embedded" else f"{corpus}-{seeds}-folds")


def judging_videos(root: Path, corpus: str, seeds: int) -> list[Video]:
    """Return the sources of the versions that judge."""
    manifest = "manifest.csv" if corpus == "embedded" else "fold_0.csv"
    return videos(build_corpus(folder(root, corpus, seeds) / manifest))


def write_students(place: Path) -> None:
    """Write the procedural contents that students learn from, in splits of our own."""
    manifest = write_corpus(place, sum(LEARNT.values()))
    splits = chain.from_iterable([name] * count for name, count in LEARNT.items())
    with manifest.open(newline="") as listed, (place / "students.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "content", "split"))
        for row, split in zip(csv.DictReader(listed), splits, strict=True):
            rows.writerow((row["path"], row["content"], split))


def prepare(root: Path, corpus: str, seeds: int, clips: str) -> list[Row]:
    """Make what judges a corpus, unless it lies there already."""
    place = folder(root, corpus, seeds)
    place.mkdir(parents=True, exist_ok=True)
    if corpus == "embedded":
        write_corpus(place, CONTENTS, seed=CORPUS_SEED)
        write_students(place / "students")
    elif not (place / "fold_0.csv").is_file():
        write_folds(clips, seeds, place)
    found = judging_videos(root, corpus, seeds)
    file = place / "versions.csv"
    if not file.is_file():
        if corpus == "embedded":
            rows = procedural_rows(found)
        else:
            folds = [videos(build_corpus(place / f"fold_{seed}.csv"), "report") for seed in range(seeds)]
            rows = clip_rows(folds, LabelStore(place / "xpsnr"))
        write_rows(file, rows)
    rows = read_rows(file)
    known = {video.video_id: video for video in found}
    KeptClips(place, [row.request(known) for row in rows])
    return rows


def run(job: tuple[int, str, int], root: Path, answers: Path, args: argparse.Namespace) -> None:
    """Run one training in a process of its own on one thread, unless all of its answers lie there already."""
    number, corpus, seed = job
    names = TRAININGS[number].rows(corpus)
    files = [Job(name, corpus, seed).file(answers) for name in names]
    if all(file.is_file() for file in files):
        return
    settings = {"--root": root, "--steps": args.steps, "--seeds": args.seeds}
    words = [str(word) for setting in settings.items() for word in setting]
    in_own_process(
        [sys.executable, __file__, *words, "--training", json.dumps(job)],
        files[0].with_suffix(".log"),
        f"{corpus}, seed {seed}, {names[0]}",
    )


def main() -> None:
    """Train what is missing and print."""
    parser = arguments(__doc__)
    parser.add_argument("--steps", type=int, default=200, help="of 24 pairs, in every stage")
    parser.add_argument("--seeds", type=int, default=3, help="and folds")
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side, one thread each")
    parser.add_argument("--corpora", nargs="+", default=["embedded", "clips"], choices=["embedded", "clips"])
    parser.add_argument("--videos", default="../shared/data/clips", help="of the corpus clips")
    parser.add_argument("--root", type=Path, default=Path("runs/weak_to_strong"), help="for what is kept")
    parser.add_argument("--page", type=Path, help="file whose tables are replaced")
    parser.add_argument("--training", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    root = args.root.resolve()
    answers = root / f"{args.steps}-steps-{args.seeds}-seeds"
    if args.training is not None:
        number, corpus, seed = json.loads(args.training)
        training = TRAININGS[number]
        known = {video.video_id: video for video in judging_videos(root, corpus, args.seeds)}
        place = folder(root, corpus, args.seeds)
        job = Job(training.rows(corpus)[0], corpus, seed)
        run_training(training, job, known, read_rows(place / "versions.csv"), place, answers, args.steps)
        return
    answers.mkdir(parents=True, exist_ok=True)
    corpora = {name: prepare(root, name, args.seeds, args.videos) for name in args.corpora}
    jobs = [
        (number, corpus, seed)
        for corpus in corpora
        for number, training in enumerate(TRAININGS)
        if training.rows(corpus)
        for seed in range(args.seeds)
    ]
    # Long ones go first, so that no process is left alone at the end.
    jobs.sort(key=lambda job: -TRAININGS[job[0]].stages)
    # The first of each corpus leaves the teachers' labels behind for the others.
    first = [job for job in jobs if job[0] == job[2] == 0]
    with ThreadPoolExecutor(args.jobs) as pool:
        for group in (first, jobs):
            list(pool.map(lambda job: run(job, root, answers, args), group))
    for name, rows in corpora.items():
        found = tables(answers, args.seeds, args.steps, name, judges_of(rows, args.seeds))
        print(found)
        if args.page is not None:
            put(args.page, found, f"weak_to_strong {name}")


if __name__ == "__main__":
    main()
