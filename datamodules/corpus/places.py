"""Where videos lie: in local files, or as objects behind any URL that fsspec knows.

FFmpeg seeks in a file, so an object is copied to a temporary file for as long as it is read.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import has_magic
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any

import fsspec

from datamodules.corpus.listing import HIDDEN, LeftOut, is_video, list_entries
from datamodules.corpus.manifest import MANIFESTS, read_manifest
from datamodules.errors import InputError, UnreadableVideo, reason
from datamodules.files import hidden_beside
from datamodules.names import file_of, is_url, name_of


def open_place(place: str, setting: str) -> tuple[Any, str]:
    """Return the file system of a URL or of a local path, and the path in it.

    Args:
        place: URL or path.
        setting: that named the place, for the message.

    Raises:
        InputError: the scheme is unknown, or its package is not installed.
    """
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(place)
    except (ValueError, ImportError) as error:
        raise InputError(f"{setting} {place} cannot be opened ({reason(error)}).") from error
    return found


@contextmanager
def object_written_whole(files: Any, path: str) -> Iterator[str]:
    """Give a hidden path to write an object under; it becomes the object if nothing is raised, else it goes.

    Args:
        files: a file system of fsspec.
        path: of the object in it.

    Example:
        >>> files = fsspec.filesystem("memory")
        >>> with object_written_whole(files, "/whole/a.csv") as hidden:
        ...     files.pipe_file(hidden, b"path")
        >>> files.find("/whole")
        ['/whole/a.csv']
    """
    folder, _, name = path.rpartition("/")
    hidden = f"{folder}/{hidden_beside(Path(name))}"
    try:
        yield hidden
        files.mv(hidden, path)
    except BaseException:
        with suppress(Exception):  # what went wrong first is what matters
            files.rm(hidden)
        raise


def list_paths(videos: str) -> list[str]:
    """Return the paths or URLs of the videos that a folder, file, glob or manifest names, none of them read.

    Args:
        videos: as `build_corpus` takes it, or the same as a URL. A manifest may name URLs.

    Raises:
        InputError: `videos` names nothing, or the manifest is none.
    """
    return _list_url(videos) if is_url(videos) else [entry.name for entry in list_entries(videos)]


def _list_url(videos: str) -> list[str]:
    if PurePosixPath(videos).suffix.lower() in MANIFESTS:
        folder = videos.rpartition("/")[0]
        with local_input(videos, "The manifest") as manifest:
            names = read_manifest(manifest)["path"].to_pylist()
        return [name if is_url(name) else f"{folder}/{name}" for name in names]
    files, root = open_place(videos, "--data.videos")
    left_out = LeftOut()
    try:
        if has_magic(root):
            found = files.glob(root)
        elif files.isfile(root):
            found = [root]
        else:
            found = _videos(files.find(root), root, left_out)
    except Exception as error:  # whatever the store's own client raises
        raise InputError(f"--data.videos {videos} cannot be listed ({reason(error)}).") from error
    if not found:
        raise InputError(f"--data.videos {videos} names no video; check the URL and the rights to list it.")
    left_out.tell(videos)
    return [files.unstrip_protocol(path) for path in sorted(found)]


def _videos(paths: Iterable[str], root: str, left_out: LeftOut) -> list[str]:
    found = []
    for path in paths:
        inside = PurePosixPath(path[len(root) :])
        if any(part.startswith(".") for part in inside.parts):
            left_out.add(HIDDEN, inside.name)
        elif is_video(inside.name):
            found.append(path)
        else:
            left_out.add_file(inside)
    return found


@contextmanager
def local_copy(place: str) -> Iterator[Path]:
    """Give a local file with the content of a path or URL; the copy of an object is deleted afterwards.

    Raises:
        UnreadableVideo: the object cannot be fetched.

    Example:
        >>> fsspec.filesystem("memory").pipe_file("/a.mp4", b"frames")
        >>> with local_copy("memory://a.mp4") as file:
        ...     file.suffix, file.read_bytes()
        ('.mp4', b'frames')
        >>> file.exists()
        False
    """
    if not is_url(place):
        yield file_of(place)
        return
    with NamedTemporaryFile(suffix=PurePosixPath(place).suffix) as copy:
        try:
            files, path = open_place(place, "The video")
            files.get_file(path, copy.name)
        except FileNotFoundError as error:
            raise UnreadableVideo(f"{place} is missing.") from error
        except Exception as error:  # whatever the store's own client raises
            raise UnreadableVideo(f"{place} cannot be fetched ({reason(error)}).") from error
        yield Path(copy.name)


def _fetch(files: Any, path: str, copy: Path) -> None:
    """Copy an object, or all objects below a path; no character of a name is a pattern.

    Raises:
        FileNotFoundError: there is nothing.
    """
    if files.isfile(path):
        files.get_file(path, str(copy))
        return
    found = files.find(path)
    if not found:
        raise FileNotFoundError(path)
    places = [copy / PurePosixPath(name).relative_to(path) for name in found]
    for folder in {place.parent for place in places}:
        folder.mkdir(parents=True, exist_ok=True)
    files.get(found, list(map(str, places)))  # two lists: names are taken as they are


@contextmanager
def local_input(place: str, setting: str) -> Iterator[Path]:
    """Give a local file or folder with the content of a path or URL; copies are deleted afterwards.

    Args:
        place: of a table; of a folder, all files are copied.
        setting: that named the place, for the message.

    Raises:
        InputError: the object cannot be fetched, or what was done with it raised that; it names the place.

    Example:
        >>> fsspec.filesystem("memory").pipe_file("/list.csv", b"path")
        >>> with local_input("memory://list.csv", "The manifest") as file:
        ...     file.name, file.read_bytes()
        ('list.csv', b'path')
    """
    if not is_url(place):
        yield Path(place)
        return
    files, path = open_place(place, setting)
    with TemporaryDirectory() as folder:
        copy = Path(folder, PurePosixPath(place.partition("?")[0]).name)
        try:
            _fetch(files, path, copy)
        except FileNotFoundError as error:
            raise InputError(f"{setting} {place} is missing.") from error
        except Exception as error:  # whatever the store's own client raises
            raise InputError(f"{setting} {place} cannot be fetched ({reason(error)}).") from error
        try:
            yield copy
        except InputError as error:
            raise InputError(str(error).replace(name_of(copy), place)) from error
