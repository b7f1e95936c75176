"""How label store and pair tables grow: one per cent of the paper's rows, a third and three times as many.

    python benchmarks/scale_growth.py [--videos 10000 30000 90000]

At each size scores, videos and answers are made up and pass through the package's own code, as in
benchmarks/scale.py, with pairs in the paper's proportion to 3 M videos. A power law is fitted to the three
sizes by least squares of the logarithms; what it says of 3 M videos stands beside, to be held against the
whole run of benchmarks/scale.py. Seconds are of the CPU, on one thread.
"""

import os
import tempfile
from collections.abc import Sequence

import numpy as np
from experiment import arguments, table
from label_store import in_fresh_process
from rich.console import Console
from scale import PAPER, StepRow, draw_rounds, use_store, write_store

from datamodules.pairs import PairCounts

VIDEOS = 3_000_000

LEAST = 0.03
"""CPU seconds at the smallest size; what takes less tells nothing of growth."""


def measured(count: int) -> list[StepRow]:
    """Return the rows of all steps at one size."""
    counts = PairCounts(synthetic=PAPER.synthetic * count // VIDEOS, teacher=PAPER.teacher * count // VIDEOS)
    with tempfile.TemporaryDirectory() as store, tempfile.TemporaryDirectory() as folder:
        return [
            *in_fresh_process(write_store, store, count),
            *in_fresh_process(use_store, store, count),
            *in_fresh_process(draw_rounds, folder, count, counts),
        ]


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", type=int, nargs=3, default=[10_000, 30_000, 90_000])
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    found = [measured(count) for count in given.videos]
    columns = [f"s, {count:,} videos" for count in given.videos]
    report = table(
        "Growth; the names are those of the largest size",
        ["step"],
        (*columns, "power", f"s at {VIDEOS:,}", "bytes a video", "their power"),
    )

    def power(values: Sequence[float]) -> tuple[float, float]:
        slope, offset = np.polyfit(np.log(given.videos), np.log(values), 1)
        return slope, np.exp(offset + slope * np.log(VIDEOS))

    for rows in zip(*found, strict=True):
        name, held = rows[-1][0], [float(row[3] or 0) for row in rows]
        seconds = [row[1] for row in rows]
        if not min(seconds) > LEAST:  # nor a note, which has none
            continue
        slope, at_all = power(seconds)
        cells = [*(f"{one:.2f}" for one in seconds), f"{slope:.2f}", f"{at_all:.0f}"]
        if all(held):
            cells += [f"{1e6 * held[-1] / given.videos[-1]:.0f}", f"{power(held)[0]:.2f}"]
        report.add_row(name, *cells)
    Console(width=140).print(report)


if __name__ == "__main__":
    main()
