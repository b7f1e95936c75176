from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from datamodules.errors import InputError
from datamodules.labels import Consensus, Labelling
from datamodules.pairs import PAIR_SCHEMA, HardPairs
from datamodules.pairs.drawing import shuffled
from datamodules.pairs.hard.disputed import hard_real
from datamodules.pairs.hard.finding import RoundBefore, find_hard
from datamodules.pairs.hard.recorded import Rule, hard_recorded, other_clips
from datamodules.pairs.scored import teacher_pairs
from datamodules.pairs.synthetic import synthetic_pairs

LADDER = {"gaussian_blur": 5, "jitter": 3}
VIDEOS = [f"v{i:02d}" for i in range(40)]


def consensus(seed: int = 0, spread: float = 0.2) -> Consensus:
    generator = np.random.default_rng(seed)
    return Consensus(tuple(VIDEOS), generator.normal(size=40), np.full(40, spread))


def drawn(synthetic: int = 60, teacher: int = 60) -> pa.Table:
    generator = np.random.default_rng([0, 0])
    known = synthetic_pairs(generator, VIDEOS, synthetic, LADDER, 8)
    return shuffled([known, teacher_pairs(generator, consensus(), teacher, 8, Labelling())], generator)


def answered(pairs: pa.Table, *, seed: int = 0) -> torch.Tensor:
    """Random answers, one pair in ten not met."""
    generator = torch.Generator().manual_seed(seed)
    answers = torch.randn(len(pairs), 3, generator=generator)
    answers[torch.rand(len(pairs), generator=generator) < 0.1] = torch.nan
    return answers


def numbered(pairs: pa.Table) -> pa.Table:
    """The same pairs, which their first draw tells apart."""
    column = pa.array(range(len(pairs)), pa.int64())
    return pairs.set_column(
        PAIR_SCHEMA.get_field_index("draw_first"), PAIR_SCHEMA.field("draw_first"), column
    )


def sides(pairs: pa.Table) -> list[tuple[int, int]]:
    """Positions of both videos."""
    return [(VIDEOS.index(row["first"]), VIDEOS.index(row["second"])) for row in pairs.to_pylist()]


def gaps(known: Consensus, pairs: pa.Table) -> np.ndarray:
    first, second = np.array(sides(pairs)).T
    return np.asarray(np.abs(known.score[first] - known.score[second]))


