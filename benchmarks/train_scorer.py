"""Make the scorer that ships in the package, and judge the recipe on repositories that it was not trained on.

    python benchmarks/train_scorer.py --folds 2 [--page docs/scorer.md]
    python benchmarks/train_scorer.py --ship

The recipe is the first command, `round.yaml`, for longer: on the embedded corpus and the real clips of
`--data`, with twice as many versions of each source and three times as many pairs a round. Nobody's opinion
is asked: labels are severities, teachers and VMAF of versions to their sources.

- `--folds K` deals the repositories into K folds, trains a student for each fold on the others, and judges
  it on versions of the fold's clips as benchmarks/carry_over.py makes them: the share of pairs of levels in
  order by ladder, SRCC with VMAF, with 95 % of a bootstrap over clips, beside the teachers, the mean absolute
  Laplacian and two trivial students on the tower's own features; then the same for each kind of content.
- `--ship` trains on all clips and writes `vqa_lightning/shipped/`.

Runs are kept under `--root`: an interrupted one goes on where a training has ended.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import torch
from ablation import markdown, put
from carry_over_clips import Source, fold_of, sources
from carry_over_fidelity import Row, all_rows
from carry_over_figures import figures, short
from carry_over_versions import LEVELS
from experiment import arguments, fit
from weak_to_strong import beside, read, write_csv
from weak_to_strong_judging import Floats, Judge
from weak_to_strong_trainings import counts

from datamodules.files import cache_folder
from datamodules.procedural import VERSION, write_corpus
from datamodules.procedural.corpus import MANIFEST, REFERENCES
from datamodules.round_data import EMBEDDED_CONTENTS
from vqa_lightning.checkpoints.resumable import read_checkpoint
from vqa_lightning.checkpoints.scorer_file import SHIPPED, write_scorer

RECIPE = {
    "seed_everything": 0,
    "trainer.max_epochs": 4,
    "data.references.versions": 24,
    "data.splits.duplicates": "false",
    **counts(synthetic=400, teacher=1200, reference=6400),
}
"""Settings over those of round.yaml."""

REPORTED = 8
"""Videos of the embedded report split that a run keeps: it is not judged by them."""


def write_manifests(root: Path, clips: list[Source]) -> None:
    """Write the corpus and the sources of reference labels: the embedded corpus and the clips."""
    embedded = cache_folder() / f"embedded-{VERSION}"
    write_corpus(embedded, EMBEDDED_CONTENTS)
    rendered = read(embedded / MANIFEST)
    reported = [row for row in rendered if row["split"] == "report"]
    real = [
        {"path": str(Path(clip.video.path).resolve()), "content": clip.name, "split": "train"}
        for clip in clips
    ]
    root.mkdir(parents=True, exist_ok=True)
    write_csv(root / "videos.csv", [*(row for row in rendered if row not in reported[REPORTED:]), *real])
    write_csv(root / "references.csv", [*read(embedded / REFERENCES), *real])


def trained(root: Path, clips: list[Source]) -> Path:
    """Return the last checkpoint of a training on both, run unless it has ended."""
    write_manifests(root, clips)
    manifests = {
        "data.videos": root / "videos.csv",
        "data.references.videos": root / "references.csv",
    }
    last, seconds = fit(root, "round.yaml", {**RECIPE, **manifests})
    print(f"{root}: {seconds:.0f} s")
    return last


def judged(root: Path, clips: list[Source], rows: list[Row], folds: int, jobs: int) -> Floats:
    """Return the score (n,) of each version by the student that was not trained on its repository."""
    judge, found = Judge(rows, root, jobs), np.full(len(rows), np.nan)
    for fold in range(folds):
        learnt = [clip for clip in clips if fold_of(clip.repo, folds) != fold]
        own = np.array([fold_of(row.repo, folds) == fold for row in rows])
        file = trained(root / f"fold-{fold}-of-{folds}", learnt)
        found[own] = judge(file)[own]
    return found


def table(given: dict[str, Floats], rows: list[Row]) -> str:
    """Return what each judge is worth, a row a judge."""
    lines = []
    for name, scores in given.items():
        own = figures(scores, rows)
        ladders = [short(own.ladders[ladder]) for ladder in LEVELS]
        lines.append([name, str(own.mean), *ladders, str(own.srcc_vmaf), str(own.across)])
    clips, repos = ({getattr(row, name) for row in rows} for name in ("clip", "repo"))
    title = f"{len(clips)} real clips of {len(repos)} repositories, {len(rows)} versions."
    return markdown(title, ["judge", "ladders", *LEVELS, "SRCC with VMAF", "pairs across contents"], lines)


def by_kind(scores: Floats, rows: list[Row], data: Path) -> str:
    """Return what the scores are worth on each kind of content, a row a kind."""
    with (data / "real" / "sources.csv").open(newline="") as stream:
        kinds = {row["file"]: row["kind"] for row in csv.DictReader(stream)}
    lines = []
    for kind in sorted({kinds.get(row.clip, "natural") for row in rows}):
        places = [place for place, row in enumerate(rows) if kinds.get(row.clip, "natural") == kind]
        own = figures(scores[places], [rows[place] for place in places])
        name, least = own.least
        clips = {rows[place].clip for place in places}
        lines.append([kind, str(len(clips)), str(own.mean), f"{name} {short(least)}", str(own.srcc_vmaf)])
    return markdown("By kind of content.", ["kind", "clips", "ladders", "least", "SRCC with VMAF"], lines)


def main() -> None:
    """Train what is missing; print, or write the package's scorer."""
    parser = arguments(__doc__)
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--ship", action="store_true", help="train on all clips and write the files")
    parser.add_argument("--jobs", type=int, default=2, help="processes that read")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="has clips/ and real/")
    parser.add_argument("--versions", type=Path, default=cache_folder() / "carry_over", help="of carry_over")
    parser.add_argument("--root", type=Path, default=Path("runs/scorer"), help="for what is kept")
    parser.add_argument("--page", type=Path, help="file whose table is replaced")
    args: argparse.Namespace = parser.parse_args()
    torch.set_num_threads(1)
    clips, root = sources(args.data), args.root.resolve()
    if args.ship:
        write_scorer(read_checkpoint(trained(root / "all", clips)), SHIPPED)
        print(f"{SHIPPED} is written: {json.dumps(RECIPE)}")
        return
    rows = [row for own in all_rows(clips, args.versions, list(LEVELS), False, args.jobs) for row in own]
    name = f"the recipe, {args.folds} folds of repositories"
    given = {name: judged(root, clips, rows, args.folds, args.jobs), **dict(beside(rows, args.versions))}
    found = "\n\n".join([table(given, rows), by_kind(given[name], rows, args.data)])
    print(found)
    if args.page is not None:
        put(args.page, found, "scorer")


if __name__ == "__main__":
    main()
