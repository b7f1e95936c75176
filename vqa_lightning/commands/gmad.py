"""The command `gmad`: the pairs on which two score files disagree most, to be judged by eye.

Whoever looks decides: if the two videos of a pair look alike the attacker is wrong, if not the defender.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console

from datamodules.checks import check_above, check_least
from datamodules.corpus import match_names
from datamodules.corpus.listing import list_entries
from datamodules.errors import InputError, UnreadableVideo
from datamodules.names import file_of, name_of
from datamodules.opinions import Predictions, read_predictions
from datamodules.opinions.predictions import join
from datamodules.pairs.hard.gmad import gmad_pairs
from datamodules.video import Sampling, Video, probe, read_clip

_WIDTH, _HEIGHT = 320, 180  # pixels of the room a frame has

_LINE = 16

_GAP = 4


class _Row(NamedTuple):
    """A video that both files have."""

    name: str
    path: Path
    first: float
    second: float


_Block = Sequence[tuple[_Row, _Row]]
"""Pairs that one model attacks: what it scores lower first."""


def draw_gmad(
    first: Path,
    second: Path,
    output: Path,
    count: int = 8,
    videos: Path | None = None,
    bins: int = 5,
    gap: float | None = None,
    lower_is_better: tuple[Literal["first", "second"], ...] = (),
) -> None:
    """Draw the pairs of videos on which two score files disagree most (gMAD), and list them beside.

    One half of the pairs lie in one quality bin of the second file and far apart for the first, the other
    half the other way round.

    Args:
        first: scores of one model: predict's output, or any list of names and scores.
        second: scores of another model for the same videos.
        output: the picture to write, a .png; the pairs' names and scores go to the .csv beside it.
        count: number of pairs.
        videos: folder in which the files' names lie; by default the names of the first file are paths.
        bins: quality bins of the defending model.
        gap: how far apart the defending model may score the two, in standard deviations of its scores; by
            default any two of a bin.
        lower_is_better: those of the two files whose scores are distances, such as [second] for NIQE's.

    Raises:
        InputError: a file cannot be read, the two files share no pair to draw, or no video can be opened.
    """
    if output.suffix.lower() != ".png":
        raise InputError(f"--output must be a .png file; got {output}.")
    check_least("--count", count, 1)
    check_least("--bins", bins, 1)
    if gap is not None:
        check_above("--gap", gap, 0)
    listing = output.with_suffix(".csv")
    if listing.resolve() in (first.resolve(), second.resolve()):
        raise InputError(f"--output {output} would write its list over {listing}; give it another name.")
    if videos is not None and not videos.exists():
        raise InputError(f"--videos must be the folder in which the files' names lie; got {videos}.")
    one = read_predictions(first, "first" not in lower_is_better)
    two = read_predictions(second, "second" not in lower_is_better)
    scores = join(two, one.names, first)
    places = _places(one, videos)
    rows = [
        _Row(one.names[row], places[row], float(one.scores[row]), score)
        for row, score in sorted(scores.items())
        if row in places
    ]
    names = (first.stem, second.stem) if first.stem != second.stem else (str(first), str(second))
    judged = np.array([(row.first, row.second) for row in rows]).reshape(-1, 2)
    blocks = []
    for attacker, wanted in ((0, -(-count // 2)), (1, count // 2)):
        found = gmad_pairs(judged[:, attacker], judged[:, 1 - attacker], wanted, bins, gap)
        blocks.append([(rows[low], rows[high]) for low, high in found])
    pairs = sum(map(len, blocks))
    if not pairs:
        where = "" if videos is None else f" in {videos}"
        raise InputError(
            f"{first} and {second} share {len(rows)} videos{where}, among which no pair in {bins} bins "
            "differs; give more videos, fewer bins or a wider gap."
        )
    try:
        _write(listing, names, blocks)
        _sheet(names, blocks).save(output)
    except OSError as error:
        raise InputError(
            f"--output {output} cannot be written ({error.strerror}); name another place."
        ) from error
    Console().print(f"{pairs} pairs are in {output} and {listing}.", highlight=False)


def _places(predictions: Predictions, folder: Path | None) -> dict[int, Path]:
    """Return row -> file: all rows without a folder, else the rows whose video lies in the folder."""
    if folder is None:
        return {row: file_of(name) for row, name in enumerate(predictions.names)}
    files = [(entry.name, entry.file) for entry in list_entries(str(folder)) if entry.file is not None]
    found = match_names(predictions.names, [Video("", name) for name, _ in files], predictions.path)
    return {row: path for row, (_, path) in zip(found, files, strict=True) if row is not None}


def _write(path: Path, names: tuple[str, str], blocks: Sequence[_Block]) -> None:
    """Write a row a pair: attacker, both videos' names and all four scores."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(
            ["attacker", "lower", "higher", "first_lower", "first_higher", "second_lower", "second_higher"]
        )
        for attacker, block in zip(names, blocks, strict=True):
            for low, high in block:
                scores = (low.first, high.first, low.second, high.second)
                table.writerow([attacker, low.name, high.name, *scores])