class TestRecorded:
    def rows(self, rule: Rule, source: str, count: int, answers: torch.Tensor, seed: int = 0) -> list[int]:
        generator = np.random.default_rng(seed)
        hard = hard_recorded(numbered(drawn()), answers, source, count, generator, rule)
        assert set(hard["source"].to_pylist()) <= {source}
        assert all(hard["hard"].to_pylist())
        found: list[int] = hard["draw_first"].to_pylist()
        assert len(set(found)) == len(found)
        return found

    def test_wrong_ones_are_found_and_no_others(self) -> None:
        pairs = drawn()
        answers = answered(pairs)
        synthetic = pc.equal(pairs["source"], "synthetic").to_numpy()
        wrong = np.flatnonzero(synthetic & (answers[:, 0] < 0).numpy())
        assert sorted(self.rows("gmad", "synthetic", 100, answers)) == wrong.tolist()
        assert set(self.rows("gmad", "synthetic", 8, answers)) < set(wrong.tolist())

    def test_the_more_wrong_the_more_often(self) -> None:
        pairs = drawn(synthetic=20, teacher=0)
        answers = torch.full((20, 3), 1.0)
        answers[:2, 0] = torch.tensor([-0.1, -0.3])
        first = [
            hard_recorded(numbered(pairs), answers, "synthetic", 1, np.random.default_rng(seed), "gmad")[
                "draw_first"
            ][0].as_py()
            for seed in range(400)
        ]
        # A quarter against three quarters: four deviations of a binomial share are .087.
        assert np.mean(first) == pytest.approx(0.75, abs=0.09)

    def test_answers_of_a_student_that_has_learnt_little_count_for_less(self) -> None:
        pairs = numbered(drawn(synthetic=400, teacher=0))
        advantage = torch.ones(400)
        advantage[:200:2] = -1  # at chance in the first half
        advantage[200::10] = -1  # a tau of .8 in the second
        answers = torch.stack([advantage, *torch.zeros(2, 400)], dim=1)
        late = [
            row >= 200
            for seed in range(20)
            for row in hard_recorded(pairs, answers, "synthetic", 5, np.random.default_rng(seed), "gmad")[
                "draw_first"
            ].to_pylist()
        ]
        # 20 wrong answers of weight .8 beside 100 of weight .1 are .62 of a draw; by number they are .17.
        assert np.mean(late) > 0.4

    @pytest.mark.parametrize("source", ["synthetic", "teacher"])
    def test_simpler_rules(self, source: str) -> None:
        pairs = drawn()
        answers = answered(pairs)
        own = [row for row, name in enumerate(pairs["source"].to_pylist()) if name == source]
        met = [row for row in own if answers[row, 1].isfinite()]
        by_loss = sorted(met, key=lambda row: -answers[row, 1].item())
        by_confidence = sorted(met, key=lambda row: answers[row, 2].item())
        assert self.rows("loss", source, 9, answers) == by_loss[:9]
        assert self.rows("confidence", source, 9, answers) == by_confidence[:9]
        assert self.rows("loss", source, 999, answers) == by_loss
        chance = self.rows("random", source, 9, answers)
        assert set(chance) < set(own)
        assert chance != self.rows("random", source, 9, answers, seed=1)

    def test_without_pairs_there_are_none(self) -> None:
        empty = PAIR_SCHEMA.empty_table()
        for rule in ("gmad", "loss", "random"):
            found = hard_recorded(empty, torch.empty(0, 3), "teacher", 5, np.random.default_rng(0), rule)
            assert len(found) == 0


class TestReal:
    def found(
        self,
        student: Consensus,
        defenders: Sequence[Consensus],
        count: int,
        labelling: Labelling = Labelling(),  # noqa: B008
        **settings: Any,
    ) -> pa.Table:
        generator = np.random.default_rng(0)
        hard = HardPairs(**settings)
        return hard_real(generator, student, student, defenders, count, hard, labelling, draws=4)

    def test_either_side_attacks_where_the_other_sees_no_difference(self) -> None:
        defender, attacker = consensus(0), consensus(1)
        hard = self.found(attacker, [defender], 20)
        one, other = gaps(attacker, hard), gaps(defender, hard)
        typical = [np.abs(np.subtract.outer(c.score, c.score)).mean() for c in (attacker, defender)]
        assert len(hard) == 20
        assert np.all(hard["hard"].to_pylist())
        # Every pair is wide for one side and narrow for the other.
        assert np.all(np.maximum(one, other) > np.minimum(one, other))
        assert np.mean(np.minimum(one, other)) < 0.5 * np.mean(typical)
        assert np.mean(np.maximum(one, other)) > np.mean(typical)
        assert 8 <= np.sum(one > other) <= 12  # one of a list may also be wide the other way round

    def test_defenders_and_directions_have_equal_shares_and_no_pair_comes_twice(self) -> None:
        student, defenders = consensus(1), [consensus(2), consensus(3)]
        hard = self.found(student, defenders, 24, gap=0.05, bins=1)
        assert len({frozenset(pair) for pair in sides(hard)}) == len(hard) == 24
        narrow = [gaps(one, hard) <= 0.05 * one.score.std() for one in (*defenders, student)]
        assert np.all(np.any(narrow, axis=0))
        assert [narrow[0].sum(), narrow[1].sum()] == [pytest.approx(6, abs=2)] * 2  # some by chance
        assert narrow[2].sum() == pytest.approx(12, abs=2)

    def test_the_scale_of_a_defender_does_not_matter(self) -> None:
        student, defender = consensus(1), consensus(0)
        scaled = Consensus(defender.video_ids, 100 * defender.score - 7, 1e4 * defender.variance)
        assert self.found(student, [scaled], 10, gap=0.3) == self.found(student, [defender], 10, gap=0.3)

    def test_labels_are_the_annotators_and_not_the_students(self) -> None:
        annotators, student = consensus(5), consensus(1)
        hard = hard_real(
            np.random.default_rng(0),
            annotators,
            student,
            [consensus(0)],
            10,
            HardPairs(),
            Labelling(),
            draws=4,
        )
        first, second = np.array(sides(hard)).T
        assert hard["margin"].to_pylist() == pytest.approx(annotators.margin(first, second), abs=1e-5)

    def test_only_videos_that_all_know(self) -> None:
        student, defender = consensus(1), consensus(0)
        hard = self.found(student.restrict(VIDEOS[5:]), [defender.restrict(VIDEOS[:30])], 99)
        assert {place for pair in sides(hard) for place in pair} <= set(range(5, 30))
        assert len(self.found(student, [defender.restrict(VIDEOS[:1])], 9)) == 0

    def test_unsure_labels_are_left_out(self) -> None:
        hard = self.found(consensus(1), [consensus(0)], 99, Labelling(min_confidence=0.7))
        assert min(max(levels) for levels in hard["levels"].to_pylist()) >= 0.7
        assert len(hard) < len(self.found(consensus(1), [consensus(0)], 99))


