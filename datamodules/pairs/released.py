"""Pair tables in the layout in which W2S-VQA released its training pairs, written and read.

That layout holds two paths and one sentence with the level. What else a row of ours says stands under a key
of its own, which the released reader, asking for its keys by name, passes over.
"""

import json
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.corpus import build_corpus, match_names
from datamodules.corpus import videos as readable
from datamodules.errors import InputError
from datamodules.files import hidden_beside
from datamodules.labels import LEVELS
from datamodules.opinions.label_lists import read_json
from datamodules.pairs.table import PAIR_SCHEMA, SOURCES, read_pairs
from datamodules.video import Video

QUESTION = (
    "Now you will receive two videos. The first video:\n <image><image>. The second video:\n <image><image>. "
    "Please watch these videos carefully, and then answer the following question: Comparing with the first "
    "video, how do you assess the quality of the second video?"
)
"""Of each pair, to the letter: the released code trains on it."""

ANSWER = "The quality of the second video is {} to the first video."

FRAMES_PER_SECOND = 1
"""At which the released code samples frames; where the key is absent it takes the paths for images."""

OWN_KEY = "vqa_lightning"

_LEVEL = re.compile(r"second video is (\w+) to the first")

_CHUNK = 4096

_ROUNDING = 1e-3
"""By which levels, kept in float32, may miss a sum of 1."""

_log = logging.getLogger(__name__)


def write_released(pairs: pa.Table, videos: Sequence[Video], path: Path, root: Path) -> int:
    """Write the pairs of undistorted videos.

    A pair with a distorted side is left out: the released reader would take the source for it and learn a
    wrong label.

    Args:
        pairs: table of `pairs.PAIR_SCHEMA`.
        videos: those that the table names.
        path: the .json file to write; it appears whole.
        root: folder that the written paths start from.

    Returns:
        How many pairs were left out.

    Raises:
        InputError: a video of the table is not among `videos`, or the file cannot be written.
    """
    paths = {video.video_id: os.path.relpath(video.path, root) for video in videos}
    hidden = hidden_beside(path)
    written = 0
    try:
        try:
            with hidden.open("w", encoding="utf-8") as file:
                file.write("[")
                for batch in pairs.to_batches(_CHUNK):
                    for row in batch.to_pylist():
                        if not row["distortions_first"] and not row["distortions_second"]:
                            file.write(",\n" if written else "\n")
                            file.write(json.dumps(_entry(row, paths), ensure_ascii=False))
                            written += 1
                file.write("\n]\n")
            os.replace(hidden, path)
        finally:
            hidden.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"The pairs cannot be written to {path} ({error.strerror}); "
            "name a file in a folder that is there."
        ) from error
    return len(pairs) - written


def _entry(row: Mapping[str, Any], paths: Mapping[str, str]) -> dict[str, Any]:
    for side in ("first", "second"):
        if row[side] not in paths:
            raise InputError(
                f"The pairs name the video {row[side]}, which is not in the corpus; "
                "name the videos that the pairs were drawn from."
            )
    level = LEVELS[row["levels"].index(max(row["levels"]))]
    own = {name: row[name] for name in ("draw_first", "draw_second", "source", "hard", "margin", "levels")}
    return {
        "image": [paths[row["first"]], paths[row["second"]]],
        "frames per sec": FRAMES_PER_SECOND,
        "conversations": [
            {"from": "human", "value": QUESTION},
            {"from": "gpt", "value": ANSWER.format(level)},
        ],
        OWN_KEY: own,
    }


def read_released(path: Path, videos: Sequence[Video]) -> pa.Table:
    """Read pairs in the released layout.

    Paths are matched to videos as a scores file's are. A pair that says no more than its level gets it as a
    certain label, and the source `human`: a level that somebody gave, without the margin that pairs of the
    source `teacher` are learnt by.

    Args:
        path: a .json file; trailing commas are accepted.
        videos: of the corpus; pairs of others are left out, with one warning.

    Returns:
        A table of `pairs.PAIR_SCHEMA`, in the order of the file.

    Raises:
        InputError: the file cannot be read, an entry is no pair, or not one pair is of two of the videos.
    """
    entries = _read_entries(path)
    names = list(dict.fromkeys(name for _, pair, _ in entries for name in pair))
    found = match_names(names, videos, path)
    ids = {names[row]: video.video_id for row, video in zip(found, videos, strict=True) if row is not None}
    known = [entry for entry in entries if all(name in ids for name in entry[1])]
    unknown = [name for name in names if name not in ids]
    if not known:
        raise InputError(
            f"Not one of the {len(entries)} pairs in {path} is of two videos of the corpus, which has no "
            f"{unknown[0]}, for one; name the videos that the pairs are of."
        )
    if unknown:
        _log.warning(
            "%d of %d pairs in %s are left out: %d videos are not in the corpus, the first being %s",
            len(entries) - len(known), len(entries), path, len(unknown), unknown[0],
        )  # fmt: skip
    return pa.Table.from_pylist(
        [
            {
                "first": ids[first],
                "second": ids[second],
                "distortions_first": [],
                "distortions_second": [],
                "draw_first": 0,
                "draw_second": 0,
                "source": "human",
                "hard": False,
                "margin": None,
                "place_first": None,
                "place_second": None,
                "levels": [float(name == level) for name in LEVELS],
                **own,
            }
            for level, (first, second), own in known
        ],
        schema=PAIR_SCHEMA,
    )


