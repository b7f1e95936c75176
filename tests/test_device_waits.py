"""`device_waits.py` in a process of its own: autograd counts devices once, before its first backward pass."""

import subprocess
import sys
from pathlib import Path


def test_a_step_on_an_accelerator_makes_the_host_wait_for_nothing() -> None:
    file = Path(__file__).with_name("device_waits.py")
    words = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", str(file)]
    done = subprocess.run(words, cwd=file.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