class TestFind:
    def hard(self, rule: Rule, *, kept: bool = False, count: int = 15) -> pa.Table:
        pairs = drawn()
        before = RoundBefore(pairs, answered(pairs), kept, consensus(1), [consensus(0)])
        wanted = {"synthetic": count, "teacher": count}
        return find_hard(HardPairs(rule=rule), wanted, before, consensus(1), Labelling(), 8, (0, 1))

    @pytest.mark.parametrize("rule", ["gmad", "loss", "confidence", "random"])
    def test_as_many_of_either_source_as_wanted_labelled_anew(self, rule: Rule) -> None:
        hard = self.hard(rule)
        assert hard["source"].to_pylist() == ["synthetic"] * 15 + ["teacher"] * 15
        first, second = np.array(sides(hard)).T
        margins = np.array(hard["margin"].to_pylist()[15:], dtype=float)
        assert margins == pytest.approx(consensus(1).margin(first, second)[15:], abs=1e-5)
        assert self.hard(rule).equals(hard)

    def test_beside_the_pairs_themselves_other_clips_of_them_are_shown(self) -> None:
        alone, beside = self.hard("loss"), self.hard("loss", kept=True)
        draws = ["draw_first", "draw_second"]
        assert alone.drop_columns(draws).equals(beside.drop_columns(draws))
        assert alone != beside
        synthetic = beside.slice(0, 15)
        assert synthetic["draw_first"].equals(synthetic["draw_second"])

    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            ({"share": 1.1}, r"data\.later\.hard\.share must be from 0 to 1; got 1\.1\."),
            ({"rule": "hardest"}, r"data\.later\.hard\.rule must be one of gmad, loss, .*; got 'hardest'\."),
            ({"bins": 0}, r"data\.later\.hard\.bins must be 1 or more; got 0\."),
            ({"gap": 0.0}, r"data\.later\.hard\.gap must be more than 0; got 0\.0\."),
        ],
    )
    def test_settings_out_of_range(self, settings: dict[str, Any], sentence: str) -> None:
        with pytest.raises(InputError, match=sentence):
            HardPairs(**settings)


def test_other_clips_are_within_the_draws() -> None:
    shown = other_clips(drawn(), np.random.default_rng(0), 3)
    for side in ("draw_first", "draw_second"):
        assert set(shown[side].to_pylist()) == {0, 1, 2}
