"""Every script under benchmarks/ still finds what it imports, and says how it is called."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_every_module_can_be_imported() -> None:
    names = sorted(file.stem for file in SCRIPTS.glob("*.py"))
    code = f"import importlib; [importlib.import_module(name) for name in {names}]"
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True)
    assert not done.returncode, done.stderr


@pytest.mark.parametrize("script", ["weak_to_strong", "carry_over"])
def test_help_says_how_it_is_called(script: str) -> None:
    call = [sys.executable, f"{script}.py", "--help"]
    done = subprocess.run(call, cwd=SCRIPTS, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert f"python benchmarks/{script}.py" in done.stdout


@pytest.mark.slow
def test_the_gpu_script_is_rehearsed_line_by_line(tmp_path: Path) -> None:
    call = [sys.executable, "gpu.py", "--tiny", "--output", str(tmp_path / "gpu.json")]
    done = subprocess.run(call, cwd=SCRIPTS, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert not [row["what"] for row in rows if "failed" in row["what"]]
    assert {row["part"] for row in rows} == {"device pass", "operators", "labels", "step", "scoring"}
