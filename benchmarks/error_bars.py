"""Whether error bars mean something on contents and simulators that nothing has seen.

    python benchmarks/error_bars.py [--seeds 1] [--steps 400] [--plot docs/model/error_bars.png]

A student of the embedded LMM is trained, pointwise and with configs/round.yaml's sizes, on some groups of
simulators; its standard errors are scaled on the select split by ladders of another group, and judged on the
report split by ladders of a third. Three arrangements, each of which leaves every group out in turn:

- default: distortions in three groups of families; trained on two of them, scaled on the codecs, as
  `SelfImprovement` does by default.
- families: all simulators, codecs included, in three groups of families; trained on one, scaled on another.
- dealt: the same with the simulators dealt in turn, so that what is left out are others of known kinds.

Every two levels of a ladder, the source among them, are a pair: P(milder over harsher) = Phi(difference /
joint standard error). Pairs of different sources are judged apart, by the same standard errors; their order
is the embedded corpus's hidden truth (MS-SSIM). Accuracy is how often the predicted winner wins, confidence
the mean probability of it, and ECE the mean over ten bins of confidence from .5 to 1, weighted by their
pairs, of the distance of the two. Columns are what was left out, students pooled; "alone" is the mean ECE of
one student with one scaling. The last row is scaled on the very pairs that are judged, which shows what is
left when nothing is unseen. The choice was made by the same tables of the select split (`--split select`).
Each student's answers are kept under `--root`: an interrupted run goes on, a finished one prints at once.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from ablation_student import train
from experiment import arguments, folder_name
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_ndtr, ndtr

from datamodules.codecs import CODECS
from datamodules.distortions import DISTORTIONS, Family
from datamodules.files import cache_folder
from datamodules.labels import Request
from datamodules.procedural import read_truth, write_corpus
from datamodules.round_data import EMBEDDED_CONTENTS
from datamodules.simulators import SIMULATORS, Simulator
from datamodules.video import Video
from vqa_lightning.annotators.student import Student
from vqa_lightning.metrics.reliability import Reliability, plot_reliability, reliability
from vqa_lightning.scoring import ErrorModel
from vqa_lightning.scoring.calibration import Floats, fit_errors, ladder_pairs

Groups = dict[str, list[str]]


def by_family(simulators: Mapping[str, Simulator], families: Mapping[str, Sequence[Family]]) -> Groups:
    """Return the names of the simulators of each group of families."""
    return {
        group: [name for name, simulator in simulators.items() if simulator.family in members]
        for group, members in families.items()
    }


class Fold(NamedTuple):
    """Groups that are trained on, the one that scales, and the one that is left out."""

    trained: tuple[str, ...]
    scaled: str
    left: str


class Arrangement(NamedTuple):
    """Groups of simulators, and the parts that they take in turn."""

    groups: Groups
    folds: list[Fold]


def rotated(groups: Groups) -> Arrangement:
    """Return three groups in all orders."""
    return Arrangement(groups, [Fold((one,), two, three) for one, two, three in permutations(groups)])


PARTS = by_family(
    DISTORTIONS,
    {
        "detail": ("sharpness", "noise"),
        "tone": ("tone",),
        "rest": ("compression", "geometry", "temporal"),
    },
)
ARRANGEMENTS = {
    "default": Arrangement(
        PARTS | {"codecs": list(CODECS)},
        [Fold(tuple(part for part in PARTS if part != left), "codecs", left) for left in PARTS],
    ),
    "families": rotated(
        by_family(
            SIMULATORS,
            {
                "compression": ("compression",),
                "detail": ("sharpness", "noise", "geometry"),
                "light and time": ("tone", "temporal"),
            },
        )
    ),
    "dealt": rotated({f"dealt {turn + 1}": list(SIMULATORS)[turn::3] for turn in range(3)}),
}
LADDERS = 2  # of each group on each content, the simulators taking turns

Fit = Callable[[pa.Table, pa.Table, pa.Table], ErrorModel]
"""From the select split's ladders of trained and of unseen simulators, and from those judged."""

Students = Mapping[tuple[str, ...], Sequence[pa.Table]]
"""Groups trained on -> answers of the students of each seed."""


