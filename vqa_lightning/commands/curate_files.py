"""Where a curation's rows come from and go to: files of scores and manifests, local or behind a URL."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from fsspec.implementations.local import LocalFileSystem

from callbacks.scores.rows import checked_output
from datamodules.corpus.places import local_input, object_written_whole, open_place
from datamodules.errors import InputError, reason
from datamodules.files import absolute_paths, hidden_beside, moved_paths, read_table, texts, write_table
from datamodules.names import is_url, name_of


def same_place(place: str, setting: str) -> str:
    """Return one text for each place, however it was written.

    Args:
        place: path or URL.
        setting: that named it, for the message.

    Raises:
        InputError: the scheme of a URL is unknown, or its package is not installed.
    """
    if is_url(place):
        files, path = open_place(place, setting)
        if not isinstance(files, LocalFileSystem):
            return str(files.unstrip_protocol(path))
        place = path
    return str(Path(place).resolve())


def check_place(output: str) -> None:
    """Refuse an output now and not after hours.

    Raises:
        InputError: its scheme is unknown, or nothing can be written there.
    """
    if not is_url(output):
        checked_output(output)
        return
    with _writing(output) as (files, path):
        hidden = f"{path.rpartition('/')[0]}/{hidden_beside(Path(output)).name}"
        files.pipe_file(hidden, b"")
        files.rm(hidden)


def beside(output: str, word: str, *, suffix: bool = True) -> str:
    """Return a place beside an output, by the output's name and a word.

    Example:
        >>> beside("s3://bucket/kept.csv", "dropped"), beside("kept.csv", "hashes", suffix=False)
        ('s3://bucket/kept.dropped.csv', 'kept.hashes')
    """
    stem, dot, ending = output.rpartition(".")
    return f"{stem}.{word}{dot}{ending}" if suffix else f"{stem}.{word}"


def read_rows(place: str, setting: str) -> pa.Table:
    """Read a table whose paths are texts, none of them missing, and each once.

    Args:
        place: a file that `read_table` reads, or a folder of Parquet parts.
        setting: that named the place, for the message.

    Raises:
        InputError: it cannot be read, or its paths are not such.
    """
    with local_input(place, setting) as file:
        table = read_table(file)
    if "path" not in table.column_names:
        raise InputError(f"{place} must have a column path; got {', '.join(table.column_names)}.")
    if not len(table):
        raise InputError(f"{place} has no row: there is nothing to choose from.")
    table = replaced(table, "path", texts(table, "path", place))
    paths = table["path"]
    blank = pc.equal(pc.fill_null(paths, ""), "")
    if missing := int(pc.sum(blank).as_py()):
        raise InputError(
            f"{name_of(place)} must have a path in each row; got none in {missing} of {len(table)} rows, the "
            f"first being row {pc.index(blank, True).as_py() + 1}."
        )
    counts = pc.value_counts(absolute_paths(paths, Path()))
    if len(counts) < len(table):
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"]
        raise InputError(f"{place} must have each path once; got {twice} more than once.")
    return table


def joined(table: pa.Table, manifest: pa.Table, place: str) -> pa.Table:
    """Return a table with the columns of a manifest that it does not have, null in rows of other paths.

    Raises:
        InputError: the manifest has none of the paths.
    """
    names = manifest["path"]
    names = moved_paths(names, place.rstrip("/").rpartition("/")[0]) if is_url(place) else names
    known = absolute_paths(names, Path(place).parent).combine_chunks()
    places = pc.index_in(absolute_paths(table["path"], Path()), value_set=known)
    if places.null_count == len(table):
        raise InputError(
            f"--manifest {place} has none of the files that were scored, such as {table['path'][0]}: its "
            "relative paths begin in its own folder."
        )
    for name in manifest.column_names:
        if name not in table.column_names:
            table = table.append_column(name, manifest[name].take(places))
    return table


def replaced(table: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    """Return a table with another column under a name that it has."""
    return table.set_column(table.column_names.index(name), name, column)


def write_rows(place: str, table: pa.Table) -> None:
    """Write a table whole or not at all, with paths as they are seen from its folder.

    Raises:
        InputError: it cannot be written.
    """
    if not is_url(place):
        write_table(Path(place), _moved(table, Path(place).parent))
        return
    with TemporaryDirectory() as folder, _writing(place) as (files, path):
        whole = Path(folder, PurePosixPath(place).name)
        write_table(whole, replaced(table, "path", moved_paths(table["path"], name_of(os.path.abspath(".")))))
        with object_written_whole(files, path) as hidden:
            files.put_file(str(whole), hidden)


@contextmanager
def _writing(place: str) -> Iterator[tuple[Any, str]]:
    """Give the file system of a URL and the path in it.

    Raises:
        InputError: the URL cannot be opened, or what was done there failed.
    """
    files, path = open_place(place, "--output")
    try:
        yield files, path
    except InputError:
        raise
    except Exception as error:  # whatever the store's own client raises
        raise InputError(
            f"--output {place} cannot be written ({reason(error)}): name a place that can be."
        ) from error


def _moved(table: pa.Table, folder: Path) -> pa.Table:
    """Return a table whose paths are seen from a folder."""
    here, there = (name_of(os.path.realpath(place)) for place in (".", folder))
    if here == there:
        return table
    return replaced(table, "path", moved_paths(table["path"], os.path.relpath(here, there)))
