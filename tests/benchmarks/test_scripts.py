"""Every script under benchmarks/ still finds what it imports, and says how it is called."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


PROGRAM = """
import importlib, sys
for name in {names}:
    importlib.import_module(name)
for name in {asked}:
    sys.argv = [name, "--help"]
    try:
        importlib.import_module(name).main()
    except SystemExit as ended:
        assert not ended.code
"""


def test_every_module_can_be_imported_and_says_how_it_is_called() -> None:
    asked = ["weak_to_strong", "carry_over"]
    code = PROGRAM.format(names=sorted(file.stem for file in SCRIPTS.glob("*.py")), asked=asked)
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert all(f"python benchmarks/{script}.py" in done.stdout for script in asked)


@pytest.mark.slow
def test_the_gpu_script_is_rehearsed_line_by_line(tmp_path: Path) -> None:
    call = [sys.executable, "gpu.py", "--tiny", "--output", str(tmp_path / "gpu.json")]
    done = subprocess.run(call, cwd=SCRIPTS, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert not [row["what"] for row in rows if "failed" in row["what"]]
    assert {row["part"] for row in rows} == {"device pass", "operators", "labels", "step", "scoring"}