def fit_factor(ladders: pa.Table) -> ErrorModel:
    """Return the likeliest factor without a floor."""
    difference, spread = ladder_pairs(ladders)

    def surprise(logarithm: float) -> float:
        return -float(log_ndtr(difference / np.sqrt(spread) / math.exp(logarithm)).sum())

    return ErrorModel(math.exp(minimize_scalar(surprise, bounds=(-5, 5), method="bounded").x), 0.0)


def fit_likelihood(ladders: pa.Table) -> ErrorModel:
    """Return the likeliest factor and floor."""
    difference, spread = ladder_pairs(ladders)

    def surprise(logarithms: Floats) -> float:
        factor, floor = np.exp(logarithms)
        return -float(log_ndtr(difference / np.sqrt(factor**2 * spread + 2 * floor**2)).sum())

    starts = ((0.0, -5.0), (0.0, 0.0))  # hardly a floor, or hardly anything else
    found = [minimize(surprise, start, bounds=[(-5, 5), (-7, 5)]) for start in starts]
    factor, floor = np.exp(min(found, key=lambda one: one.fun).x)
    return ErrorModel(float(factor), float(floor))


BEFORE, CHOSEN = "likeliest factor, trained simulators", "likeliest floor, unseen simulators"

FITS: dict[str, Fit] = {
    "spread as it is": lambda trained, unseen, judged: ErrorModel(1.0, 0.0),
    BEFORE: lambda trained, unseen, judged: fit_factor(trained),
    "likeliest factor, unseen simulators": lambda trained, unseen, judged: fit_factor(unseen),
    "likeliest factor and floor, unseen simulators": lambda trained, unseen, judged: fit_likelihood(unseen),
    "likeliest floor, trained simulators": lambda trained, unseen, judged: fit_errors(trained),
    CHOSEN: lambda trained, unseen, judged: fit_errors(unseen),
    "likeliest floor, judged pairs": lambda trained, unseen, judged: fit_errors(judged),
}


def requests_of(videos: Sequence[Video], groups: Groups) -> list[Request]:
    """Return requests of the videos and of their ladders."""
    found = [Request(video) for video in videos]
    for place, video in enumerate(videos):
        for members in groups.values():
            for turn in range(place * LADDERS, (place + 1) * LADDERS):
                simulator = SIMULATORS[members[turn % len(members)]]
                found += [Request(video, simulator, level + 1) for level in range(len(simulator.levels))]
    return sorted(found, key=lambda request: request.key[0])  # a video's clips are read once


def run_student(groups: Groups, trained: Sequence[str], seed: int, steps: int, root: Path) -> pa.Table:
    """Train a student on some groups and have it score both splits, or find it done.

    Returns:
        Columns of `LabelStore`, `split`, and `content`; simulators by name.
    """
    file = root / f"{folder_name(' and '.join(trained))}-{seed}-{steps}.parquet"
    if file.exists():
        return pq.read_table(file)
    words = [
        "--model.judgements=[pointwise]",
        f"--data.init_args.simulators={json.dumps([name for group in trained for name in groups[group]])}",
        f"--data.init_args.splits.seed={seed}",
        f"--seed_everything={seed}",
    ]
    module, data, _ = train(words, root / "runs" / file.stem, steps)
    names = {simulator.identity: name for name, simulator in SIMULATORS.items()}
    rows = []
    for split in ("select", "report"):
        contents = {video.video_id: video.content for video in data.split(split)}
        for found in Student(module).annotate(requests_of(data.split(split), groups)):
            row = found._asdict() | {"split": split, "content": contents[found.video_id]}
            rows.append(row | {"simulator": names.get(found.simulator or "")})
    table = pa.Table.from_pylist(rows)
    hidden = file.with_suffix(".tmp")
    pq.write_table(table, hidden)
    hidden.replace(file)
    return table


def ladders_of(table: pa.Table, split: str, simulators: Sequence[str]) -> pa.Table:
    """Return sources and the ladders of some simulators in a split."""
    chosen = pc.or_(pc.is_in(table["simulator"], pa.array(simulators)), pc.is_null(table["simulator"]))
    return table.filter(pc.and_(pc.equal(table["split"], split), chosen))


