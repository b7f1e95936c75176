"""The code of every how-to runs as it stands, in the order of its page, on a few small videos."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs" / "how").glob("*.md"))

BLOCK = re.compile(r'^```(sh|python)(?: title="([\w.]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_runs(
    page: Path, here: Path, mixed_corpus: Path, small_corpus: Path, smallest: list[str]
) -> None:
    for name in ("videos", "masters", "before", "after"):
        (here / name).mkdir()
        for file in sorted(small_corpus.glob("*.mp4") if name == "masters" else mixed_corpus.glob("*.mp4"))[
            :4
        ]:
            shutil.copy(file, here / name)
    blocks = BLOCK.findall(page.read_text())
    assert blocks
    for kind, title, code in blocks:
        if title:
            (here / title).write_text(code)
            continue
        if kind == "sh":
            # What a how-to trains is made small: the settings of the smallest run, under what is typed.
            code = code.replace("--config round.yaml", f"--config round.yaml --config {smallest[-1]}")
            code = code.replace("vqa-lightning ", f"{sys.executable} -m vqa_lightning ")
        words = ["bash", "-euc", code] if kind == "sh" else [sys.executable, "-c", code]
        done = subprocess.run(words, cwd=here, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
