"""Laws of a choice by scores, on many made-up tables with ties, gaps and contents of every size."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from math import ceil

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from datamodules.errors import InputError
from datamodules.selection.curation import Curation, Rule

DRAWS = range(30)

Drawn = tuple[list[str], npt.NDArray[np.float64], list[str | None], npt.NDArray[np.int64]]


def drawn(seed: int) -> Drawn:
    """Paths, values with ties and gaps, contents with one that is not known, groups of duplicates."""
    generator = np.random.default_rng(seed)
    count = int(generator.integers(1, 60))
    values = generator.integers(0, 20, count).astype(float)
    values[generator.random(count) < 0.1] = np.nan
    contents = generator.choice(["a", "b\"<'", "ü", None], count).tolist()
    groups = generator.integers(0, max(1, count // 2), count)
    return [f"{place}.mp4" for place in generator.permutation(count)], values, contents, groups


def curated(table: Drawn, rule: Rule, order: npt.NDArray[np.int64] | None = None) -> dict[str, str | None]:
    """Path -> reason, of the rows in some order."""
    paths, values, contents, groups = table
    rows = np.arange(len(paths)) if order is None else order
    curation = Curation(pa.array([paths[row] for row in rows]), values[rows])
    curation.drop_unscored()
    curation.drop_low(rule, np.full(len(rows), np.nan))
    curation.drop_duplicates(groups[rows])
    curation.drop_worst(rule, pa.array([contents[row] for row in rows], pa.string()))
    stays = int(curation.stays.sum())
    assert stays + sum(curation.counts.values()) == len(rows)
    return dict(zip(curation.paths.to_pylist(), curation.reasons.to_pylist(), strict=True))


@pytest.mark.parametrize("seed", DRAWS)
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    table = drawn(seed)
    order = np.random.default_rng(seed).permutation(len(table[0]))
    for rule in (Rule(keep=0.5), Rule(most=2), Rule(keep=0.3, above=5)):
        assert curated(table, rule, order) == curated(table, rule)


@pytest.mark.parametrize("seed", DRAWS)
def test_more_is_kept_of_a_larger_share_and_nothing_is_swapped(seed: int) -> None:
    table = drawn(seed)
    kept = [
        {path for path, reason in curated(table, Rule(keep=keep)).items() if reason is None}
        for keep in (0.01, 0.2, 0.5, 0.51, 0.9, 1)
    ]
    assert all(fewer <= more for fewer, more in pairwise(kept))


@pytest.mark.parametrize("seed", DRAWS)
def test_the_share_is_that_of_what_is_left_of_each_content_and_its_best(seed: int) -> None:
    table = drawn(seed)
    paths, values, contents, groups = table
    whole = curated(table, Rule(keep=1))
    left = [place for place, path in enumerate(paths) if whole[path] is None]
    best = {group: max(values[groups == group], default=np.nan) for group in set(groups[left])}
    assert all(values[place] == np.nanmax(values[groups == groups[place]]) for place in left)
    assert len(left) == len(best)
    found = curated(table, Rule(keep=0.4))
    kept = [place for place in left if found[paths[place]] is None]
    sizes, shares = (Counter(contents[place] for place in places) for places in (left, kept))
    assert {content: ceil(0.4 * size) for content, size in sizes.items()} == dict(shares)
    for content in sizes:
        own = [place for place in left if contents[place] == content]
        first = sorted(own, key=lambda place: (-values[place], paths[place]))[: shares[content]]
        assert set(first) == {place for place in kept if contents[place] == content}


@pytest.mark.parametrize(
    ("keep", "rows", "wanted"), [(0.07, 100, 7), (0.6, 5, 3), (0.1, 30, 3), (1e-6, 9, 1)]
)
def test_a_share_is_rounded_up_but_not_by_the_error_of_a_product(keep: float, rows: int, wanted: int) -> None:
    curation = Curation(pa.array([str(row) for row in range(rows)]), np.arange(rows, dtype=float))
    curation.drop_worst(Rule(keep=keep))
    assert curation.stays.sum() == wanted


def test_reasons_name_what_stays_in_their_place() -> None:
    curation = Curation(pa.array(["a", "b", "c", "d", "e", "f"]), np.array([1, 2, 3, np.nan, np.nan, 5]))
    curation.drop_unscored(pa.array(["", "what it may be", "", None, "e is missing.", ""]))
    curation.drop_low(Rule(above=2), np.full(6, np.nan))
    curation.drop_duplicates(np.array([0, 0, 0, 0, 1, 1]))
    curation.drop_worst(Rule(most=1), pa.array(["x", "x", "y", "x", "x", "y"]))
    assert curation.reasons.to_pylist() == [
        "below 2",
        "near duplicate of c",
        "below the 1 kept of y",
        "no score",
        "unreadable: e is missing.",
        None,
    ]
    assert list(curation.counts.values()) == [1, 1, 1, 1, 1]


def test_confidence_asks_for_a_distance_in_standard_errors() -> None:
    """P(score above 40) is .9 at 1.2816 standard errors; without an error nothing is sure."""
    values, stderr = np.array([41.2, 41.3, 39.0, 60.0, 40.0]), np.array([1, 1, 0.1, np.nan, 0])
    curation = Curation(pa.array(list("abcde")), values)
    curation.drop_low(Rule(above=40, confidence=0.9), stderr)
    assert curation.stays.tolist() == [False, True, False, False, True]
    assert curation.reasons.to_pylist()[::2] == ["not above 40 with probability 0.9", "below 40", None]


@pytest.mark.parametrize(
    "rule",
    [
        lambda: Rule(keep=0),
        lambda: Rule(keep=1.5),
        lambda: Rule(keep=float("nan")),
        lambda: Rule(most=0),
        lambda: Rule(above=float("nan")),
        lambda: Rule(above=1, confidence=1),
        lambda: Rule(above=1, confidence=0.4),
        lambda: Rule(confidence=0.9),
    ],
)
def test_a_rule_that_is_none_is_one_sentence(rule: Callable[[], Rule]) -> None:
    with pytest.raises(InputError, match=r"^--.*\.\d?"):
        rule()