def source_pairs(table: pa.Table, split: str, truth: Mapping[str, float]) -> tuple[Floats, Floats]:
    """Do what `ladder_pairs` does for every two sources of a split, the truly better source first."""
    chosen = pc.and_(pc.equal(table["split"], split), pc.is_null(table["simulator"]))
    rows = sorted(table.filter(chosen).to_pylist(), key=lambda row: -truth[row["content"]])
    pairs = list(combinations(rows, 2))
    difference = np.array([better["score"] - worse["score"] for better, worse in pairs])
    return difference, np.array([better["stderr"] ** 2 + worse["stderr"] ** 2 for better, worse in pairs])


def probability(pairs: tuple[Floats, Floats], errors: ErrorModel) -> Floats:
    """Return the probability that the first of each pair, which is the better one, wins."""
    difference, spread = pairs
    found: Floats = ndtr(difference / np.sqrt(errors.factor**2 * spread + 2 * errors.floor**2))
    return found


def judge(
    arrangement: Arrangement, students: Students, split: str, truth: Mapping[str, float], fit: Fit
) -> tuple[dict[str, Reliability], list[Reliability]]:
    """Return how reliable a fit is.

    Returns:
        By what was left out, over all students: each group, `all` of them, and `sources`; and that of each
        student and scaling by itself on the group that it left out.
    """
    groups, folds = arrangement
    chances: dict[str, list[Floats]] = {fold.left: [] for fold in folds}
    sources: list[Floats] = []
    for fold in folds:
        known = [name for group in fold.trained for name in groups[group]]
        for table in students[fold.trained]:
            judged = ladders_of(table, split, groups[fold.left])
            unseen = ladders_of(table, "select", groups[fold.scaled])
            errors = fit(ladders_of(table, "select", known), unseen, judged)
            chances[fold.left].append(probability(ladder_pairs(judged), errors))
            sources.append(probability(source_pairs(table, split, truth), errors))
    single = [chance for parts in chances.values() for chance in parts]
    columns = {**chances, "all": single, "sources": sources}
    pooled = {column: _reliability(np.concatenate(parts)) for column, parts in columns.items()}
    return pooled, [_reliability(chance) for chance in single]


def _reliability(chance: Floats) -> Reliability:
    return reliability(chance, np.ones(len(chance)))


def main() -> None:
    """Train what is missing, print the tables and draw the plot."""
    parser = arguments(__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="students of each group")
    parser.add_argument("--steps", type=int, default=400, help="of the optimiser")
    parser.add_argument("--split", choices=("select", "report"), default="report", help="that is judged")
    parser.add_argument("--root", type=Path, default=Path("runs/error_bars"))
    parser.add_argument("--plot", type=Path, help="PNG of the reliability plot")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.root.mkdir(parents=True, exist_ok=True)
    truth = read_truth(write_corpus(cache_folder() / "embedded", EMBEDDED_CONTENTS).parent)
    curves: dict[str, Reliability] = {}
    for name, arrangement in ARRANGEMENTS.items():
        students: Students = {
            trained: [
                run_student(arrangement.groups, trained, seed, chosen.steps, chosen.root)
                for seed in range(chosen.seeds)
            ]
            for trained in dict.fromkeys(fold.trained for fold in arrangement.folds)
        }
        table = Table(title=f"{name}: ECE (accuracy, confidence), {chosen.split} split", title_justify="left")
        for fit_name, fit in FITS.items():
            pooled, single = judge(arrangement, students, chosen.split, truth, fit)
            if not table.columns:
                for column in ("standard error", "alone", *pooled):
                    table.add_column(column)
            alone = f"{np.mean([one.ece for one in single]):.3f}"
            cells = [f"{r.ece:.3f} ({r.mean_accuracy:.2f}, {r.mean_confidence:.2f})" for r in pooled.values()]
            table.add_row(fit_name, alone, *cells)
            if fit_name in (BEFORE, CHOSEN):
                curves[f"{name}, {fit_name}"] = pooled["all"]
        Console(width=150).print(table)
    if chosen.plot is not None:
        plot_reliability(curves).savefig(chosen.plot, dpi=120)


if __name__ == "__main__":
    main()
