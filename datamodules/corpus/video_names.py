"""Which video a name in someone else's file means.

Lists of scores and of pairs travel without the videos: their names may be whole paths, the end of a path, a
file name, or an id without suffix. The longest agreement wins, and a name that fits two videos is refused.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from os.path import abspath, basename, join, normpath, splitext
from pathlib import Path

from datamodules.corpus.listing import SUFFIXES
from datamodules.errors import InputError
from datamodules.names import name_of, written_name
from datamodules.video import Video

_SUFFIXES = SUFFIXES | {".yuv"}  # lists name raw files that nobody can decode without knowing their size


def match_names(names: Sequence[str], videos: Sequence[Video], file: Path) -> list[int | None]:
    """Find the name that each video has in a file.

    A name belongs to a video by its whole path (a relative path from the file's folder, or as the end of the
    video's path, the longest end first), else by file name, else by file name without suffix. A name that
    belongs to a video by its path belongs to no other video.

    Args:
        names: as they stand in the file, each once.
        videos: in the order of the result.
        file: where the names were read, for relative paths and for messages.

    Returns:
        For each video the index of its name, None where it has none.

    Raises:
        InputError: several names fit one video equally well, or one name fits several videos.

    Example:
        >>> videos = [Video("1", "/videos/a/x.mp4"), Video("2", "/videos/b/y.mp4")]
        >>> match_names(["y", "a/x.mp4"], videos, Path("scores.csv"))
        [1, 0]
    """
    here, folder = name_of(abspath(".")), name_of(abspath(file.parent))
    names = list(map(written_name, names))
    # A list's spaces around a name are seldom the file's.
    by_path = {normpath(name.strip()): row for row, name in enumerate(names)}
    by_path |= {normpath(join(folder, name.strip())): row for row, name in enumerate(names)}
    by_path |= {normpath(name): row for row, name in enumerate(names)}
    by_path |= {normpath(join(folder, name)): row for row, name in enumerate(names)}
    found = [_longest_tail(normpath(join(here, video.path)), by_path) for video in videos]
    if None in found:
        by_name, by_stem = defaultdict(list), defaultdict(list)
        for row in sorted(set(range(len(names))).difference(found)):
            name = basename(names[row]).strip()
            by_name[name].append(row)
            by_stem[_stem(name)].append(row)
        for place, video in enumerate(videos):
            if found[place] is None:
                name = basename(video.path).strip()
                rows = by_name.get(name) or by_stem.get(splitext(name)[0]) or []
                if len(rows) > 1:
                    raise InputError(
                        f"{file} has {len(rows)} names that fit {video.path} ({names[rows[0]]}, "
                        f"{names[rows[1]]}); write whole paths in it."
                    )
                found[place] = rows[0] if rows else None
    counts = Counter(row for row in found if row is not None)
    row, count = counts.most_common(1)[0] if counts else (0, 0)
    if count > 1:
        raise InputError(
            f"The name {names[row]} in {file} fits {count} different videos; write whole paths in it."
        )
    return found


def _longest_tail(path: str, by_path: dict[str, int]) -> int | None:
    while path:
        if path in by_path:
            return by_path[path]
        path = path.partition("/")[2]
    return None


def _stem(name: str) -> str:
    """Return a name without a video's suffix; the end of an id such as `clip_t_20.0` is no suffix."""
    root, suffix = splitext(name)
    return root if suffix.lower() in _SUFFIXES else name
