"""Built-in simulators keep their identity when a comment changes, and not when their code does."""

import ast
import hashlib
import inspect
from types import ModuleType

import pytest

from datamodules.distortions import DISTORTIONS, arguments, camera, compression, sharpness, temporal, tone
from datamodules.distortions.distortion import REVISIONS

CODE = {
    "arguments": "92ec6f4c",
    "camera": "a7b32156",
    "compression": "c978a13e",
    "sharpness": "28ff2b93",
    "temporal": "5a22ba10",
    "tone": "d907ef4a",
}
"""Operators' module -> digest of its code without docstrings and comments.

Where a test fails, look whether a level of a simulator looks different now. If it does, give the simulator
eight other digits in `REVISIONS`, so that scores of its old clips do not count; then renew the digest here.
"""


def digest(module: ModuleType) -> str:
    tree = ast.parse(inspect.getsource(module))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:8]


@pytest.mark.parametrize("module", [arguments, camera, compression, sharpness, temporal, tone])
def test_changed_code_asks_for_a_new_revision(module: ModuleType) -> None:
    assert digest(module) == CODE[module.__name__.rpartition(".")[2]]


def test_every_simulator_has_a_revision_of_its_own() -> None:
    assert REVISIONS.keys() == DISTORTIONS.keys()
    assert len(set(REVISIONS.values())) == len(REVISIONS)
    assert {one.identity for one in DISTORTIONS.values()} == {"-".join(pair) for pair in REVISIONS.items()}
