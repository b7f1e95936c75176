"""Time of finding hard pairs of different videos (gMAD) in a large corpus, and how hard they are.

    python benchmarks/hard_pairs.py [--videos 100000] [--defenders 6] [--pairs 85000]

Made-up scores: a hidden truth to which the student and every defender add an error of their own. For each
bound on the defending side's gap the table prints the seconds of one core that `hard_real` took, how many
pairs it found, and the mean gap of the student in them, in standard deviations; of random pairs it is 1.13.
"""

import time

import numpy as np
from experiment import arguments, table
from rich.console import Console

from datamodules.labels import Consensus, Labelling
from datamodules.pairs import HardPairs
from datamodules.pairs.hard.disputed import hard_real
from datamodules.pairs.relabelling import positions


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--defenders", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=85_000, help="of a later stage in the paper")
    parser.add_argument("--bins", type=int, default=5)
    given = parser.parse_args()
    generator = np.random.default_rng(0)
    ids = tuple(f"{index:016x}" for index in range(given.videos))
    truth = generator.normal(size=len(ids))
    student, *defenders = (
        Consensus(ids, truth + generator.normal(size=len(ids)), np.full(len(ids), 0.5))
        for _ in range(1 + given.defenders)
    )
    shape = f"{given.videos} videos, {given.defenders} defenders, {given.bins} bins"
    report = table(shape, right=("gap", "seconds", "pairs", "student's gap"))
    for gap in (None, 0.5, 0.1, 0.02, 0.001):
        began = time.process_time()
        pairs = hard_real(
            np.random.default_rng(0),
            student,
            student,
            defenders,
            given.pairs,
            HardPairs(bins=given.bins, gap=gap),
            Labelling(),
            draws=8,
        )
        seconds = time.process_time() - began
        first, second = positions(pairs, student)
        mean = np.abs(student.score[first] - student.score[second]).mean() / student.score.std()
        report.add_row("any" if gap is None else f"{gap}", f"{seconds:.1f}", f"{len(pairs)}", f"{mean:.2f}")
    Console().print(report)


if __name__ == "__main__":
    main()
