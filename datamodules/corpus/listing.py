"""Which files a folder, a glob or a manifest means: each once, and what is left out is told in one line.

Links are followed by their real path, so that a loop ends and no file comes twice; a name that is no link
wins over a link. A file that is named but cannot be read stays in the list, for its row says why.
"""

import logging
import os
from collections import deque
from collections.abc import Iterable
from glob import glob, has_magic
from pathlib import Path, PurePath
from typing import NamedTuple

from lightning.fabric.utilities.rank_zero import rank_zero_only

from datamodules.corpus.manifest import MANIFESTS, SPLITS, read_manifest
from datamodules.errors import InputError, reason
from datamodules.files import texts
from datamodules.names import address_refused, file_of, is_url, name_of, place_of

SUFFIXES = frozenset((
    ".264", ".265", ".3g2", ".3gp", ".3gpp", ".asf", ".avc", ".avi", ".divx", ".dv", ".f4v", ".flv",
    ".gif", ".gxf", ".h264", ".h265", ".hevc", ".insv", ".ivf", ".lrv", ".m1v", ".m2t", ".m2ts", ".m2v",
    ".m4v", ".mj2", ".mjpeg", ".mjpg", ".mkv", ".mod", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mpv",
    ".mts", ".mxf", ".nut", ".obu", ".ogg", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".tod", ".trp", ".ts",
    ".vob", ".webm", ".wmv", ".wtv", ".y4m",
))  # fmt: skip
"""Of files that a folder is searched for, in small letters; FFmpeg reads them without being told how."""

NAMED = 3
"""How many things of a kind are named when they are left out."""

_OTHER = "file{s} of {another|other} kind{s}"
HIDDEN = "hidden file{s} or folder{s}"
_CLOSED = "folder{s} that cannot be read"
_AGAIN = "link{s} to what is there already"
_FOLDER = "folder{s}"

_log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """A video that the input names, with the manifest's own columns.

    Attributes:
        name: of the file, or an address.
        file: None for an address.
    """

    name: str
    file: Path | None
    content: str = ""
    split: str = ""


class LeftOut:
    """What was met beside videos, by its kind."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, None]] = {}
        self._counts: dict[str, int] = {}

    def add(self, kind: str, name: str) -> None:
        """Count one more; of a kind only some names are kept."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        names = self._names.setdefault(kind, {})
        if len(names) <= NAMED:
            names[name] = None

    def add_file(self, path: PurePath) -> None:
        """Count a file that is no video, by its suffix: a reader looks for the suffix that was not known."""
        self.add(_OTHER, name_of(path.suffix) or name_of(path.name))

    def __str__(self) -> str:
        return ", ".join(self._told(kind, count) for kind, count in self._counts.items())

    def _told(self, kind: str, count: int) -> str:
        one, other = ("", "another") if count == 1 else ("s", "other")
        names = list(self._names[kind])
        shown = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
        return f"{count} {kind.replace('{s}', one).replace('{another|other}', other)} ({shown})"

    def tell(self, place: str) -> None:
        """Say in one line what of a place was left out, if anything was."""
        if self._counts:
            rank_zero_only(_log.warning)("%s: %s left out", place, self)


def is_video(name: str) -> bool:
    """Return whether a file is a video by its name.

    Example:
        >>> is_video("a.MP4"), is_video("a.srt")
        (True, False)
    """
    return PurePath(name).suffix.lower().rstrip() in SUFFIXES


def list_entries(videos: str) -> list[Entry]:
    """Return what a folder, file, glob or manifest names, in order, and say what is left out.

    Raises:
        InputError: `videos` names nothing or is an address, or the manifest is none.
    """
    if not videos:
        raise InputError("Videos must be a folder, a video, a glob or a manifest; got an empty name.")
    place = place_of(videos)
    try:
        if place.is_dir():
            return _of_files(_search(place))
        if place.is_file() and place.suffix.lower() in MANIFESTS:
            return _manifest(place)
        if os.path.lexists(place):
            return _of_files([place])
    except OSError as error:
        raise InputError(
            f"{name_of(videos)} cannot be read ({reason(error)}); name another place."
        ) from error
    if is_url(videos):
        raise InputError(address_refused(name_of(videos)))
    if has_magic(videos):
        return _of_files(_matches(str(place), name_of(videos)))
    raise InputError(
        f"{name_of(videos)} does not exist; give a folder, a video, a glob or a manifest "
        f"({', '.join(MANIFESTS)})."
    )


