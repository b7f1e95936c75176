"""Devices without float64: nothing makes it there, by a rule on the syntax tree of every module."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from datamodules.devices import for_device, has_float64

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("datamodules", "vqa_lightning", "callbacks")
HOST = {
    "datamodules/devices.py:in_float64": "the function that asks first",
    "datamodules/video/decoding.py:read_clips": "seconds, made by the reader",
    "datamodules/batches/pair_dataset.py:__init__": "seconds, made by a worker",
    "datamodules/fidelity/filters.py:gaussian": "taps, returned as numbers",
    "datamodules/fidelity/xpsnr.py:xpsnr": "what FFmpeg said",
    "datamodules/selection/corpus_metrics.py:measure_video": "figures of a reader",
    "datamodules/teachers/natural_scenes/brisque.py:published_machine": "where the features lie, in float64",
    "datamodules/teachers/natural_scenes/pristine.py:fit_pristine": "gathered on the host",
    "datamodules/teachers/natural_scenes/distributions.py:_shape_table": "where the moments lie, in float64",
}
"""Functions that make float64 of their own, and where."""


def float64(node: ast.AST) -> bool:
    """Whether a node makes float64: torch.float64, torch.double, or .double() of what is not .cpu()."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
        return node.attr in ("float64", "double")
    if not (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "double"
    ):
        return False
    made_of = node.func.value
    on_host = isinstance(made_of, ast.Call) and isinstance(made_of.func, ast.Attribute)
    return not (on_host and made_of.func.attr == "cpu")  # type: ignore[attr-defined]


def places(tree: ast.AST, function: str = "") -> Iterator[str]:
    """The innermost function of every node that makes float64; comparisons with it make none."""
    for node in ast.iter_child_nodes(tree):
        if float64(node):
            yield function
        if not isinstance(node, ast.Compare):
            name = node.name if isinstance(node, ast.FunctionDef) else function
            yield from places(node, name)


def test_float64_is_made_on_the_host_alone() -> None:
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    found = {
        f"{file.relative_to(ROOT).as_posix()}:{function}"
        for file in files
        for function in places(ast.parse(file.read_text()))
    }
    assert found == set(HOST), "use in_float64, .cpu().double(), or name the function and where it runs"


def test_the_rule_finds_what_it_forbids() -> None:
    code = "def f(x):\n    a = x.double()\n    b = x.cpu().double()\n    return a.dtype == torch.float64"
    assert list(places(ast.parse(code))) == ["f"]


@pytest.mark.parametrize(("device", "dtype"), [("mps", torch.float32), ("cuda", torch.float64)])
def test_seconds_cross_as_the_device_has_them(device: str, dtype: torch.dtype) -> None:
    class Crossing(torch.Tensor):
        """A tensor that says what it would cross as: no such device is here."""

        crossed: torch.dtype

        def to(self, where: torch.device, non_blocking: bool = False) -> "Crossing":  # type: ignore[override]
            assert where.type == device
            Crossing.crossed = self.dtype
            return self

    seconds = torch.zeros(2, 8, dtype=torch.float64).as_subclass(Crossing)
    for_device(seconds, torch.device(device))
    assert Crossing.crossed is dtype
    assert has_float64(torch.device(device)) is (dtype is torch.float64)
