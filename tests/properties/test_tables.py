"""Any name and any number come back from the files that hold them: CSV, JSON lines, Parquet, and a folder."""

import csv
import math
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from callbacks.scores.rows import SUFFIXES, read_rows, write_rows
from datamodules.files import numbers, read_table, write_table
from datamodules.names import file_of, name_of, written_name

FILES = st.binary(min_size=1, max_size=40).filter(lambda name: not {0, ord("/")} & set(name))
"""Names as the system has them."""

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NUMBERS = st.floats()  # NaN, infinities, -0.0 and subnormal numbers among them


def same(ours: float, theirs: float) -> bool:
    return (math.isnan(ours) and math.isnan(theirs)) or (
        ours == theirs and math.copysign(1, ours) == math.copysign(1, theirs)
    )


@given(FILES)
@example(b"=1+1.mp4")
@example(b"caf\xe9\n\"'.mp4")
@example(rb"\xe9\x5c.mp4")
def test_a_name_is_one_line_of_text_and_finds_its_file(raw: bytes) -> None:
    name = name_of(os.fsdecode(raw))
    assert os.fsencode(file_of(name)) == os.fsencode(Path(os.fsdecode(raw)))
    assert len((name + ".").splitlines()) == 1
    assert name.encode()
    assert written_name(name) == name


@given(st.lists(st.tuples(FILES, NUMBERS), min_size=1, max_size=8), st.sampled_from([".csv", ".parquet"]))
def test_tables_hold_any_name_and_number(rows: list[tuple[bytes, float]], suffix: str) -> None:
    names = [name_of(os.fsdecode(raw)) for raw, _ in rows]
    with TemporaryDirectory() as folder:
        file = Path(folder, f"table{suffix}")
        write_table(file, pa.table({"path": names, "score": pa.array([score for _, score in rows])}))
        found = read_table(file)
        scores = numbers(found, "score", file).to_pylist()
    assert found["path"].to_pylist() == names
    assert all(same(ours, theirs) for (_, ours), theirs in zip(rows, scores, strict=True))


@given(st.lists(TEXTS.filter(bool), min_size=1, max_size=8))
def test_csv_of_others_keeps_any_text(texts: list[str]) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder, "list.csv")
        with file.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([["path", "n"], *([text, "1"] for text in texts)])
        assert read_table(file)["path"].to_pylist() == texts


@given(st.lists(st.tuples(FILES, st.none() | NUMBERS), min_size=1, max_size=8), st.sampled_from(SUFFIXES))
@example([(b"2020-01-01", 1.0), (b"nan", math.nan), (b" a ", None), (b"=1", math.inf)], ".jsonl")
def test_files_of_scores_hold_any_name_and_number(
    rows: list[tuple[bytes, float | None]], suffix: str
) -> None:
    schema = pa.schema({"path": pa.string(), "score": pa.float64()})
    written = [{"path": name_of(os.fsdecode(raw)), "score": score} for raw, score in rows]
    with TemporaryDirectory() as folder:
        file = Path(folder, f"scores{suffix}")
        write_rows(file, written, schema)
        found = read_rows(file, schema)
    assert [row["path"] for row in found] == [row["path"] for row in written]
    for (_, ours), row in zip(rows, found, strict=True):
        theirs = row["score"]
        assert theirs is None if ours is None else same(ours, theirs)
