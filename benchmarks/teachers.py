"""What weighing teachers without labels gives, and whether reference labels say how sure they are.

    python benchmarks/teachers.py [--seeds 12]

Teachers are made up, with known noise about a known truth. Of 700 videos the last 60 have a ladder of four
levels too, and the consensus is fitted on the first 500. The first table prints SRCC with the truth of the
weighted consensus, of equal weights over all teachers, and of the best equal-weight mean over all subsets,
which the truth itself chooses; a difference is the weighted consensus less the best subset of the same seed.

The second is of the reference labels in a made-up world of sources, drops and two noisy metrics of them: the
largest gap, of seven bins of margins, between Phi(margin) and the share of pairs whose second side is better.
"""

import math
from collections.abc import Callable, Iterable
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from experiment import arguments, table
from rich.console import Console
from scipy.stats import norm

from datamodules.distortions import DISTORTIONS
from datamodules.labels import Consensus, Request, fit_consensus
from datamodules.labels.label_store import READ_SCHEMA
from datamodules.labels.reference_labels import reference_versions
from datamodules.labels.teacher_weights import weigh_teachers
from datamodules.simulators import SIMULATORS
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

REFERENCE_SIMULATORS = ("gaussian_blur", "jpeg")
REFERENCE_LEVELS, SOURCES, SPREAD = 5, 2000, 2.0
TEACHER_ERROR = 0.5
PAIRS = 200_000


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


def worst_bin(seed: int, noise: float, known: bool) -> float:
    """Return the largest |P(second better) - Phi(margin)| of seven bins of pairs of two sources.

    Sources have quality N(0, 1), versions lose |N(0, 1)| in units in which the median loses SPREAD, and two
    metrics on unlike scales see that with errors that correlate at 1/3.

    Args:
        seed: of the world and the pairs.
        noise: standard deviation of a metric's error, in that of source quality.
        known: whether teachers say the sources' quality, with an error of TEACHER_ERROR.
    """
    generator = np.random.default_rng(seed)
    shape = (SOURCES, len(REFERENCE_SIMULATORS), REFERENCE_LEVELS)
    quality = generator.standard_normal(SOURCES)
    drop = np.abs(generator.standard_normal(shape)) * SPREAD / norm.ppf(0.75)
    common = generator.standard_normal(shape) * math.sqrt(1 / 3)
    own = generator.standard_normal((2, *shape)) * math.sqrt(2 / 3)
    first_seen, second_seen = np.abs(drop + noise * (common + own))

    ids = [f"{number:05d}" for number in range(SOURCES)]
    source, simulator, level = (axis.ravel() for axis in np.indices(shape))
    identities = [SIMULATORS[name].identity for name in REFERENCE_SIMULATORS]
    columns: dict[str, object] = {
        "video_id": [ids[number] for number in source],
        "simulator": [identities[number] for number in simulator],
        "level": level + 1,
    }
    metrics = {"aa": np.exp(-first_seen), "bb": 1 - second_seen / 50}
    table = pa.concat_tables(scores_of(name, columns, seen.ravel()) for name, seen in metrics.items())
    teachers = None
    if known:
        seen = quality + TEACHER_ERROR * generator.standard_normal(SOURCES)
        total = 1 + TEACHER_ERROR**2
        # The best estimate of the quality from what was seen, and its variance.
        teachers = Consensus(tuple(ids), seen / total, np.full(SOURCES, TEACHER_ERROR**2 / total))
    chosen = {name: SIMULATORS[name] for name in REFERENCE_SIMULATORS}
    versions = reference_versions(table, ids, chosen, list(metrics), sources=teachers, spread=SPREAD)

    video = np.array([int(name) for name in versions.consensus.video_ids])
    which = np.array([REFERENCE_SIMULATORS.index(name) for name in versions.simulators])
    truth = quality[video] - drop[video, which, versions.levels - 1]
    first, second = generator.integers(len(truth), size=(2, PAIRS))
    different = video[first] != video[second]
    first, second = first[different], second[different]
    margin = versions.consensus.margin(first, second)
    gap = (truth[second] > truth[first]) - norm.cdf(margin)
    edges = np.arange(-1.75, 2, 0.5)
    return max(abs(float(gap[(margin > low) & (margin <= high)].mean())) for low, high in pairwise(edges))


def main() -> None:
    """Print both tables."""
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

    title = f"Reference labels: worst bin of |P(second better) - Phi(margin)|, {len(seeds)} seeds"
    report = table(title, ["sources"], ("metrics' noise", "mean", "largest"))
    for name, noise, known in (("unknown", 0.5, False), ("scored by teachers", 1.0, True)):
        gaps = [worst_bin(seed, noise, known) for seed in seeds]
        report.add_row(name, f"{noise:.1f}", f"{np.mean(gaps):.3f}", f"{max(gaps):.3f}")
    console.print(report)


if __name__ == "__main__":
    main()
