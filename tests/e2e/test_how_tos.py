"""The code of every how-to runs as it stands, in the order of its page, on a few small videos."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from vqa_lightning.cli import main

PAGES = sorted((Path(__file__).parents[2] / "docs" / "how").glob("*.md"))

BLOCK = re.compile(r'^```(sh|python)(?: title="([\w.]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_runs(
    page: Path,
    here: Path,
    mixed_corpus: Path,
    small_corpus: Path,
    smallest: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # the command line puts the current folder last
    for name in ("videos", "masters", "before", "after"):
        (here / name).mkdir()
        corpus = small_corpus if name == "masters" else mixed_corpus
        for file in sorted(corpus.glob("*.mp4"))[:4]:
            shutil.copy(file, here / name)
    blocks = BLOCK.findall(page.read_text())
    assert blocks
    for kind, title, code in blocks:
        if title:
            (here / title).write_text(code)
        elif kind == "python":
            exec(compile(code, page.name, "exec"), {"__name__": "__main__"})
        else:
            # What a how-to trains is made small: the settings of the smallest run, under what is typed.
            small = code.replace("--config round.yaml", f"--config round.yaml --config {smallest[-1]}")
            command, *words = shlex.split(small)
            assert command == "vqa-lightning"
            main(words)
