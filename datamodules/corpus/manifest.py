"""Manifests: lists of videos with what a person says of them, read with a schema at the edge."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from datamodules.errors import InputError
from datamodules.files import read_table, read_text, texts
from datamodules.names import name_of

MANIFESTS = (".csv", ".parquet", ".jsonl", ".json", ".txt")
"""Suffixes of manifests."""

SPLITS = ("train", "select", "report")


def read_manifest(path: Path) -> pa.Table:
    """Read a manifest with all its columns; `path`, `content` and `split` are text without nulls.

    Args:
        path: .csv, .jsonl, .json (a list of objects), .parquet, or .txt with a path a line.

    Raises:
        InputError: it cannot be read, has no column `path`, no rows, or a row without a path.
    """
    if path.suffix.lower() == ".txt":
        lines = (line.removesuffix("\r") for line in read_text(path).split("\n"))
        table = pa.table({"path": pa.array([line for line in lines if line.strip()], pa.string())})
    else:
        table = read_table(path)
    if "path" not in table.column_names:
        raise InputError(
            f"The manifest {name_of(path)} must have a column path; got "
            f"{', '.join(table.column_names) or 'none'}."
        )
    if not table.num_rows:
        raise InputError(f"The manifest {name_of(path)} must have a row for each video; got no rows.")
    for name in ("path", "content", "split"):
        if name in table.column_names:
            column = pc.fill_null(texts(table, name, path), "")
            table = table.set_column(table.column_names.index(name), name, column)
    blank = pc.equal(pc.utf8_trim_whitespace(table["path"]), "")
    if pc.any(blank).as_py():
        raise InputError(
            f"The manifest {name_of(path)} must have a path in each row; got none in row "
            f"{pc.index(blank, True).as_py() + 1}."
        )
    return table
