"""The label store under any interleaving of writers: every score once, in an order of its own."""

from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from datamodules.labels import LabelStore
from datamodules.labels.label_store import Annotation

NAMES = st.text(min_size=1, max_size=8)
SCORES = st.floats(allow_nan=False, allow_infinity=False)
ERRORS = st.one_of(st.just(float("nan")), st.floats(0, 1e300))
ROWS = st.builds(
    Annotation,
    st.sampled_from("abcdef"),
    st.none() | st.sampled_from(["jpeg-00000001", "circuits-00000002"]),
    st.integers(0, 3),
    SCORES,
    ERRORS,
    draw=st.integers(0, 2),
    segment=st.none() | st.integers(0, 2),
)
WRITES = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from(["niqe", "student"]), st.lists(ROWS, max_size=6), st.integers(0, 3)
    ),
    max_size=8,
)


def store_of(writes) -> LabelStore:
    store = LabelStore(f"memory://{uuid4().hex}")
    for round, name, rows, rank in writes:
        store.write(round, name, "ab", rows, rank=rank)
    return store


@given(WRITES, st.randoms(use_true_random=False))
def test_the_order_of_the_writers_does_not_show(writes, random) -> None:
    other = writes * 2  # a rank that was killed and writes again
    random.shuffle(other)
    assert store_of(writes).read().equals(store_of(other).read())


@given(WRITES)
def test_every_key_that_was_written_is_read_once(writes) -> None:
    store = store_of(writes)
    wanted = {
        (round, name, row.video_id, row.simulator, row.level, row.draw, row.segment)
        for round, name, rows, _ in writes
        for row in rows
    }
    columns = ["round", "annotator", "video_id", "simulator", "level", "draw", "segment"]
    read = [tuple(row[column] for column in columns) for row in store.read().to_pylist()]
    assert len(read) == len(set(read))
    assert set(read) == wanted
    for round in range(3):
        whole = {key[2:5] for key in wanted if key[0] == round and key[6] is None}
        assert store.have(round, "ab") == whole


VIDEOS = st.builds(lambda name, score, error: Annotation(name, None, 0, score, error), NAMES, SCORES, ERRORS)


@given(st.lists(VIDEOS, min_size=1, max_size=5))
def test_any_name_and_number_comes_back_to_the_bit(rows) -> None:
    store = LabelStore(f"memory://{uuid4().hex}")
    first = {row.video_id: row for row in reversed(rows)}
    store.write(0, "niqe", "ab", first.values())
    for row in store.read().to_pylist():
        written = first[row["video_id"]]
        assert row["score"] == written.score
        assert row["stderr"] == (None if written.stderr != written.stderr else written.stderr)
