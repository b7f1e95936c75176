from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from datamodules.errors import InputError
from datamodules.labels import LEVELS, Consensus, Labelling, hard_levels
from datamodules.labels.consensus import balance_of, cuts_for_balance
from datamodules.pairs import PAIR_SCHEMA, read_pairs
from datamodules.pairs.drawing import evaluation_pairs, shuffled
from datamodules.pairs.scored import teacher_pairs
from datamodules.pairs.synthetic import synthetic_pairs

LADDER = {"gaussian_blur": 5, "jitter": 3}
VIDEOS = [f"v{i:02d}" for i in range(40)]


def consensus(seed: int = 0, spread: float = 0.2) -> Consensus:
    generator = np.random.default_rng(seed)
    return Consensus(tuple(VIDEOS), generator.normal(size=40), np.full(40, spread))


def teachers(count: int = 200, known: Consensus | None = None, **labelling: float) -> pa.Table:
    settings = Labelling(**labelling)  # type: ignore[arg-type]
    return teacher_pairs(np.random.default_rng(0), known or consensus(), count, 8, settings)


class TestDrawing:
    def test_the_same_numbers_give_the_same_table(self) -> None:
        def draw(*seed: int) -> pa.Table:
            generator = np.random.default_rng(seed)
            known = synthetic_pairs(generator, VIDEOS, 50, LADDER, 8)
            scored = teacher_pairs(generator, consensus(), 50, 8, Labelling())
            return shuffled([known, scored], generator)

        assert draw(1, 2) == draw(1, 2)
        assert draw(1, 2) != draw(1, 3)
        assert draw(1, 2) != draw(2, 2)

    def test_synthetic_labels_follow_from_the_severities(self) -> None:
        pairs = evaluation_pairs(VIDEOS, LADDER, 400, seed=0)
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
        pairs = evaluation_pairs(VIDEOS, LADDER, 101, seed=0)
        names = Counter(
            (row["distortions_first"] or row["distortions_second"])[0]["name"] for row in pairs.to_pylist()
        )
        assert sorted(names.values()) == [50, 51]

    def test_teacher_pairs_are_balanced_over_levels(self) -> None:
        pairs = teachers(blur=0)
        levels = Counter(hard_levels(torch.tensor(pairs["levels"].to_pylist())).tolist())
        assert [levels[i] for i in range(5)] == [40] * 5
        assert pc.all(pc.not_equal(pairs["first"], pairs["second"])).as_py()

    def test_margins_are_the_scores_difference_over_the_joint_deviation(self) -> None:
        known = Consensus(("a", "b"), np.array([1.0, 4.0]), np.array([1.0, 3.0]))
        pairs = teachers(2, known)
        found = dict(zip(pairs["first"].to_pylist(), pairs["margin"].to_pylist(), strict=True))
        assert found == pytest.approx({"a": 1.5, "b": -1.5})

    def test_nothing_to_draw_from(self) -> None:
        with pytest.raises(InputError, match="no videos"):
            evaluation_pairs([], LADDER, 5, seed=0)
        with pytest.raises(InputError, match=r"data\.counts\.teacher needs two .* got 1"):
            teachers(5, consensus().restrict(VIDEOS[:1]))


class TestCompositions:
    def pairs(self, count: int, composed: float) -> pa.Table:
        bases = {"jitter": ["gaussian_blur"]}
        generator = np.random.default_rng(0)
        return synthetic_pairs(generator, VIDEOS, count, LADDER, 8, bases=bases, composed=composed)

    def test_the_base_lies_first_and_alike_under_both_sides(self) -> None:
        pairs = self.pairs(400, 0.5).to_pylist()
        composed = 0
        for row in pairs:
            first, second = row["distortions_first"], row["distortions_second"]
            if {entry["name"] for entry in first + second} == {"gaussian_blur", "jitter"}:
                composed += 1
                assert first[0] == second[0]
                assert first[0]["name"] == "gaussian_blur"
                step = sum(e["level"] for e in first[1:]) - sum(e["level"] for e in second[1:])
                assert np.sign(np.array(row["levels"]) @ np.arange(-2, 3)) == np.sign(step) != 0
        # Half of the 200 pairs of the one simulator that has a base: six deviations of a binomial count.
        assert composed == pytest.approx(100, abs=42)

    def test_without_a_share_there_are_none(self) -> None:
        pairs = self.pairs(100, 0.0)
        for side in ("distortions_first", "distortions_second"):
            assert pc.max(pc.list_value_length(pairs[side])).as_py() == 1


