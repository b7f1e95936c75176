from collections import Counter

import numpy as np
import pyarrow.compute as pc
import pytest
import torch

from datamodules.errors import InputError
from datamodules.levels import LEVELS, hard_levels
from datamodules.pairs import (
    Consensus,
    balance_of,
    cuts_for_balance,
    draw_pairs,
    flipped,
    hard_synthetic,
    hard_teacher,
)

LADDER = {"gaussian_blur": 5, "jitter": 3}
VIDEOS = [f"v{i:02d}" for i in range(40)]


def consensus(seed: int = 0, spread: float = 0.2) -> Consensus:
    generator = np.random.default_rng(seed)
    return Consensus(tuple(VIDEOS), generator.normal(size=40), np.full(40, spread))


class TestDrawPairs:
    def test_depends_on_seed_and_round_alone(self) -> None:
        def draw(seed: int, round: int) -> object:
            return draw_pairs(
                VIDEOS, LADDER, seed=seed, round=round, synthetic=50, teacher=50, consensus=consensus()
            )

        assert draw(1, 2) == draw(1, 2)
        assert draw(1, 2) != draw(1, 3)
        assert draw(1, 2) != draw(2, 2)

    def test_synthetic_labels_follow_from_the_severities(self) -> None:
        pairs = draw_pairs(VIDEOS, LADDER, seed=0, round=0, synthetic=400)
        for row in pairs.to_pylist():
            sides = [{d["name"]: d["level"] for d in row[f"distortions_{s}"]} for s in ("first", "second")]
            (name,) = {*sides[0], *sides[1]}
            step = sides[0].get(name, 0) - sides[1].get(name, 0)
            expected = {1: "better", -1: "worse"}.get(step, "superior" if step > 0 else "inferior")
            assert step != 0
            assert LEVELS[int(np.argmax(row["levels"]))] == expected
            assert max(sides[0].get(name, 0), sides[1].get(name, 0)) <= LADDER[name]
            assert row["first"] == row["second"]
            assert row["draw_first"] == row["draw_second"]

    def test_simulators_have_equal_shares(self) -> None:
        pairs = draw_pairs(VIDEOS, LADDER, seed=0, round=0, synthetic=101)
        names = Counter(
            (row["distortions_first"] or row["distortions_second"])[0]["name"] for row in pairs.to_pylist()
        )
        assert sorted(names.values()) == [50, 51]

    def test_teacher_pairs_are_balanced_over_levels(self) -> None:
        pairs = draw_pairs(
            VIDEOS, LADDER, seed=0, round=0, synthetic=0, teacher=200, consensus=consensus(), blur=0
        )
        levels = Counter(hard_levels(torch.tensor(pairs["levels"].to_pylist())).tolist())
        assert [levels[i] for i in range(5)] == [40] * 5
        assert pc.all(pc.not_equal(pairs["first"], pairs["second"])).as_py()

    def test_margins_are_the_scores_difference_over_the_joint_deviation(self) -> None:
        known = Consensus(("a", "b"), np.array([1.0, 4.0]), np.array([1.0, 3.0]))
        pairs = draw_pairs(["a", "b"], LADDER, seed=0, round=0, synthetic=0, teacher=2, consensus=known)
        found = dict(zip(pairs["first"].to_pylist(), pairs["margin"].to_pylist(), strict=True))
        assert found == pytest.approx({"a": 1.5, "b": -1.5})

    def test_nothing_to_draw_from(self) -> None:
        with pytest.raises(InputError, match="no videos"):
            draw_pairs([], LADDER, seed=0, round=0, synthetic=5)
        with pytest.raises(InputError, match="teacher scores"):
            draw_pairs(VIDEOS, LADDER, seed=0, round=0, synthetic=5, teacher=5)


class TestRounds:
    def test_cuts_keep_the_balance_whatever_the_unit_of_the_spread(self) -> None:
        before = consensus()
        after = Consensus(before.video_ids, before.score * 3, before.variance * 0.01)
        cuts = cuts_for_balance(after, balance_of(before))
        again = balance_of(Consensus(after.video_ids, after.score, after.variance, cuts))
        assert again == pytest.approx(balance_of(before), abs=0.01)  # quantiles of 4096 random pairs

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
