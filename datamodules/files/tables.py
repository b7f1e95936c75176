"""Arrow tables in files, column by column: a million rows need no Python object each.

A cell of CSV stays the text that it is, since only the caller knows which columns are numbers.
"""

import csv
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from datamodules.errors import InputError
from datamodules.files.whole_files import hidden_beside

BATCH = 1 << 16
"""Rows that are Python objects at a time while CSV is written."""

_PLACED = r"^(/|[A-Za-z][A-Za-z0-9+.-]*://)"
"""A path that means the same from any folder: an absolute path or a URL."""


def read_table(file: Path) -> pa.Table:
    """Read a file of CSV, JSON lines or, by any other suffix, Parquet; a folder is one of Parquet parts.

    Returns:
        All columns. Those of CSV are text, null where a cell is empty.

    Raises:
        InputError: the file cannot be read, or names a column twice.
    """
    try:
        if file.suffix.lower() == ".csv":
            table = _read_csv(file)
        elif file.suffix.lower() == ".jsonl":
            table = pa.json.read_json(file)
        else:
            table = pa.parquet.read_table(file)
    except FileNotFoundError as error:
        raise InputError(f"{file} does not exist: name another file.") from error
    except (OSError, ValueError, csv.Error) as error:  # ValueError: Arrow's and a decoder's are of this kind
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0].rstrip(".:")
        raise InputError(f"{file} cannot be read ({reason}): name another file, or mend it.") from error
    if len(set(table.column_names)) < table.num_columns:
        raise InputError(f"{file} must name each column once; got {', '.join(table.column_names)}.")
    return table


def _read_csv(file: Path) -> pa.Table:
    with file.open(newline="", encoding="utf-8-sig") as stream:
        names = next(csv.reader(stream), [])
    if not names:
        raise ValueError("it is empty")
    return pa.csv.read_csv(
        file,
        # A name may hold a line break.
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
        ),
    )


def write_table(file: Path, table: pa.Table) -> None:
    """Write a table as Parquet or, by the suffix .csv, as CSV, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    hidden = hidden_beside(file)
    try:
        if file.suffix.lower() == ".csv":
            # Arrow's own writer puts every text in quotes; lines shall be those that predict writes.
            with hidden.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                writer.writerow(table.column_names)
                for batch in table.to_batches(max_chunksize=BATCH):
                    writer.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))
        else:
            pa.parquet.write_table(table, hidden)
        os.replace(hidden, file)
    except OSError as error:
        raise InputError(f"{file} cannot be written ({error.strerror}); name another place.") from error
    finally:
        hidden.unlink(missing_ok=True)


def moved_paths(paths: pa.ChunkedArray, folder: str) -> pa.ChunkedArray:
    """Return paths as they are seen from elsewhere.

    Args:
        paths: of files; an absolute path or a URL stays what it is.
        folder: that relative paths begin in.

    Example:
        >>> moved_paths(pa.chunked_array([["a.mp4", "/b.mp4", "s3://c/d.mp4"]]), "videos").to_pylist()
        ['videos/a.mp4', '/b.mp4', 's3://c/d.mp4']
    """
    placed = pc.match_substring_regex(paths, _PLACED)
    return pc.if_else(placed, paths, pc.binary_join_element_wise(folder, paths, "/"))


def absolute_paths(paths: pa.ChunkedArray, folder: Path) -> pa.ChunkedArray:
    """Return one text for each file, however its path was written; symbolic links are not followed.

    Args:
        paths: of files.
        folder: that relative paths begin in.

    Example:
        >>> paths = pa.chunked_array([["a/./b.mp4", "a//c/../b.mp4", "/videos/a/b.mp4"]])
        >>> set(absolute_paths(paths, Path("/videos")).to_pylist())
        {'/videos/a/b.mp4'}
    """
    found = moved_paths(paths, os.path.abspath(folder))
    for pattern, shorter in ((r"([^:])//+", r"\1/"), (r"/(\./)+", "/")):
        found = pc.replace_substring_regex(found, pattern, shorter)
    while pc.any(pc.match_substring_regex(found, up := r"/[^/]+/\.\./")).as_py():
        found = pc.replace_substring_regex(found, up, "/")
    return found