def _sheet(names: tuple[str, str], blocks: Sequence[_Block]) -> Image.Image:
    """Draw a title over each block, then a row for each pair, the attacker's lower video on the left."""
    tall = _HEIGHT + 3 * _LINE + _GAP
    height = sum(_LINE + _GAP + tall * len(block) for block in blocks if block)
    image = Image.new("RGB", (2 * _WIDTH + _GAP, height), "white")
    draw = ImageDraw.Draw(image)
    top = opened = 0
    for (attacker, defender), block in zip((names, names[::-1]), blocks, strict=True):
        if not block:
            continue
        draw.rectangle((0, top, image.width, top + _LINE), fill="black")
        title = f"{attacker} attacks: far apart for it, alike for {defender}"
        draw.text((2, top + 2), _fitted(title, image.width), fill="white")
        top += _LINE + _GAP
        for pair in block:
            for left, row in zip((0, _WIDTH + _GAP), pair, strict=True):
                draw.rectangle((left, top, left + _WIDTH - 1, top + _HEIGHT - 1), fill="lightgrey")
                frame = _middle_frame(row.path)
                if frame is None:
                    draw.text((left + 2, top + 2), "cannot be read", fill="black")
                else:
                    opened += 1
                    corner = (left + (_WIDTH - frame.width) // 2, top + (_HEIGHT - frame.height) // 2)
                    image.paste(frame, corner)
                lines = (
                    name_of(row.path.name),
                    f"{names[0]}: {row.first:.2f}",
                    f"{names[1]}: {row.second:.2f}",
                )
                for number, line in enumerate(lines):
                    start = (left + 2, top + _HEIGHT + number * _LINE + 1)
                    draw.text(start, _fitted(line, _WIDTH), fill="black")
            top += tall
    if not opened:
        example = next(low.path for block in blocks for low, _ in block)
        raise InputError(
            f"no video of the pairs, such as {name_of(example)}, can be opened; name their folder by "
            "--videos."
        )
    return image


def _middle_frame(path: Path) -> Image.Image | None:
    """Return the frame in the middle of a video, shrunk to its room; None where it cannot be read."""
    try:
        frames, _ = read_clip(probe(path), Sampling(segments=1, frames=1, window=None))
    except UnreadableVideo:
        return None
    picture = Image.fromarray(frames[0].permute(1, 2, 0).numpy())
    picture.thumbnail((_WIDTH, _HEIGHT))
    return picture


def _fitted(text: str, width: int) -> str:
    """Return the text, its middle left out until it fits: names differ at their ends."""
    font = ImageFont.load_default()
    whole, kept = text, len(text)
    while font.getlength(text) > width - 4:
        kept -= 1
        text = f"{whole[: kept // 2]}...{whole[len(whole) - (kept - kept // 2) :]}"
    return text