_Entry = tuple[str, tuple[str, str], Mapping[str, Any]]


def _read_entries(path: Path) -> list[_Entry]:
    try:
        rows = read_json(path)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"The pairs {path} cannot be read ({reason}); give a JSON file.") from error
    if not isinstance(rows, list):
        raise InputError(f"The pairs {path} are not a list; give a file in the layout of the released pairs.")
    if not rows:
        raise InputError(f"The pairs {path} are an empty list; give a file with at least one.")
    return list(_parse(path, rows))


def _parse(path: Path, rows: Sequence[Any]) -> Iterator[_Entry]:
    for number, row in enumerate(rows, start=1):
        try:
            first, second = (
                name for name in row["image"] if isinstance(name, str) and len(row["image"]) == 2
            )
            answer = next(turn["value"] for turn in row["conversations"] if turn["from"] == "gpt")
            level = _LEVEL.search(answer)
            if level is None or level[1] not in LEVELS or not isinstance(row["image"], list):
                raise ValueError(answer)
            own = row.get(OWN_KEY, {})
            wrong = next((name for name, cell in own.items() if not _may_be(name, cell)), None)
        except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
            raise InputError(
                f"Entry {number} of {path} is no pair; it needs two paths under 'image' and an answer of "
                f"'gpt' with one of the levels {', '.join(LEVELS)}."
            ) from error
        if wrong is not None:
            raise InputError(
                f"Entry {number} of {path} has under {OWN_KEY!r} what no export writes, {wrong}: "
                f"{own[wrong]!r}; correct it or leave it out."
            )
        yield level[1], (first, second), own


def _may_be(name: str, cell: Any) -> bool:
    """Return whether a cell of `OWN_KEY` is one that `write_released` writes."""
    if name in ("draw_first", "draw_second"):
        return type(cell) is int and 0 <= cell < 1 << 31
    if name == "levels":
        numbers = isinstance(cell, list) and len(cell) == len(LEVELS) and all(map(_is_share, cell))
        return numbers and abs(sum(cell) - 1) < _ROUNDING
    if name == "margin":
        return cell is None or (type(cell) in (int, float) and math.isfinite(cell))
    return cell in (True, False) if name == "hard" else name == "source" and cell in SOURCES


def _is_share(cell: Any) -> bool:
    return type(cell) in (int, float) and 0 <= cell <= 1


def export_pairs(pairs: str, output: str, videos: str, root: str | None = None) -> None:
    """Write a round's pairs in the released layout, as JSON.

    Args:
        pairs: a run's pairs/round-K.parquet.
        output: the .json file to write.
        videos: folder, file, glob or manifest of the videos.
        root: folder that the written paths start from; by default the one that holds all videos.

    Raises:
        InputError: the table or none of the videos can be read, or the output cannot be written.
    """
    table = read_pairs(pairs)
    corpus = _corpus(videos)
    folder = root or os.path.commonpath([os.path.dirname(os.path.abspath(video.path)) for video in corpus])
    left_out = write_released(table, corpus, Path(output), Path(folder))
    print(f"{output}: {len(table) - left_out} pairs written, {left_out} with a distorted side left out")


def import_pairs(released: str, output: str, videos: str) -> None:
    """Turn pairs in the released layout into a pair table.

    Args:
        released: a .json file in the layout of W2S-VQA's example_pairs.json.
        output: the .parquet file to write.
        videos: folder, file, glob or manifest of the videos.

    Raises:
        InputError: the pairs or none of the videos can be read, or the output cannot be written.
    """
    table = read_released(Path(released), _corpus(videos))
    hidden = hidden_beside(Path(output))
    try:
        try:
            with hidden.open("wb") as file:  # Arrow knows names in UTF-8 alone
                pq.write_table(table, file)
            os.replace(hidden, output)
        finally:
            hidden.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"The pairs cannot be written to {output} ({error.strerror}); "
            "name a file in a folder that is there."
        ) from error
    print(f"{output}: {len(table)} pairs")


def _corpus(videos: str) -> list[Video]:
    found = readable(build_corpus(videos))
    if not found:
        raise InputError(f"None of the videos {videos} can be read; name those that the pairs are of.")
    return found
