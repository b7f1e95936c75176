"""The cache of rows about files: kept through an interruption, gone with a change, never half written."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from datamodules.errors import UnreadableVideo
from datamodules.files import FileCache

SCHEMA = pa.schema([("letters", pa.int64())])


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{index}.txt" for index in range(6)]
    for index, path in enumerate(paths):
        path.write_text("x" * index)
    return paths


def letters(path: Path) -> dict[str, Any]:
    return {"letters": len(path.read_text())}


def refuse(path: Path) -> dict[str, Any]:
    raise AssertionError(f"{path} is computed again")


def test_rows_are_kept_and_follow_the_files(files: list[Path], tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "rows.parquet", SCHEMA, 1)
    rows = cache.rows(files, letters, workers=2, progress=False)
    assert list(rows.values()) == [{"letters": index} for index in range(6)]
    assert cache.rows(files[::-1], refuse, progress=False) == rows
    files[2].write_text("changed")
    os.utime(files[2], ns=(0, 1))
    assert cache.rows([files[2]], letters, progress=False) == {files[2]: {"letters": 7}}
    newer = FileCache(cache.store, SCHEMA, 2)
    assert newer.rows(files[:1], lambda path: {"letters": -1}, progress=False) == {files[0]: {"letters": -1}}


def test_an_interruption_keeps_what_was_done(files: list[Path], tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "rows.parquet", SCHEMA, 1)

    def interrupted(path: Path) -> dict[str, Any]:
        if path == files[3]:
            raise KeyboardInterrupt
        return letters(path)

    with pytest.raises(KeyboardInterrupt):
        cache.rows(files, interrupted, workers=1, progress=False)
    assert len(cache.rows(files[:3], refuse, progress=False)) == 3


def test_what_cannot_be_read_is_tried_again(files: list[Path], tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "rows.parquet", SCHEMA, 1)

    def fails(path: Path) -> dict[str, Any]:
        raise UnreadableVideo(f"{path} is broken.")

    assert isinstance(cache.rows(files[:1], fails, progress=False)[files[0]], UnreadableVideo)
    assert cache.rows(files[:1], letters, progress=False) == {files[0]: {"letters": 0}}
    gone = tmp_path / "gone.txt"
    cache.rows([gone], lambda path: {"letters": 0}, progress=False)
    gone.write_text("here now")
    assert cache.rows([gone], letters, progress=False) == {gone: {"letters": 8}}
