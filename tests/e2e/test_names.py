"""Files of any name through the real command line: scored, listed, found again, on pages and for CI."""

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from datamodules.names import file_of
from vqa_lightning.cli import main

NAMES = (
    b"caf\xe9.mp4", "été.mp4".encode(), b"a\nb.mp4", b"a,b\"'.mp4", b"-a.mp4", b"a..mp4", "😀.mp4".encode(),
    "\u202ea.mp4".encode(), b"n" * 251 + b".mp4", b"a.mp4 ", b" a.mp4", rb"\xe9.mp4", b"\x1b[31m.mp4",
    b"[red].mp4", b"<b>&amp;.mp4", b"=1+1.mp4", b"*.mp4",
)  # fmt: skip

PLAIN = {
    "LC_ALL": "POSIX",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "utf-8:backslashreplace",
}


@pytest.fixture
def odd(here: Path, mixed_corpus: Path) -> list[str]:
    """Videos of all names in the folder `odd`; their names as Python has them."""
    (here / "odd").mkdir()
    for name in NAMES:
        shutil.copyfile(mixed_corpus / "video-0.mp4", here / "odd" / os.fsdecode(name))
    return sorted(os.fsdecode(name) for name in NAMES)


def predict(checkpoint: Path, videos: str, *more: str) -> list[str]:
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    return ["predict", "--ckpt_path", str(checkpoint), "--data.videos", videos, *quiet, *more]


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_every_name_is_scored_and_found_again(here: Path, tiny_checkpoint: Path, odd: list[str]) -> None:
    main(predict(tiny_checkpoint, "odd", "--report=page.html", "--junit=ci.xml"))
    rows = rows_of(here / "scores.csv")
    assert sorted(file_of(row["path"]).name for row in rows) == odd
    assert {row["status"] for row in rows} == {"ok"}
    assert all(len(row["path"].splitlines()) == 1 for row in rows)
    (suite,) = ElementTree.parse(here / "ci.xml").getroot()
    assert [case.get("name") for case in suite] == [row["path"] for row in rows]
    page = (here / "page.html").read_text("utf-8")
    assert r"caf\xe9.mp4" in page
    assert "\x1b" not in page
    # Each format is read where scores are read, and is a manifest of the same files.
    main(["curate", "scores.csv", "--keep=1", "--most=100", "--output=kept.parquet"])
    for number, list_of_them in enumerate(("scores.csv", "kept.parquet")):
        again = f"again-{number}.jsonl"
        main(predict(tiny_checkpoint, list_of_them, f"--output={again}"))
        main(["report", again])
        main(predict(tiny_checkpoint, again, f"--output=last-{number}.csv", "--baseline=scores.csv"))
        last = {row["path"]: row["score"] for row in rows_of(here / f"last-{number}.csv")}
        assert last == {row["path"]: row["score"] for row in rows}


def test_no_locale_is_needed(here: Path, tiny_checkpoint: Path, odd: list[str]) -> None:
    main(predict(tiny_checkpoint, "odd"))
    output = os.fsdecode(b"caf\xe9.csv")
    words = predict(tiny_checkpoint, f"odd/{os.fsdecode(NAMES[0])}", f"--output={output}")
    for given in (predict(tiny_checkpoint, "odd", "--output=plain.csv"), words):
        command = [sys.executable, "-m", "vqa_lightning", *given]
        subprocess.run(command, env={**os.environ, **PLAIN}, check=True, capture_output=True)
    assert (here / "plain.csv").read_bytes() == (here / "scores.csv").read_bytes()
    (row,) = rows_of(here / output)
    assert row["path"] == r"odd/caf\xe9.mp4"


def test_raw_bytes_pass_through_words_and_settings(
    here: Path, tiny_checkpoint: Path, odd: list[str], mixed_corpus: Path
) -> None:
    name = os.fsdecode(b"odd/caf\xe9.mp4")
    main(["compare", name, str(mixed_corpus / "video-0.mp4"), "--ckpt_path", str(tiny_checkpoint)])
    assert r"caf\xe9.mp4" in (here / "compare.html").read_text("utf-8")
    (here / "mine.yaml").write_text(r"data: {videos: 'odd/caf\xe9.mp4'}")
    main(["predict", "--config=mine.yaml", "--ckpt_path", str(tiny_checkpoint), "--trainer.accelerator=cpu"])
    assert [row["path"] for row in rows_of(here / "scores.csv")] == [r"odd/caf\xe9.mp4"]


@pytest.mark.parametrize(
    ("videos", "told"),
    [
        ("https://example.com/a.mp4", "https://example.com/a.mp4 is an address, and only files are read"),
        ("dupcol.csv", "dupcol.csv must name each column once; got path, path."),
        ("blank.csv", "The manifest blank.csv must have a path in each row; got none in row 2."),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9 does not exist"),
        ("n" * 300, "(File name too long)"),
        ("", "data.videos must be a folder, a file, a glob or a manifest; got none."),
    ],
)
def test_a_fault_is_one_sentence(
    here: Path, tiny_checkpoint: Path, refused: Callable[..., str], videos: str, told: str
) -> None:
    (here / "dupcol.csv").write_text("path,path\na.mp4,b.mp4\n")
    (here / "blank.csv").write_text("path,content\na.mp4,x\n,y\nb.mp4,z\n")
    assert told in refused(main, predict(tiny_checkpoint, videos))
