"""Signatures: a public function takes at most eight parameters, a constructor at most twelve."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("datamodules", "vqa_lightning", "callbacks")
FUNCTION, CONSTRUCTOR = 8, 12
Function = ast.FunctionDef | ast.AsyncFunctionDef


def parameters(function: Function, *, method: bool) -> int:
    """How many a caller can give, `self` and `cls` apart."""
    arguments = function.args
    named = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)
    static = any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in function.decorator_list)
    return named - (method and not static)


def is_dataclass(kind: ast.ClassDef) -> bool:
    marks = [mark.func if isinstance(mark, ast.Call) else mark for mark in kind.decorator_list]
    return any(isinstance(mark, ast.Name) and mark.id == "dataclass" for mark in marks)


def fields(kind: ast.ClassDef) -> int:
    """Fields of a dataclass that its constructor takes."""
    annotated = [node for node in kind.body if isinstance(node, ast.AnnAssign)]
    return sum(
        "ClassVar" not in ast.unparse(node.annotation)
        and not (node.value is not None and "init=False" in ast.unparse(node.value))
        for node in annotated
    )


def methods(kind: ast.ClassDef) -> dict[str, Function]:
    return {node.name: node for node in kind.body if isinstance(node, Function)}


def signatures() -> Iterator[tuple[str, int, int]]:
    """Name, parameters and the most that are allowed, of every public callable of the packages.

    A dataclass holds settings where it checks itself in `__post_init__` or where a constructor takes it.
    Other dataclasses and NamedTuples are records of what was computed, a row or a batch: nobody chooses their
    fields.
    """
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    nodes = [(path, node) for path in files for node in ast.parse(path.read_text()).body]
    made = [
        methods(node)["__init__"]
        for _, node in nodes
        if isinstance(node, ast.ClassDef) and "__init__" in methods(node)
    ]
    taken = {name.id for one in made for name in ast.walk(one.args) if isinstance(name, ast.Name)}
    for path, node in nodes:
        where = f"{path.relative_to(ROOT)}:{node.lineno} "
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield where + node.name, parameters(node, method=False), FUNCTION
        if isinstance(node, ast.ClassDef):
            for name, method in methods(node).items():
                if name == "__init__" or not name.startswith("_"):
                    most = CONSTRUCTOR if name == "__init__" else FUNCTION
                    yield f"{where}{node.name}.{name}", parameters(method, method=True), most
            if is_dataclass(node) and ("__post_init__" in methods(node) or node.name in taken):
                yield where + node.name, fields(node), CONSTRUCTOR


def test_public_signatures_are_short() -> None:
    found = list(signatures())
    assert len(found) > 500
    too_long = [f"{name} takes {given}, not {most}" for name, given, most in found if given > most]
    assert not too_long, "\n".join(["give what travels together as one dataclass:", *too_long])
