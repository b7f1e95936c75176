"""What all pages share: how a template becomes a page, and how files are named on it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from datamodules.checks import is_number


def rendered(template: str, **values: Any) -> str:
    """Return a page from a template that extends `page.html`, with whatever it shows escaped.

    Args:
        template: its file's name.
        values: that it names; besides, it has `made`, the moment.
    """
    environment = Environment(
        loader=PackageLoader("vqa_lightning.pages", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return environment.get_template(template).render(made=made, **values)


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Return path -> as much of its end as tells it from the others.

    Example:
        >>> short_names(["x/a/1.mp4", "x/b/1.mp4", "x/b/2.mp4"])
        {'x/a/1.mp4': 'a/1.mp4', 'x/b/1.mp4': 'b/1.mp4', 'x/b/2.mp4': '2.mp4'}
    """
    found: dict[str, str] = {}
    left, parts = list(dict.fromkeys(paths)), 1
    while left:
        ends: dict[str, list[str]] = {}
        for path in left:
            ends.setdefault(str(Path(*Path(path).parts[-parts:])) if path else path, []).append(path)
        found |= {own[0]: end for end, own in ends.items() if len(own) == 1}
        again = [path for own in ends.values() if len(own) > 1 for path in own]
        if parts > max((len(Path(path).parts) for path in again), default=0):
            found |= {path: path for path in again}
            break
        left, parts = again, parts + 1
    return {path: found[path] for path in paths}


def least(scores: Sequence[float], count: int) -> list[int]:
    """Return the places of at most `count` least scores over time, in order, no two of them neighbours.

    Example:
        >>> least([30.0, 29.0, 50.0, float("nan"), 40.0], 2)
        [1, 4]
    """
    chosen: list[int] = []
    known = [place for place, score in enumerate(scores) if is_number(score)]
    for place in sorted(known, key=scores.__getitem__):
        if len(chosen) < count and all(abs(place - other) > 1 for other in chosen):
            chosen.append(place)
    return sorted(chosen)
