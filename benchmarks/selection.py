"""How well and how fast videos are chosen to match histograms, on made-up metrics.

    python benchmarks/selection.py

20000 candidates of nine correlated, skewed metrics, of which 2000 are chosen: to be like 1000 videos of
another distribution, the same with shares of four sources, and to fill all bins alike. For each it prints the
sum of absolute histogram differences (at most 18) of a random choice, of the choice, and the proven bound.
"""

import time

import numpy as np
from experiment import arguments
from rich.console import Console
from rich.table import Table

from datamodules.selection.matching import Array, bin_edges, histograms, select

METRICS, FACTORS = 9, 3
SHARES = {"TikTok": 0.35, "YouTube": 0.25, "Bilibili": 0.2, "Youku": 0.2}
POOL = {"TikTok": 0.1, "YouTube": 0.6, "Bilibili": 0.15, "Youku": 0.15}


def made_up(
    generator: np.random.Generator, loadings: Array, count: int, shift: Array, spread: float
) -> Array:
    """Return metrics (count, METRICS) that share FACTORS hidden causes, skewed as real ones are."""
    causes = generator.normal(size=(count, FACTORS)) @ loadings
    values: Array = np.exp(0.3 * (spread * causes + generator.normal(size=(count, METRICS)) + shift))
    return values


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--candidates", type=int, default=20000)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--bins", type=int, default=10)
    given = parser.parse_args()
    generator = np.random.default_rng(0)
    loadings = generator.normal(size=(FACTORS, METRICS))
    pool = made_up(generator, loadings, given.candidates, np.zeros(METRICS), 1.0)
    other = made_up(generator, loadings, 1000, 0.8 * generator.normal(size=METRICS), 0.7)
    sources = generator.choice(list(POOL), given.candidates, p=list(POOL.values())).tolist()

    title = f"{given.count} of {given.candidates}, {METRICS} metrics, {given.bins} bins"
    table = Table("target", "random", "chosen", "bound", "random / chosen", "seconds", title=title)
    uniform = np.full((METRICS, given.bins), 1 / given.bins)
    for name, target, shares in (
        ("other set", other, None),
        ("other set, shares", other, SHARES),
        ("uniform", None, None),
    ):
        edges = bin_edges(pool, target, given.bins)
        wanted = uniform if target is None else histograms(target, edges)
        drawn = generator.choice(given.candidates, given.count, replace=False)
        random = np.abs(histograms(pool[drawn], edges) - wanted).sum()
        began = time.perf_counter()
        labels = sources if shares else None
        chosen = select(pool, given.count, edges=edges, target=wanted, labels=labels, shares=shares)
        seconds = time.perf_counter() - began
        least = chosen.differences.sum()
        values = (f"{random:.3f}", f"{least:.3f}", f"{chosen.bound:.3f}", f"{random / least:.1f}")
        table.add_row(name, *values, f"{seconds:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
