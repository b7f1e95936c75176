import numpy as np
import pyarrow.compute as pc
import pytest
import torch

from datamodules.hard_pairs import flipped, hard_synthetic, hard_teacher
from datamodules.levels import LEVELS, hard_levels
from datamodules.pairs import Consensus, draw_pairs

LADDER = {"gaussian_blur": 5, "jitter": 3}
VIDEOS = [f"v{i:02d}" for i in range(40)]


def consensus(seed: int = 0, spread: float = 0.2) -> Consensus:
    generator = np.random.default_rng(seed)
    return Consensus(tuple(VIDEOS), generator.normal(size=40), np.full(40, spread))


class TestFlipped:
    def test_nothing_flips_under_the_same_consensus_and_all_clear_ones_under_its_opposite(self) -> None:
        known = consensus(spread=0.01)
        pairs = draw_pairs(VIDEOS, LADDER, seed=0, round=0, synthetic=10, teacher=100, consensus=known)
        opposite = Consensus(known.video_ids, -known.score, known.variance)
        similar = hard_levels(torch.tensor(pairs["levels"].to_pylist())) == LEVELS.index("similar")
        assert flipped(pairs, known) == 0
        assert flipped(pairs, opposite) == pytest.approx(1 - float(similar.sum()) / 100, abs=1e-6)

    def test_without_teacher_pairs_nothing_can_flip(self) -> None:
        pairs = draw_pairs(VIDEOS, LADDER, seed=0, round=0, synthetic=10)
        assert np.isnan(flipped(pairs, consensus()))


class TestHardPairs:
    def test_synthetic_ones_are_among_the_wrong(self) -> None:
        pairs = draw_pairs(VIDEOS, LADDER, seed=0, round=0, synthetic=60, teacher=60, consensus=consensus())
        wrong = torch.zeros(120, dtype=torch.bool)
        wrong[::3] = True
        hard = hard_synthetic(pairs, wrong, 8, np.random.default_rng(0))
        eligible = pairs.filter(wrong.tolist()).select(["first", "levels"]).to_pylist()
        assert len(hard) == 8
        assert pc.all(hard["hard"]).as_py()
        assert set(hard["source"].to_pylist()) == {"synthetic"}
        assert all(row in eligible for row in hard.select(["first", "levels"]).to_pylist())

    def test_teacher_ones_differ_for_the_attacker_and_not_for_the_defender(self) -> None:
        defender, attacker = consensus(0), consensus(1)
        generator = np.random.default_rng(0)
        hard = hard_teacher(attacker, defender, 20, generator, draws=4, blur=0.5)
        position = {name: i for i, name in enumerate(VIDEOS)}
        first, second = (
            np.array([position[name] for name in hard[side].to_pylist()]) for side in ("first", "second")
        )
        gaps = [np.abs(side.score[first] - side.score[second]) for side in (attacker, defender)]
        typical = [
            np.abs(side.score[:, None] - side.score)[np.triu_indices(40, 1)].mean()
            for side in (attacker, defender)
        ]
        assert len(hard) == 20
        # One half attacks each way: in every pair one side sees far more than the other.
        assert np.all(np.maximum(*gaps) > np.minimum(*gaps))
        assert np.mean(np.minimum(*gaps)) < 0.5 * np.mean(typical)
        assert np.mean(np.maximum(*gaps)) > np.mean(typical)
