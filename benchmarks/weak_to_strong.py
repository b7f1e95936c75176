"""The paper's claims in small: is a student above its teachers, what is each part worth, what do rounds add?

    python benchmarks/weak_to_strong.py --part families [--seeds 3] [--page docs/rounds.md]
    python benchmarks/weak_to_strong.py --part halves [--seeds 2] [--page docs/rounds.md]

Every training is `python -m vqa_lightning fit --config round.yaml` with the settings of
`weak_to_strong_trainings.py`, on the embedded corpus; of its report split only eight videos take part, for
nothing here is judged by them. Students are judged on versions of real clips as benchmarks/carry_over.py
makes them (ladders of encoders and distortions, chains; at most 360 lines): SRCC with VMAF over versions of
all contents, and the share of pairs of levels in order, the mean over ladders. Beside them, in the same
tables: the teachers, the mean absolute Laplacian, and two trivial students on the tower's own features that
learn VMAF on clips of other repositories.

- families: families of simulators are left out in turn, in the synthetic pairs, in the versions that are
  compared and in the teachers' probe, so that over three seeds each is once what nobody has trained on ("out
  of domain"). The trivial students are not held out of anything. Rows take one part of the method away.
- halves: real clips of half of the repositories are added, and the other half judges; a second seed turns
  the halves round. Real pairs are labelled by the teachers or by a student, with everything else alike.

Figures are means over the seeds; intervals are 95 % of a bootstrap over contents, paired for differences.
Runs are kept under `--root`: an interrupted benchmark goes on, a finished one prints at once. Tables hold the
rows of which a run has ended, with the number of seeds. `--page` puts them between marks of a file.
"""

import argparse
import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from ablation import figure, markdown, put
from carry_over_clips import fold_of, sources
from carry_over_fidelity import Row, all_rows
from carry_over_judges import ENSEMBLE, TOGETHER, baseline, mean_rank, scores, teachers
from carry_over_students import student_scores, tower
from carry_over_versions import LEVELS
from experiment import arguments, fit, folder_name
from weak_to_strong_judging import Floats, Judge, agreement, domains, order
from weak_to_strong_trainings import EMBEDDED, FAMILIES, GROUPS, HALVES, ROUNDS, Training, trained

from datamodules.circuits.drawing import LEFT_OUT
from datamodules.files import cache_folder
from datamodules.labels import LabelStore
from datamodules.procedural import VERSION, write_corpus
from datamodules.procedural.corpus import MANIFEST, REFERENCES
from datamodules.round_data import EMBEDDED_CONTENTS

REPORTED = 8
"""Videos of the report split: a run wants some."""

KEPT = {
    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
    "init_args": {"filename": "{epoch}", "mode": "max", "save_top_k": -1, "save_on_train_epoch_end": True},
}
"""Keeps the student of each round; Lightning tells it from the config's others by its mode."""


def write_manifests(root: Path, rows: Sequence[Row], real: Mapping[str, Path], half: int | None) -> None:
    """Write the corpora that a seed's students learn from, and the sources of reference labels.

    Args:
        root: folder of the seed.
        rows: versions of all real clips.
        real: clip -> its file.
        half: whose clips are learnt from; None: no real clip is.
    """
    embedded = cache_folder() / f"embedded-{VERSION}"
    write_corpus(embedded, EMBEDDED_CONTENTS)
    rendered = read(embedded / MANIFEST)
    reported = [row for row in rendered if row["split"] == "report"]
    rendered = [row for row in rendered if row not in reported[REPORTED:]]
    references = read(embedded / REFERENCES)
    learnt = {row.clip for row in rows if half is not None and fold_of(row.repo, 2) == half}
    added = [
        {"path": str(real[name].resolve()), "content": name, "split": "train"} for name in sorted(learnt)
    ]
    judging = [row for row in rendered if row["split"] != "train"]
    found = {
        "embedded": rendered,
        "with real": [*rendered, *added],
        "real": [*judging, *added],
        "references": references,
        "references with real": [*references, *added],
    }
    root.mkdir(parents=True, exist_ok=True)
    for name, some in found.items():
        write_csv(root / f"{name}.csv", some)


