import numpy as np
import pyarrow as pa
import pytest
import torch

from datamodules.labels import LEVELS, Consensus, Labelling, hard_levels
from datamodules.pairs import PAIR_SCHEMA
from datamodules.pairs.drawing import shuffled
from datamodules.pairs.relabelling import flipped, level_flow, relabelled
from datamodules.pairs.scored import teacher_pairs
from datamodules.pairs.synthetic import synthetic_pairs
from datamodules.pairs.table import PLACES

LADDER = {"gaussian_blur": 5, "jitter": 3}
VIDEOS = [f"v{i:02d}" for i in range(40)]


def consensus(seed: int = 0, spread: float = 0.2) -> Consensus:
    generator = np.random.default_rng(seed)
    return Consensus(tuple(VIDEOS), generator.normal(size=40), np.full(40, spread))


def drawn(known: Consensus, synthetic: int = 10, teacher: int = 100, smoothing: float = 0.0) -> pa.Table:
    generator = np.random.default_rng([0, 0])
    known_order = synthetic_pairs(generator, VIDEOS, synthetic, LADDER, 8)
    if not teacher:
        return known_order
    scored = teacher_pairs(generator, known, teacher, 8, Labelling(smoothing=smoothing))
    return shuffled([known_order, scored], generator)


class TestRelabelled:
    def test_by_its_own_annotators_nothing_changes(self) -> None:
        pairs = drawn(consensus(), smoothing=0.2)
        assert relabelled(pairs, consensus(), Labelling(smoothing=0.2)).equals(pairs)

    def test_real_pairs_get_the_labels_that_the_new_annotators_would_have_drawn_them_with(self) -> None:
        pairs, new = drawn(consensus()), consensus(1)
        place = {name: index for index, name in enumerate(VIDEOS)}
        after = relabelled(pairs, new, Labelling())
        assert after.schema == PAIR_SCHEMA
        changed = ["margin", *PLACES, "levels"]
        assert after.drop_columns(changed).equals(pairs.drop_columns(changed))
        for before, row in zip(pairs.to_pylist(), after.to_pylist(), strict=True):
            if row["source"] == "synthetic":
                assert row == before
            else:
                sides = (np.array([place[row[side]]]) for side in ("first", "second"))
                assert row["margin"] == pytest.approx(float(new.margin(*sides)[0]), rel=1e-6)
                assert sum(row["levels"]) == pytest.approx(1, abs=1e-6)

    def test_pairs_of_a_video_that_nobody_knows_any_more_are_dropped(self) -> None:
        pairs = drawn(consensus())
        after = relabelled(pairs, consensus().restrict(VIDEOS[1:]), Labelling()).to_pylist()
        kept = [
            row
            for row in pairs.to_pylist()
            if row["source"] == "synthetic" or VIDEOS[0] not in (row["first"], row["second"])
        ]
        assert len(kept) < len(pairs)
        assert [(row["first"], row["second"]) for row in after] == [
            (row["first"], row["second"]) for row in kept
        ]

    def test_pairs_of_which_the_new_annotators_are_not_sure_enough_are_dropped(self) -> None:
        pairs, new = drawn(consensus()), consensus(1)
        every = relabelled(pairs, new, Labelling(smoothing=0.2)).to_pylist()
        # Sure apart from the smoothing, which must not drop what was drawn.
        sure = [max(row["levels"]) >= 0.7 for row in relabelled(pairs, new, Labelling()).to_pylist()]
        kept = [row for row, there in zip(every, sure, strict=True) if there or row["source"] == "synthetic"]
        assert len(kept) < len(every)
        assert relabelled(pairs, new, Labelling(smoothing=0.2, min_confidence=0.7)).to_pylist() == kept

    def test_a_table_without_pairs_to_label_stays_as_it_is(self) -> None:
        for pairs in (drawn(consensus(), teacher=0), PAIR_SCHEMA.empty_table()):
            assert relabelled(pairs, consensus(1), Labelling()).equals(pairs)


class TestFlow:
    def test_nothing_moves_under_the_same_consensus(self) -> None:
        pairs = drawn(consensus())
        levels = np.array([row["levels"] for row in pairs.to_pylist() if row["source"] == "teacher"])
        assert (
            level_flow(pairs, consensus(), Labelling()).tolist()
            == np.diag(np.bincount(levels.argmax(1))).tolist()
        )
        assert flipped(pairs, consensus(), Labelling()) == 0

    def test_under_the_opposite_consensus_every_level_moves_to_its_opposite(self) -> None:
        known = consensus(spread=0.01)
        pairs = drawn(known)
        opposite = Consensus(known.video_ids, -known.score, known.variance)
        flow = level_flow(pairs, opposite, Labelling())
        assert flow[:, ::-1].trace() == flow.sum() == 100
        similar = hard_levels(torch.tensor(pairs["levels"].to_pylist())) == LEVELS.index("similar")
        assert flipped(pairs, opposite, Labelling()) == pytest.approx(
            1 - float(similar.sum()) / 100, abs=1e-6
        )

    def test_a_row_is_the_level_before(self) -> None:
        known = Consensus(("a", "b"), np.array([0.0, 9.0]), np.ones(2))
        pairs = teacher_pairs(np.random.default_rng(0), known, 2, 8, Labelling())
        flow = level_flow(pairs, Consensus(("a", "b"), np.zeros(2), np.ones(2)), Labelling())
        assert [(LEVELS[row], LEVELS[column]) for row, column in zip(*flow.nonzero(), strict=True)] == [
            ("inferior", "similar"),
            ("superior", "similar"),
        ]

    def test_without_pairs_of_known_videos_nothing_can_flip(self) -> None:
        assert np.isnan(flipped(drawn(consensus(), teacher=0), consensus(), Labelling()))
        assert np.isnan(flipped(drawn(consensus()), consensus().restrict([]), Labelling()))