class TestReadPairs:
    def written(self, folder: Path, **changed: object) -> Path:
        row = evaluation_pairs(VIDEOS, LADDER, 1, seed=0).to_pylist()[0]
        file = folder / "pairs.parquet"
        pq.write_table(pa.Table.from_pylist([row | changed], schema=PAIR_SCHEMA), file)
        return file

    def test_what_a_run_wrote_is_read_as_it_was(self, tmp_path: Path) -> None:
        pairs = pa.concat_tables([evaluation_pairs(VIDEOS, LADDER, 20, seed=0), teachers(20)])
        pq.write_table(pairs, tmp_path / "round-0.parquet")
        assert read_pairs(tmp_path / "round-0.parquet", LADDER).equals(pairs)

    @pytest.mark.parametrize(
        ("changed", "sentence"),
        [
            ({"levels": [float("nan")] * 5}, "no distribution"),
            ({"levels": [0.5, 0.5, 0.5, 0.0, 0.0]}, "no distribution"),
            ({"distortions_first": [{"name": "sepia", "level": 1}]}, "sepia at level 1"),
            ({"distortions_second": [{"name": "jitter", "level": 4}]}, "jitter at level 4"),
        ],
    )
    def test_what_cannot_be_trained_on_is_one_sentence(
        self, tmp_path: Path, changed: dict[str, object], sentence: str
    ) -> None:
        with pytest.raises(InputError, match=sentence):
            read_pairs(self.written(tmp_path, **changed), LADDER)


class TestConfidence:
    def test_unsure_pairs_are_not_drawn(self) -> None:
        pairs = teachers(min_confidence=0.6)
        assert min(max(levels) for levels in pairs["levels"].to_pylist()) >= 0.6

    def test_nothing_is_sure_enough(self) -> None:
        with pytest.raises(InputError, match=r"data\.labelling\.min_confidence"):
            teachers(9, consensus(spread=9.0), min_confidence=1.0)


def test_cuts_keep_the_balance_whatever_the_unit_of_the_spread() -> None:
    before = consensus()
    after = Consensus(before.video_ids, before.score * 3, before.variance * 0.01)
    cuts = cuts_for_balance(after, balance_of(before))
    again = balance_of(Consensus(after.video_ids, after.score, after.variance, cuts))
    assert again == pytest.approx(balance_of(before), abs=0.01)  # quantiles of 4096 random pairs


class TestSmoothing:
    def drawn(self, known: Consensus, smoothing: float) -> pa.Table:
        return teachers(50, known, smoothing=smoothing)

    def test_by_hand(self) -> None:
        # The scores' variance is 4, that of the difference 1 + 3: a doubt of one half.
        known = Consensus(("a", "b"), np.array([0.0, 4.0]), np.array([1.0, 3.0]))
        rows = [teachers(2, known, smoothing=smoothing).to_pylist() for smoothing in (0.0, 0.2)]
        for plain, smooth in zip(*rows, strict=True):
            assert smooth["levels"] == pytest.approx([0.9 * p + 0.1 / 5 for p in plain["levels"]], abs=1e-6)
            assert smooth["margin"] == plain["margin"]

    def test_the_more_annotators_disagree_the_smoother_the_label(self) -> None:
        generator = np.random.default_rng(0)
        known = Consensus(tuple(VIDEOS), generator.normal(size=40), generator.uniform(0.01, 2, size=40))
        plain, smooth = self.drawn(known, 0.0), self.drawn(known, 0.5)
        before, after = (np.array(table["levels"].to_pylist()) for table in (plain, smooth))
        position = {name: index for index, name in enumerate(VIDEOS)}
        first, second = ([position[name] for name in plain[side].to_pylist()] for side in ("first", "second"))
        spread = known.variance[first] + known.variance[second]
        weight = 1 - np.ptp(after, axis=1) / np.ptp(before, axis=1)
        assert (np.diff(weight[np.argsort(spread)]) > -1e-5).all()  # float32
        assert (before.argmax(axis=1) == after.argmax(axis=1)).all()
        assert np.allclose(after.sum(axis=1), 1, atol=1e-6)

    def test_the_unit_of_the_scores_does_not_matter(self) -> None:
        known = consensus()
        scaled = Consensus(known.video_ids, 10 * known.score + 50, 100 * known.variance)
        first, second = np.arange(20), np.arange(20, 40)
        assert known.doubt(first, second) == pytest.approx(scaled.doubt(first, second))

    def test_agreeing_annotators_are_believed(self) -> None:
        known = consensus(spread=0.0)
        assert self.drawn(known, 0.5).equals(self.drawn(known, 0.0))
