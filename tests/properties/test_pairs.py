"""Pairs drawn from any corpus: the same for the same seed, balanced, of two videos, and within one split."""

from dataclasses import asdict

import numpy as np
import pyarrow as pa
from hypothesis import assume, given
from hypothesis import strategies as st

from datamodules.corpus.manifest import SPLITS
from datamodules.corpus.splits import assign_splits
from datamodules.corpus.table import SCHEMA, all_videos
from datamodules.errors import InputError
from datamodules.labels.consensus import Consensus
from datamodules.labels.labelling import Labelling
from datamodules.labels.levels import LEVELS
from datamodules.pairs.scored import balanced, teacher_pairs
from datamodules.pairs.synthetic import synthetic_pairs
from datamodules.video import Video

SEEDS = st.integers(0, 2**32)
COUNTS = st.integers(1, 200)


@st.composite
def consensuses(draw: st.DrawFn) -> Consensus:
    """Scores of 2 to 30 videos, some of which come again as other versions of one video."""
    n = draw(st.integers(2, 30))
    names = draw(st.lists(st.integers(0, n), min_size=n, max_size=n))
    assume(len(set(names)) > 1)
    numbers = st.floats(-1e3, 1e3)
    score = draw(st.lists(numbers, min_size=n, max_size=n))
    variance = draw(st.lists(st.floats(1e-6, 1e3), min_size=n, max_size=n))
    return Consensus(tuple(f"video-{name}" for name in names), np.array(score), np.array(variance))


@given(consensuses(), COUNTS, SEEDS)
def test_a_seed_draws_the_same_pairs_again(consensus, count, seed) -> None:
    tables = [teacher_pairs(np.random.default_rng(seed), consensus, count, 8, Labelling()) for _ in range(2)]
    assert tables[0].equals(tables[1])
    assert len(tables[0]) == count


@given(consensuses(), COUNTS, SEEDS)
def test_no_pair_is_of_one_video(consensus, count, seed) -> None:
    table = teacher_pairs(np.random.default_rng(seed), consensus, count, 8, Labelling())
    for pair in table.to_pylist():
        assert pair["first"] != pair["second"]
        assert abs(sum(pair["levels"]) - 1) < 1e-5


@given(consensuses(), COUNTS, SEEDS)
def test_the_levels_are_even_as_long_as_there_are_candidates(consensus, count, seed) -> None:
    first, second = balanced(np.random.default_rng(seed), consensus, count)
    video = np.unique(consensus.video_ids, return_inverse=True)[1]
    inner, outer = consensus.cuts
    edges = np.array([-outer, -inner, inner, outer])

    def per_level(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.bincount(np.searchsorted(edges, consensus.margin(one, other)), minlength=len(LEVELS))

    every = np.array([(a, b) for a in range(len(video)) for b in range(len(video)) if video[a] != video[b]]).T
    there, chosen = per_level(*every), per_level(first, second)
    if count <= every.shape[1]:
        # A level that was not used up has as many pairs as any other, but for the last turn.
        left = chosen < there
        assert not left.any() or chosen.max() - chosen[left].min() <= 1


LADDERS = st.dictionaries(st.sampled_from(["jpeg", "blur", "noise", "drop"]), st.integers(1, 12), min_size=1)


@given(st.integers(1, 20), COUNTS, LADDERS, SEEDS)
def test_severities_of_synthetic_pairs_are_in_range_and_simulators_even(videos, count, ladder, seed) -> None:
    names = [f"video-{number}" for number in range(videos)]
    tables = [synthetic_pairs(np.random.default_rng(seed), names, count, ladder, draws=4) for _ in range(2)]
    assert tables[0].equals(tables[1])
    kinds = []
    for pair in tables[0].to_pylist():
        assert pair["first"] == pair["second"]
        sides = pair["distortions_first"], pair["distortions_second"]
        (name,) = {step["name"] for side in sides for step in side}
        first, second = (side[-1]["level"] if side else 0 for side in sides)  # none: the source
        assert first != second
        assert min(first, second) >= 0
        assert max(first, second) <= ladder[name]
        assert (np.argmax(pair["levels"]) > 2) == (second < first)
        kinds.append(name)
    shares = [kinds.count(name) for name in ladder]
    assert max(shares) - min(shares) <= 1


@st.composite
def corpora(draw: st.DrawFn) -> pa.Table:
    """Corpora of 3 to 40 videos, some unreadable, some of one content, some with a split of their own."""
    rows = []
    for number in range(draw(st.integers(3, 40))):
        content = f"content-{draw(st.integers(0, 20))}"
        status = draw(st.sampled_from(["ok", "ok", "ok", "error"]))
        split = draw(st.sampled_from(["", "", "", "", *SPLITS]))
        rows.append(Video(f"{number}", f"{number}.mp4", content=content, split=split, status=status))
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA)


@given(corpora(), st.integers(0, 2**16), st.tuples(*[st.floats(0.01, 10)] * 3))
def test_no_content_stands_in_two_splits(corpus: pa.Table, seed: int, shares) -> None:
    try:
        divided = assign_splits(corpus, shares, seed)
    except InputError:
        assume(False)
    assert divided.equals(assign_splits(corpus, shares, seed))
    places: dict[str, set[str]] = {}
    for before, video in zip(all_videos(corpus), all_videos(divided), strict=True):
        if video.status != "ok":
            assert video.split == ""
            continue
        assert before.split in ("", video.split)  # what a manifest says stays
        places.setdefault(video.content, set()).add(video.split)
    assert all(len(splits) == 1 for splits in places.values())
    assert set.union(*places.values()) == set(SPLITS)
