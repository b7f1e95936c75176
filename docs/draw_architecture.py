"""Draw docs/architecture.svg from the imports in the code and from the ways that docs/architecture.md tells.

    python docs/draw_architecture.py

Imports are read from the syntax tree, those inside functions and for type checkers included. The script
also writes the last column of the page's table of rooms. `tests/test_architecture.py` holds page and picture
to the code.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PICTURE = ROOT / "docs" / "architecture.svg"
PACKAGES = ("datamodules", "vqa_lightning", "callbacks")


class Row(NamedTuple):
    """One row of the page's table."""

    room: str
    holds: str
    imports: tuple[str, ...]


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Return the path of every module by its dotted name; a package goes by its folder's name."""
    names = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports(path: Path, known: Mapping[str, Path]) -> set[str]:
    """Return the modules of ours that a file imports, wherever in the file the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names]
            names = [name if name in known else module for name in names]
        else:
            continue
        found |= {name for name in names if name in known}
    return found


def room_of(module: str, known: Mapping[str, Path]) -> str | None:
    """Return the room in which a module lies: a package's sub-package or a module directly in a package.

    The `__init__` of a package is the door of the house and lies in no room.
    """
    room = ".".join(module.split(".")[:2])
    return room if "." in room and room in known else None


def room_imports(root: Path = ROOT) -> dict[str, set[str]]:
    """Return for each room the other rooms that its modules import."""
    known = modules(root)
    rooms: dict[str, set[str]] = {}
    for module, path in known.items():
        room = room_of(module, known)
        if room is not None:
            others = {room_of(name, known) for name in imports(path, known)}
            rooms.setdefault(room, set()).update(other for other in others if other not in (None, room))
    return rooms


def rows(page: str) -> list[Row]:
    """Read the page's table of rooms, lowest room first."""
    found = re.findall(r"^\| `([\w.]+)` \| ([^|]+) \|([^|]*)\|$", page, re.MULTILINE)
    return [Row(room, holds, tuple(re.findall(r"`([\w.]+)`", names))) for room, holds, names in found]


def ways(page: str) -> dict[str, list[str]]:
    """Read the ways: heading -> the rooms of its numbered steps, each step opening with one or more rooms."""
    found = {}
    for heading, body in re.findall(r"^### (The way of one .+)\n((?:.*\n)*?)(?=^#|\Z)", page, re.MULTILINE):
        steps = re.findall(r"^\d+\. \*\*`([\w.]+)`\*\*", body, re.MULTILINE)
        found[heading] = steps
    return found


def short(room: str) -> str:
    """Return the name of a room without its package, as the table's last column has it."""
    return room.split(".")[-1]


def with_imports(page: str, rooms: Mapping[str, set[str]]) -> str:
    """Return the page with the last column of its table written anew, in the table's own order."""
    order = [row.room for row in rows(page)]

    def written(match: re.Match[str]) -> str:
        room, holds = match.group(1, 2)
        names = ", ".join(f"`{short(other)}`" for other in order if other in rooms.get(room, ()))
        return f"| `{room}` | {holds} | {names or 'nothing'} |"

    return re.sub(r"^\| `([\w.]+)` \| ([^|]+) \|([^|]*)\|$", written, page, flags=re.MULTILINE)


# The picture. Coordinates are pixels; a layer is a row of boxes, and every arrow leads downwards.

BOX, HEIGHT, GAP, LAYER, MARGIN, HEADER = 130, 38, 14, 66, 20, 64
INK, PALE, PAPER = "#24292f", "#c4cad1", "#ffffff"
LANES = {"datamodules": "#f3f7fc", "vqa_lightning": "#fdf7ef", "callbacks": "#f4faf4"}
COLOURS = ("#1f6feb", "#c2410c", "#15803d")
EVERYWHERE = "datamodules.errors"