def _of_files(paths: Iterable[Path]) -> list[Entry]:
    return [Entry(name_of(path), path) for path in paths]


def _search(root: Path) -> list[Path]:
    """Return the videos in a folder and all folders below it, sorted."""
    left_out = LeftOut()
    found: dict[str, Path] = {}  # by the real path
    links: list[Path] = []
    entered: set[str] = set()
    above = {str(parent) for parent in Path(os.path.realpath(root)).parents}
    real_folders, linked_folders = deque([root]), deque[Path]()
    while real_folders or linked_folders:
        folder = real_folders.popleft() if real_folders else linked_folders.popleft()
        real = os.path.realpath(folder)
        if real in entered or real in above:
            left_out.add(_AGAIN, name_of(folder.name))
            continue
        entered.add(real)
        try:
            with os.scandir(folder) as listed:
                members = sorted(listed, key=lambda member: member.name)
        except OSError:
            if folder == root:
                raise
            left_out.add(_CLOSED, name_of(folder.name))
            continue
        for member in members:
            path = folder / member.name
            if member.name.startswith("."):
                left_out.add(HIDDEN, name_of(member.name))
            elif _is_folder(member):
                (linked_folders if member.is_symlink() else real_folders).append(path)
            elif not is_video(member.name):
                left_out.add_file(path)
            elif member.is_symlink():
                links.append(path)
            else:
                found[os.path.join(real, member.name)] = path
    _add_links(links, found, left_out)
    if not found:
        rest = f" ({left_out})" if str(left_out) else ""
        raise InputError(
            f"The folder {name_of(root)} holds no videos{rest}; give a folder with .mp4, .mkv or other video "
            "files."
        )
    left_out.tell(name_of(root))
    return sorted(found.values())


def _is_folder(member: os.DirEntry[str]) -> bool:
    """Return whether a member of a folder is one, or a link to one; the system is asked about links alone."""
    try:
        return member.is_dir()
    except OSError:  # a link to itself
        return False


def _add_links(links: Iterable[Path], found: dict[str, Path], left_out: LeftOut) -> None:
    """Add the files behind links that are not there already."""
    for link in links:
        real = os.path.realpath(link)
        if real in found:
            left_out.add(_AGAIN, name_of(link.name))
        else:
            found[real] = link


def _matches(pattern: str, given: str) -> list[Path]:
    """Return the files that match a pattern, sorted."""
    left_out = LeftOut()
    found: dict[str, Path] = {}
    links, folders = [], []
    for path in map(Path, sorted(glob(pattern, recursive=True))):
        if os.path.isdir(path):
            folders.append(path)
        elif (real := os.path.realpath(path)) != os.path.abspath(path):
            links.append(path)
        else:
            found[real] = path
    _add_links(links, found, left_out)
    if not found:
        raise InputError(f"No file matches {given}; check the pattern, and quote it from the shell.")
    above = {parent for path in found.values() for parent in path.parents}
    for folder in folders:
        if folder not in above:
            left_out.add(_FOLDER, name_of(folder.name))
    left_out.tell(given)
    return sorted(found.values())


def _manifest(place: Path) -> list[Entry]:
    table = read_manifest(place)
    blank = [""] * table.num_rows
    columns = [
        texts(table, name, place).to_pylist() if name in table.column_names else blank
        for name in ("path", "content", "split")
    ]
    entries = []
    for row, (name, content, split) in enumerate(zip(*columns, strict=True), start=1):
        if split not in ("", *SPLITS):
            raise InputError(
                f"The column split of {name_of(place)} must hold {', '.join(SPLITS)} or nothing; got "
                f"{split!r} in row {row}."
            )
        file = None if is_url(name) else place.parent / file_of(name)
        entries.append(Entry(name if file is None else name_of(file), file, content, split))
    return entries
