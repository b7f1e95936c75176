"""Score files in every format predict writes, joined to lists by name."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.errors import InputError
from datamodules.opinions import read_predictions
from datamodules.opinions.predictions import join

ROWS = [
    {"path": "/a/one.mp4", "score": 40.0, "stderr": 1.0, "status": "ok", "error": "", "model": "M-1"},
    {
        "path": "/a/two.mp4",
        "score": None,
        "stderr": None,
        "status": "error",
        "error": "Broken.",
        "model": "M-1",
    },
    {"path": "/a/three.mp4", "score": 60.0, "stderr": 2.0, "status": "ok", "error": "", "model": "M-1"},
]


def write(folder: Path, suffix: str) -> Path:
    path = folder / f"scores{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        lines = [",".join("" if value is None else str(value) for value in row.values()) for row in ROWS]
        path.write_text("\n".join([",".join(ROWS[0]), *lines]) + "\n")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_predict_output(suffix: str, tmp_path: Path) -> None:
    found = read_predictions(write(tmp_path, suffix))
    assert found.names == ["/a/one.mp4", "/a/three.mp4"]
    assert found.scores.tolist() == [40, 60]
    assert (found.model, found.failed) == ("M-1", 1)
    assert read_predictions(found.path, higher_is_better=False).scores.tolist() == [-40, -60]


def test_join_by_name(tmp_path: Path) -> None:
    found = read_predictions(write(tmp_path, ".csv"))
    assert join(found, ["three", "absent", "one.mp4"], tmp_path / "list.txt") == {0: 60, 2: 40}
    with pytest.raises(InputError, match=r"Not one video .* \(/a/one.mp4, ...\).* \(four, ...\)"):
        join(found, ["four"], tmp_path / "list.txt")


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_predictions(tmp_path / "absent.jsonl")
    path = tmp_path / "scores.csv"
    for text, sentence in (
        ("path,quality\na.mp4,1\n", "got the columns path, quality: rename the columns"),
        ("path,score,status\na.mp4,,error\n", "must have a video with a score"),
        ("path,score,model\na.mp4,1,A\nb.mp4,1,B\n", "from one model; got 2 models, among them A and B"),
        ("path,score\na.mp4,good\n", "'good'"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=sentence):
            read_predictions(path)