def reduced(rooms: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Leave out the imports that another import implies."""

    def below(room: str) -> set[str]:
        return set().union(*({other} | below(other) for other in rooms[room]), set())

    return {
        room: {one for one in others if not any(one in below(other) for other in others - {one})}
        for room, others in rooms.items()
    }


def layers(rooms: Mapping[str, set[str]]) -> dict[str, int]:
    """Return the layer of each room, 0 the lowest: as high as importers in its own package allow."""
    depth: dict[str, int] = {}

    def rise(room: str) -> int:
        if room not in depth:
            depth[room] = 1 + max((rise(other) for other in rooms[room]), default=-1)
        return depth[room]

    for room in sorted(rooms, key=rise, reverse=True):
        package = room.split(".")[0]
        above = [depth[other] for other in rooms if room in rooms[other] and other.split(".")[0] == package]
        if above and rooms[room]:
            depth[room] = min(above) - 1
    return depth


def places(rooms: Mapping[str, set[str]]) -> tuple[dict[str, tuple[float, float]], dict[str, float], float]:
    """Return the middle of each room's box, the right edge of each package's lane, and the height of all."""
    depth = layers(rooms)
    top = max(depth.values())
    edges = reduced(rooms)
    lane: dict[str, dict[int, list[str]]] = {package: {} for package in LANES}
    for room in sorted(rooms):
        lane[room.split(".")[0]].setdefault(depth[room], []).append(room)
    middle: dict[str, float] = {}
    right: dict[str, float] = {}
    left = float(MARGIN)
    for package, levels in lane.items():
        width = max(len(level) for level in levels.values()) * (BOX + GAP) + GAP
        for level in sorted(levels, reverse=True):
            near = {
                room: [middle[other] for other, names in edges.items() if room in names and other in middle]
                for room in levels[level]
            }
            wish = {room: sum(xs) / len(xs) if xs else left + width / 2 for room, xs in near.items()}
            each = sorted(levels[level], key=lambda room: (wish[room], room))
            for number, room in enumerate(each):
                middle[room] = left + width * (number + 0.5) / len(each)
        left += width
        right[package] = left
        left += MARGIN
    places = {room: (middle[room], HEADER + (top - depth[room] + 0.5) * LAYER) for room in rooms}
    return places, right, HEADER + (top + 1) * LAYER


def curve(start: tuple[float, float], end: tuple[float, float]) -> str:
    """Return the path from one point down or up to another, upright at both ends."""
    (x, y), (to_x, to_y) = start, end
    bend = (to_y - y) / 2
    return f"M{x:.1f} {y:.1f}C{x:.1f} {y + bend:.1f} {to_x:.1f} {to_y - bend:.1f} {to_x:.1f} {to_y:.1f}"


def drawing(rooms: Mapping[str, set[str]], told: Mapping[str, Sequence[str]]) -> str:
    """Return the picture as SVG: lanes, arrows, boxes, and on the boxes the numbered steps of each way."""
    place, right, bottom = places(rooms)
    width, height = max(right.values()) + MARGIN, bottom + 4 * MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="16">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" '
        f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{PALE}"/></marker></defs>',
        f'<rect width="100%" height="100%" fill="{PAPER}"/>',
    ]
    left = float(MARGIN)
    for package, fill in LANES.items():
        lines += [
            f'<rect x="{left:.0f}" y="{MARGIN}" width="{right[package] - left:.0f}" '
            f'height="{bottom - MARGIN:.0f}" rx="10" fill="{fill}"/>',
            f'<text x="{left + 14:.0f}" y="{MARGIN + 24}" font-weight="bold" fill="{INK}">{package}</text>',
        ]
        left = right[package] + MARGIN
    for room, others in sorted(reduced(rooms).items()):
        for other in sorted(others - {EVERYWHERE}):
            (x, y), (to_x, to_y) = place[room], place[other]
            path = curve((x, y + HEIGHT / 2), (to_x, to_y - HEIGHT / 2))
            lines.append(f'<path d="{path}" fill="none" stroke="{PALE}" marker-end="url(#tip)"/>')
    centres = list(zip(discs(place, told), COLOURS, strict=True))
    for path, colour in centres:
        for start, end in pairwise(path):
            line = f'd="{curve(start, end)}" fill="none" stroke="{colour}" stroke-width="2" opacity="0.4"'
            lines.append(f"<path {line}/>")
    for room, (x, y) in sorted(place.items()):
        lines += [
            f'<rect x="{x - BOX / 2:.1f}" y="{y - HEIGHT / 2:.1f}" width="{BOX}" height="{HEIGHT}" rx="6" '
            f'fill="{PAPER}" stroke="{INK}"/>',
            f'<text x="{x:.1f}" y="{y + 5.5:.1f}" text-anchor="middle" fill="{INK}">'
            f"{escape(short(room))}</text>",
        ]
    for path, colour in centres:
        for number, (x, y) in enumerate(path, 1):
            lines += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9.5" fill="{colour}" stroke="{PAPER}"/>',
                f'<text x="{x:.1f}" y="{y + 4.2:.1f}" text-anchor="middle" font-size="12" fill="{PAPER}">'
                f"{number}</text>",
            ]
    for number, (heading, colour) in enumerate(zip(told, COLOURS, strict=True)):
        x, y = MARGIN + 12 + 240 * number, bottom + 30
        lines += [
            f'<circle cx="{x}" cy="{y}" r="9" fill="{colour}"/>',
            f'<text x="{x + 18}" y="{y + 5.5}" fill="{INK}">{escape(heading.lower())}</text>',
        ]
    lines += [
        f'<text x="{MARGIN + 3}" y="{bottom + 66:.1f}" fill="{INK}">'
        "A grey arrow leads to what a room imports. Arrows that other arrows imply are left out, "
        "and those to errors.</text>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def discs(
    place: Mapping[str, tuple[float, float]], told: Mapping[str, Sequence[str]]
) -> list[list[tuple[float, float]]]:
    """Return the middle of each way's discs: in a row on the upper edge of their rooms' boxes."""
    taken: dict[str, int] = dict.fromkeys(place, 0)
    found: list[list[tuple[float, float]]] = []
    for path in told.values():
        found.append([])
        for room in path:
            x, y = place[room][0] - BOX / 2 + 9 + 21 * taken[room], place[room][1] - HEIGHT / 2
            taken[room] += 1
            found[-1].append((x, y))
    return found


def main() -> None:
    """Write the table's last column and the picture."""
    rooms = room_imports()
    page = with_imports(PAGE.read_text(), rooms)
    PAGE.write_text(page)
    PICTURE.write_text(drawing(rooms, ways(page)))


if __name__ == "__main__":
    main()
