"""Pairs of maximum differentiation on cases that can be counted by hand or searched through."""

from itertools import combinations

import numpy as np
import pytest

from datamodules.pairs.hard.gmad import Floats, gmad_pairs


def test_by_hand() -> None:
    defender = np.array([0.0, 1, 2, 3, 10, 11, 12, 13])
    attacker = np.array([5.0, 1, 9, 4, 0, 0, 3, 1])
    pairs = gmad_pairs(attacker, defender, 4, bins=2)
    # bins 0-3 and 4-7: first their widest pairs (gaps 8 and 3), then what is left of them (1 and 1)
    assert pairs.tolist() == [[1, 2], [4, 6], [3, 0], [5, 7]]
    assert gmad_pairs(attacker, defender, 1, bins=2).tolist() == [[1, 2]]


def test_no_video_twice_and_gaps_only() -> None:
    generator = np.random.default_rng(0)
    attacker, defender = generator.normal(size=(2, 101))
    pairs = gmad_pairs(attacker, defender, 1000)
    assert len(np.unique(pairs)) == pairs.size == 2 * 50
    assert (attacker[pairs[:, 1]] > attacker[pairs[:, 0]]).all()
    assert gmad_pairs(np.zeros(20), defender[:20], 5).shape == (0, 2)
    assert gmad_pairs(np.empty(0), np.empty(0), 5, gap=0.1).shape == (0, 2)


def test_a_bound_by_hand() -> None:
    defender = np.array([0.0, 1, 2, 3])  # of deviation 1.118
    attacker = np.array([0.0, 5, 4, 9])
    assert gmad_pairs(attacker, defender, 9, bins=1, gap=0.9).tolist() == [[0, 1], [2, 3]]
    assert gmad_pairs(attacker, defender, 9, bins=1, gap=1.8).tolist() == [[0, 1], [2, 3]]
    assert gmad_pairs(attacker, defender, 9, bins=1, gap=2.7).tolist() == [[0, 3], [2, 1]]
    assert gmad_pairs(attacker, defender, 9, bins=1, gap=0.8).tolist() == []


def greedy(attacker: Floats, defender: Floats, bound: float, count: int) -> float:
    """Total gap of the first pairs of all, the widest first, none of a video that was taken before."""
    gaps = sorted(
        (
            (abs(attacker[one] - attacker[other]), one, other)
            for one, other in combinations(range(len(attacker)), 2)
            if abs(defender[one] - defender[other]) <= bound
        ),
        reverse=True,
    )
    used: set[int] = set()
    total = 0.0
    for gap, one, other in gaps:
        if len(used) < 2 * count and not {one, other} & used:
            used |= {one, other}
            total += gap
    return total


@pytest.mark.parametrize("videos", [8, 30, 100])
@pytest.mark.parametrize("neighbours", [1, 4, 16])
@pytest.mark.parametrize("count", [3, 50])
def test_comes_close_to_the_exhaustive_greedy_within_the_bound(
    videos: int, neighbours: int, count: int
) -> None:
    generator = np.random.default_rng(videos)
    ratios = []
    for correlated in (0.0, 0.0, 1.0, 3.0):
        defender = generator.normal(size=videos)
        attacker = generator.normal(size=videos) + correlated * defender
        bound = np.ptp(defender) * neighbours / videos
        pairs = gmad_pairs(attacker, defender, count, bins=1, gap=bound / defender.std())
        low, high = pairs.T
        assert len(np.unique(pairs)) == pairs.size
        assert (np.abs(defender[high] - defender[low]) <= bound * (1 + 1e-9)).all()  # of the division
        best = greedy(attacker, defender, bound, count)
        ratios.append((attacker[high] - attacker[low]).sum() / best if best else 1.0)
    # Over 1080 random cases of these sizes the least ratio was .96, their mean above .999.
    assert min(ratios) > 0.9


def test_both_bounds_hold_and_bins_take_turns() -> None:
    generator = np.random.default_rng(0)
    attacker, defender = generator.normal(size=(2, 500))
    pairs = gmad_pairs(attacker, defender, 10, bins=5, gap=0.1)
    rank = defender.argsort().argsort()
    assert (rank[pairs] // 100 == rank[pairs[:, :1]] // 100).all()
    assert sorted(rank[pairs[:5, 0]] // 100) == sorted(rank[pairs[5:, 0]] // 100) == list(range(5))
    assert np.abs(np.diff(defender[pairs])).max() <= 0.1 * defender.std()


def test_the_unit_of_either_side_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    attacker, defender = generator.normal(size=(2, 200))
    plain = gmad_pairs(attacker, defender, 40, gap=0.2)
    assert gmad_pairs(7 * attacker, 1000 * defender + 5, 40, gap=0.2).tolist() == plain.tolist()


@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_many_videos_take_sorts_and_no_search(scale: float) -> None:
    generator = np.random.default_rng(0)
    attacker, defender = np.exp(scale * generator.normal(size=20_000)), generator.normal(size=20_000)
    # Comparing all pairs of a bin would take gigabytes, searching after each pair minutes on heavy tails.
    assert len(gmad_pairs(attacker, defender, 10_000, bins=2, gap=0.2)) > 9000
