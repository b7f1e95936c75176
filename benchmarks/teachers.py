"""What weighing teachers without labels gives.

    python benchmarks/teachers.py [--seeds 12]

Teachers are made up, with known noise about a known truth. Of 700 videos the last 60 have a ladder of four
levels too, and the consensus is fitted on the first 500. The table prints SRCC with the truth of the
weighted consensus, of equal weights over all teachers, and of the best equal-weight mean over all subsets,
which the truth itself chooses; a difference is the weighted consensus less the best subset of the same seed.
"""

from collections.abc import Callable, Iterable
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from experiment import arguments, table
from rich.console import Console

from datamodules.distortions import DISTORTIONS
from datamodules.labels import Request, fit_consensus
from datamodules.labels.label_store import READ_SCHEMA
from datamodules.labels.teacher_weights import weigh_teachers
from datamodules.video import Video
from vqa_lightning.metrics import srcc

Floats = npt.NDArray[np.float64]

SIMULATOR = DISTORTIONS["jpeg"]
LEVELS, STEP = 4, 0.5
"""Of a ladder; by how much a level is worse, in standard deviations of the quality of sources."""

IDS = [f"v{index:04d}" for index in range(700)]
FITTED, SELECT = IDS[:500], IDS[-60:]
LADDERS = [
    Request(Video(name, name, content=name), SIMULATOR, level)
    for name in SELECT
    for level in range(1, LEVELS + 1)
]
KINDS: dict[str, Callable[[Floats, np.random.Generator], Floats]] = {
    "good": lambda q, rng: q + 0.5 * rng.normal(size=q.shape),
    "fair": lambda q, rng: np.exp(q + rng.normal(size=q.shape)),
    "saturating": lambda q, rng: np.tanh(1.5 * q) + 0.25 * rng.normal(size=q.shape),
    "heavy-tailed": lambda q, rng: q + 0.4 * rng.standard_t(1.5, size=q.shape),
    "noise": lambda q, rng: rng.normal(size=q.shape),
    "upside down": lambda q, rng: -q - 0.5 * rng.normal(size=q.shape),
}
SETS = {
    "five, normal errors": ("good", "good", "good", "fair", "fair"),
    ", ".join(KINDS): tuple(KINDS),
    "good, saturating": ("good", "saturating"),
}


def scores_of(fingerprint: str, columns: dict[str, object], scores: Floats) -> pa.Table:
    """Return one annotator's whole-clip scores as `LabelStore.read` gives them."""
    constant: dict[str, object] = {"draw": 0, "segment": None, "stderr": None, "round": 0}
    constant |= {"annotator": fingerprint, "fingerprint": fingerprint}
    table = {name: [value] * len(scores) for name, value in constant.items()} | columns | {"score": scores}
    return pa.table({name: table[name] for name in READ_SCHEMA.names}).cast(READ_SCHEMA)


def made_up(seed: int, kinds: Iterable[str]) -> tuple[Floats, pa.Table, list[str]]:
    """Return the truth, the scores of sources and ladders, and the teachers' names, one for each kind."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(size=len(IDS))
    tables, names = [], []
    for number, kind in enumerate(kinds):
        names.append(f"{kind} {number}")
        for level in range(LEVELS + 1):
            ids, quality = (SELECT, truth[-len(SELECT) :] - STEP * level) if level else (IDS, truth)
            columns: dict[str, object] = {"video_id": ids, "level": [level] * len(ids)}
            columns["simulator"] = [SIMULATOR.identity if level else None] * len(ids)
            tables.append(scores_of(names[-1], columns, KINDS[kind](quality, generator)))
    return truth, pa.concat_tables(tables), names


def three_ways(seed: int, kinds: Iterable[str]) -> tuple[float, float, float]:
    """Return SRCC with the truth: weighted, equal weights over all, best equal weights over any subset."""
    truth, table, names = made_up(seed, kinds)

    def follow(weights: dict[str, float]) -> float:
        return srcc(truth, fit_consensus(table, FITTED, list(weights), weights=weights).scores(IDS)[0])

    found = weigh_teachers(table, {name: name for name in names}, LADDERS)
    subsets = [chosen for size in range(1, len(names) + 1) for chosen in combinations(names, size)]
    equal = [follow(dict.fromkeys(chosen, 1.0)) for chosen in subsets]
    return follow({row.name: row.weight for row in found}), equal[-1], max(equal)


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--seeds", type=int, default=12)
    seeds = range(parser.parse_args().seeds)
    console = Console(width=130)

    report = table(
        f"SRCC with the truth, {len(seeds)} seeds; difference: weighted less best subset",
        ["teachers"],
        ("weighted", "equal, all", "best subset", "difference: mean", "worst", "best"),
    )
    for name, kinds in SETS.items():
        ways = np.array([three_ways(seed, kinds) for seed in seeds])
        difference = ways[:, 0] - ways[:, 2]
        figures = (difference.mean(), difference.min(), difference.max())
        report.add_row(
            name, *(f"{value:.3f}" for value in ways.mean(axis=0)), *(f"{value:+.4f}" for value in figures)
        )
    console.print(report)


if __name__ == "__main__":
    main()
