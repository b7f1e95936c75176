"""Pairs of maximum differentiation on cases that can be counted by hand."""

import numpy as np

from datamodules.gmad import gmad_pairs


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
    assert gmad_pairs(np.empty(0), np.empty(0), 5).shape == (0, 2)
