import subprocess
import sys

import pytest

WHOLE = """
import os, signal, sys, types

cli = types.ModuleType("vqa_lightning.cli")
cli.main = lambda: {end}
sys.modules["vqa_lightning.cli"] = cli

class Late:
    def __del__(self):  # by then the interpreter answers no signal any more
        os.kill(os.getpid(), signal.{signal})

sys.modules["late"] = Late()
from vqa_lightning.__main__ import start
start()
"""


@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize(("end", "code"), [("None", 0), ("sys.exit(3)", 3)])
def test_a_signal_that_comes_when_the_interpreter_ends_changes_no_exit_code(
    signal: str, end: str, code: int
) -> None:
    program = WHOLE.format(signal=signal, end=end)
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == code