def write_csv(file: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write a manifest that has splits."""
    with file.open("w", newline="") as stream:
        table = csv.DictWriter(stream, ("path", "content", "split"), extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)


def read(manifest: Path) -> list[dict[str, str]]:
    """Return the rows of a manifest, with whole paths."""
    with manifest.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [{**row, "path": str((manifest.parent / row["path"]).resolve())} for row in rows]


def checkpoints(root: Path, training: Training, seed: int, group: int | None) -> list[Path]:
    """Run a training unless it has ended; return the checkpoint of each of its students."""
    out = () if group is None else GROUPS[group]
    place = root / f"seed-{seed}"
    settings: dict[str, object] = {
        "seed_everything": seed,
        "trainer.max_epochs": 1,
        "trainer.callbacks+": KEPT,
        "data.splits.duplicates": False,
        "data.splits.seed": seed,
        "data.workers": 1,
        "data.videos": str(place / f"{training.videos}.csv"),
        "data.references.videos": str(place / f"references{' with real' * training.references}.csv"),
        "data.references.without": [name for name in (*out, *training.without) if name in LEFT_OUT],
        **training.settings,
    }
    if group is not None:
        settings["data.simulators"] = trained(seed)
    if training.labelled_by is not None:
        last, _ = fit(run_folder(root, training.labelled_by, seed), "round.yaml", {})
        one = {"class_path": "vqa_lightning.Checkpoint", "init_args": {"path": str(last)}}
        settings |= {"data.teachers": [one], "data.labelling.teacher_weights": "equal"}
    words = {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
    folder = run_folder(root, training.name, seed)
    last, _ = fit(folder, "round.yaml", words)
    kept = last.parent.glob("epoch=*.ckpt")
    return sorted(kept, key=lambda file: int(file.stem.removeprefix("epoch=")))


def run_folder(root: Path, name: str, seed: int) -> Path:
    """Return where a training's run lies."""
    return root / f"seed-{seed}" / folder_name(name)


def answered(
    root: Path, part: str, trainings: Sequence[Training], seeds: int, rows: Sequence[Row], jobs: int
) -> dict[str, list[Floats]]:
    """Run what is missing; return the scores (n,) of each student, an array for each seed."""
    groups = [seed % len(GROUPS) if part == "families" else None for seed in range(seeds)]
    jobs_of = [(training, seed) for seed in range(seeds) for training in trainings]
    first = [job for job in jobs_of if job[0].labelled_by is None]
    found: dict[tuple[int, str], list[Path]] = {}

    def run(job: tuple[Training, int]) -> None:
        training, seed = job
        found[seed, training.name] = checkpoints(root, training, seed, groups[seed])

    with ThreadPoolExecutor(jobs) as pool:
        for some in (first, [job for job in jobs_of if job not in first]):
            list(pool.map(run, some))
    judge, given = Judge(rows, root.parent, jobs), dict[str, list[Floats]]()
    for training, seed in jobs_of:
        kept = found[seed, training.name][-len(training.students) :]
        for name, file in zip(training.students, kept, strict=True):
            known = file.with_suffix(".scores.npy")
            if not known.is_file():
                np.save(known, judge(file))
            given.setdefault(name, []).append(np.load(known))
    return given


def beside(rows: Sequence[Row], versions: Path) -> Iterator[tuple[str, Floats]]:
    """Yield who judges beside the students: the baseline, the teachers and the two trivial students."""
    store = LabelStore(versions / "scores")
    yield "mean absolute Laplacian", scores(baseline(), rows, store)
    known = {one.name: scores(one, rows, store) for one in teachers() if one.name in TOGETHER}
    yield from known.items()
    yield ENSEMBLE, mean_rank(list(known.values()))
    features = tower()
    if features is not None:
        yield from student_scores(rows, [True] * len(rows), features).items()


def tables(part: str, given: Mapping[str, list[Floats]], rows: Sequence[Row], seeds: int) -> str:
    """Return the table of a part of the benchmark."""
    names = list(dict.fromkeys(row.ladder for row in rows if row.ladder not in ("source", "chain")))
    last = ROUNDS[-1] if part == "families" else EMBEDDED[-1]
    lines = []
    for name, own in given.items():
        count = len(own)
        groups = [seed % len(GROUPS) if part == "families" else None for seed in range(count)]
        both = domains(rows, names, groups)
        kinds = ("in", "out") if part == "families" else ("in",)
        asked = np.array(
            [
                [part == "families" or fold_of(row.repo, 2) != seed % 2 for seed in range(count)]
                for row in rows
            ]
        )
        score = np.where(asked, np.stack(own, axis=1), np.nan)
        cells = [str(count)]
        for kind in kinds:
            cells.append(figure(*order([score], rows, both[kind].ladders)))
            cells.append(figure(*agreement([score], rows, both[kind].versions & asked)))
        if name != last and len(given.get(last, ())) >= count:
            other = np.where(asked, np.stack(given[last][:count], axis=1), np.nan)
            for kind in kinds[-1:]:
                cells.append(figure(*order([other, score], rows, both[kind].ladders)))
                cells.append(figure(*agreement([other, score], rows, both[kind].versions & asked)))
        else:
            cells += ["", ""]
        lines.append([name, *cells])
    columns = ["judge", "seeds"]
    columns += (
        ["ladders, in domain", "SRCC VMAF, in domain", "ladders, out of domain", "SRCC VMAF, out of domain"]
        if part == "families"
        else ["ladders", "SRCC VMAF"]
    )
    columns += [f"{last} above it: ladders", "SRCC VMAF"]
    clips, repos = ({getattr(row, name) for row in rows} for name in ("clip", "repo"))
    title = f"{len(clips)} real clips of {len(repos)} repositories, {len(rows)} versions."
    return markdown(title, columns, lines)


def main() -> None:
    """Train what is missing and print."""
    parser = arguments(__doc__)
    parser.add_argument("--part", choices=("families", "halves"), default="families")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side, one thread each")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="has clips/ and real/")
    parser.add_argument("--clips", type=int, help="only the first so many")
    parser.add_argument("--versions", type=Path, default=cache_folder() / "carry_over", help="of carry_over")
    parser.add_argument("--root", type=Path, default=Path("runs/weak_to_strong"), help="for what is kept")
    parser.add_argument("--page", type=Path, help="file whose table is replaced")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="only the trainings of these rows")
    args: argparse.Namespace = parser.parse_args()
    trainings = FAMILIES if args.part == "families" else HALVES
    if args.only is not None:
        trainings = [training for training in trainings if set(training.students) & set(args.only)]
        if args.page is not None or not trainings:
            parser.error("--only wants rows of the table, and no --page: it prints a part of the table")
    torch.set_num_threads(1)
    clips = sources(args.data, args.clips)
    rows = [row for own in all_rows(clips, args.versions, list(LEVELS), False, args.jobs) for row in own]
    root = args.root.resolve() / args.part
    real = {clip.name: Path(clip.video.path) for clip in clips}
    for seed in range(args.seeds):
        write_manifests(root / f"seed-{seed}", rows, real, seed % 2 if args.part == "halves" else None)
    given = answered(root, args.part, trainings, args.seeds, rows, args.jobs)
    given |= {name: [one] * args.seeds for name, one in beside(rows, args.versions)}
    found = tables(args.part, given, rows, args.seeds)
    print(found)
    if args.page is not None:
        put(args.page, found, f"weak_to_strong {args.part}")


if __name__ == "__main__":
    main()
