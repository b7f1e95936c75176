"""Where videos lie: in local files, or as objects behind any URL that fsspec knows.

FFmpeg seeks in a file, so an object is copied to a temporary file for as long as it is read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from glob import has_magic
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile
from typing import Any

import fsspec

from datamodules.corpus.table import SUFFIXES, named_paths, read_manifest
from datamodules.errors import InputError, UnreadableVideo

_MANIFESTS = (".csv", ".parquet")


def is_url(place: str) -> bool:
    """Return whether a place is a URL and not a local path.

    Example:
        >>> is_url("s3://bucket/a.mp4"), is_url("folder/a.mp4")
        (True, False)
    """
    return "://" in place


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
        raise InputError(f"{setting} {place} cannot be opened ({str(error).rstrip('.')}).") from error
    return found


def list_paths(videos: str) -> list[str]:
    """Return the paths or URLs of the videos that a folder, file, glob or manifest names, none of them read.

    Args:
        videos: as `build_corpus` takes it, or the same as a URL. A manifest may name URLs.

    Raises:
        InputError: `videos` names nothing, or the manifest cannot be read or lacks `path`.
    """
    place = Path(videos).expanduser()
    if is_url(videos):
        return _list_url(videos)
    if place.is_file() and place.suffix.lower() in _MANIFESTS:
        return [name if is_url(name) else str(place.parent / name) for name in _names(place, videos)]
    return [str(path) for path in named_paths(videos)]


def _names(manifest: Path, given: str) -> list[str]:
    try:
        names: list[str] = read_manifest(manifest)["path"].cast("string").fill_null("").to_pylist()
    except InputError as error:
        raise InputError(str(error).replace(str(manifest), given)) from error
    return names


def _list_url(videos: str) -> list[str]:
    if PurePosixPath(videos).suffix.lower() in _MANIFESTS:
        folder = videos.rpartition("/")[0]
        try:
            with local_copy(videos) as manifest:
                names = _names(manifest, videos)
        except UnreadableVideo as error:
            raise InputError(f"The manifest {error}") from error
        return [name if is_url(name) else f"{folder}/{name}" for name in names]
    files, root = open_place(videos, "--data.videos")
    try:
        if has_magic(root):
            found = files.glob(root)
        elif files.isfile(root):
            found = [root]
        else:
            found = [path for path in files.find(root) if _is_video(PurePosixPath(path[len(root) :]))]
    except Exception as error:  # whatever the store's own client raises
        raise InputError(f"--data.videos {videos} cannot be listed ({_reason(error)}).") from error
    if not found:
        raise InputError(f"--data.videos {videos} names no video; check the URL and the rights to list it.")
    return [files.unstrip_protocol(path) for path in sorted(found)]


def _is_video(inside: PurePosixPath) -> bool:
    return inside.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in inside.parts)


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
        yield Path(place)
        return
    with NamedTemporaryFile(suffix=PurePosixPath(place).suffix) as copy:
        try:
            files, path = open_place(place, "The video")
            files.get_file(path, copy.name)
        except FileNotFoundError as error:
            raise UnreadableVideo(f"{place} is missing.") from error
        except Exception as error:  # whatever the store's own client raises
            raise UnreadableVideo(f"{place} cannot be fetched ({_reason(error)}).") from error
        yield Path(copy.name)


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
