"""The rooms of the code: docs/architecture.md states their order, the syntax tree of each module keeps it."""

import ast
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[1]
drawn = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "draw_architecture.py")))
PAGE = drawn.PAGE.read_text()
MODULES: dict[str, Path] = drawn.modules()
ORDER: list[str] = [row.room for row in drawn.rows(PAGE)]
IMPORTS: dict[str, set[str]] = {name: drawn.imports(path, MODULES) for name, path in MODULES.items()}


def place(name: str) -> int:
    """The row of a module's room; the door of a package stands where the last of its rooms does."""
    room = drawn.room_of(name, MODULES)
    return ORDER.index(room) if room else max(map(ORDER.index, inside(name)))


def inside(package: str) -> list[str]:
    return [room for room in ORDER if room.startswith(f"{package}.")]


def test_every_room_has_a_row() -> None:
    assert len(ORDER) == len(set(ORDER))
    assert set(ORDER) == set(drawn.room_imports())


def test_modules_import_their_own_room_and_rooms_above() -> None:
    wrong = [
        f"{name} imports {other}"
        for name in MODULES
        if drawn.room_of(name, MODULES)
        for other in sorted(IMPORTS[name])
        if drawn.room_of(other, MODULES) != drawn.room_of(name, MODULES) and place(other) >= place(name)
    ]
    assert not wrong, "\n".join(wrong)


def test_imports_are_absolute() -> None:
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}:{node.lineno}"


def test_modules_form_no_circle() -> None:
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " imports ".join((*above[above.index(name) :], name))
        if name not in done:
            for other in sorted(IMPORTS[name]):
                visit(other, (*above, name))
            done.add(name)

    for name in MODULES:
        if name not in drawn.PACKAGES:  # a package's door names modules for type checkers
            visit(name, ())


def test_page_and_picture_are_those_of_the_code() -> None:
    rooms = drawn.room_imports()
    remedy = "run python docs/draw_architecture.py"
    assert drawn.with_imports(PAGE, rooms) == PAGE, remedy
    assert drawn.drawing(rooms, drawn.ways(PAGE)) == drawn.PICTURE.read_text(), remedy


def test_the_ways_name_what_is_there() -> None:
    """Each step opens with its room; every name in code marks in it is defined in that room."""
    ways = drawn.ways(PAGE)
    assert len(ways) == 3
    steps = re.findall(r"^\d+\. \*\*`([\w.]+)`\*\*((?:.*\n(?!\d|\n|#))*.*\n)", PAGE, re.MULTILINE)
    assert [room for room, _ in steps] == [room for way in ways.values() for room in way]
    for room, told in steps:
        here = [path for name, path in MODULES.items() if drawn.room_of(name, MODULES) == room]
        trees = [node for path in here for node in ast.walk(ast.parse(path.read_text()))]
        defined = {node.name for node in trees if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        assert set(re.findall(r"`([A-Za-z_]+)`", told)) <= defined, room


def test_rooms_open_with_two_sentences() -> None:
    """What lives there, and what it may import."""
    openings = {
        name: ast.get_docstring(ast.parse(path.read_text())) or ""
        for name, path in MODULES.items()
        if path.name == "__init__.py"
    }
    assert not [name for name, told in openings.items() if len(re.findall(r"[.!?](?=\s|$)", told)) < 2]


def test_folders_have_three_to_thirteen_modules() -> None:
    """Counted with `__init__.py`; a package may be made of rooms alone."""
    for folder in {path.parent for path in MODULES.values()}:
        modules, rooms = list(folder.glob("*.py")), list(folder.glob("*/__init__.py"))
        assert len(modules) <= 13, folder
        assert len(modules) + len(rooms) >= 3, folder


def test_modules_have_400_lines_at_most() -> None:
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert not {name: count for name, count in lines.items() if count > 400}
