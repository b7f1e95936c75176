"""Tables in files: what is written is read again, and a path is one text however it is written."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from datamodules.errors import InputError
from datamodules.files import absolute_paths, moved_paths, numbers, read_table, tables, texts, write_table

ODD = ['a "b", <i>\n.mp4', "ü, 'c'.mp4", "007", "", " d"]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_texts_are_read_as_they_were_written(tmp_path: Path, name: str) -> None:
    table = pa.table({"path": ODD, "nan": ["nan", "NA", "null", "1e3", "x"]})
    write_table(tmp_path / name, table)
    found = read_table(tmp_path / name).to_pydict()
    empty = None if name == "t.csv" else ""
    assert found == {"path": [path or empty for path in ODD], "nan": table["nan"].to_pylist()}
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_folder_of_parts_is_one_table(tmp_path: Path) -> None:
    for part in "ab":
        write_table(tmp_path / f"part-{part}.parquet", pa.table({"path": [part]}))
    assert read_table(tmp_path)["path"].to_pylist() == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", b""),
        ("a.csv", b"path,score\na\n"),
        ("a.csv", b"path,path\na,b\n"),
        ("a.csv", "path\na\n".encode("utf-16")),
        ("a.csv", b"path,n\na,1\nb\n"),
        ("a.jsonl", b"{"),
        ("a.jsonl", b"null"),  # Arrow's reader ends the process
        ("a.jsonl", b' null, "path": "a.mp4"}\n{"path": "b.mp4"}'),
        ("a.json", b"["),
        ("a.json", b"[" * 100_000),
        ("a.json", b"3"),
        ("a.parquet", b"path\n"),
        ("b.csv", None),
    ],
)
def test_what_is_no_table_is_one_sentence(tmp_path: Path, name: str, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=name) as told:
        read_table(tmp_path / name)
    assert "\n" not in str(told.value)


def test_text_columns_of_parquet_that_hold_other_bytes_are_one_sentence(tmp_path: Path) -> None:
    offsets, data = pa.array([0, 1, 2], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff")
    damaged = pa.StringArray.from_buffers(2, offsets, data)
    pa.parquet.write_table(pa.table({"path": damaged}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet cannot be read .*UTF8"):
        read_table(tmp_path / "a.parquet")


def test_bytes_that_are_no_text_in_a_column_of_bytes_are_one_sentence(tmp_path: Path) -> None:
    table = pa.table({"path": pa.array([b"a.mp4", b"\0"])})
    with pytest.raises(InputError, match=r"column path of a\.parquet must hold text; got other bytes"):
        texts(table, "path", Path("a.parquet"))


def test_lines_of_json_may_lack_a_column_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BATCH", 2)
    lines = [
        '{"path": "a", "date": "2026-01-02"}',
        '{"path": "b"}',
        '{"path": "c", "score": 1}',
        '{"score": 2.5}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = read_table(tmp_path / "a.jsonl").to_pydict()
    assert found == {
        "path": ["a", "b", "c", None],
        "date": ["2026-01-02", None, None, None],
        "score": [None, None, 1.0, 2.5],
    }
    (tmp_path / "b.jsonl").write_text("\n".join([*lines, '{"path": "e"}', '{"path": 7}']))
    with pytest.raises(InputError, match="column path is of another kind in row 6, 7"):
        read_table(tmp_path / "b.jsonl")


def test_bytes_that_are_no_text_are_read_as_names_write_them(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"\xe9.csv")
    file.write_bytes(b"\xef\xbb\xbf path ,,\ncaf\xe9,,\n")
    assert read_table(file).to_pydict() == {"path": [r"caf\xe9"]}
    write_table(file.with_suffix(".parquet"), read_table(file))
    assert read_table(file.with_suffix(".parquet")).to_pydict() == {"path": [r"caf\xe9"]}


def test_a_cell_that_is_no_number_is_named(tmp_path: Path) -> None:
    table = pa.table({"score": ["1e3", None, "nan", "3 dB"], "truth": [True, None, None, None]})
    assert numbers(table.slice(0, 2), "score", tmp_path).to_pylist() == [1000, None]
    with pytest.raises(InputError, match=r"column score of .* must hold numbers; got '3 dB' in row 4"):
        numbers(table, "score", tmp_path)
    with pytest.raises(InputError, match="got True in row 1"):
        numbers(table, "truth", tmp_path)


def test_a_place_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_table(tmp_path / "t.csv", pa.table({"path": ["a"]}))
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]


def test_paths_seen_from_elsewhere_are_the_same_files(tmp_path: Path) -> None:
    paths = pa.chunked_array([["a/b.mp4", "../c.mp4", "./d//e.mp4", "/f.mp4", "s3://g//h.mp4"]])
    moved = moved_paths(paths, "../here")
    assert absolute_paths(moved, tmp_path / "there").equals(absolute_paths(paths, tmp_path / "here"))
    assert moved.to_pylist()[3:] == ["/f.mp4", "s3://g//h.mp4"]
    found = absolute_paths(pa.chunked_array([["x/../../y/./../z.mp4", "../z.mp4"]]), tmp_path)
    assert set(found.to_pylist()) == {str(tmp_path.parent / "z.mp4")}
