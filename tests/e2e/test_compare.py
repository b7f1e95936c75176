"""The command `compare` and its page, through the real command line and in a browser."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from vqa_lightning.cli import main

ODD = "<img src=x onerror=alert(1)> \"'&$a$"


def write(path: Path, crf: int, encoder: str = "libx264", frames: int = 12, size: int = 64) -> Path:
    """Write moving noise, of one content whatever the other arguments."""
    path.parent.mkdir(exist_ok=True)
    picture = np.random.default_rng(0).integers(40, 216, (12, 16, 3), np.uint8)
    picture = picture.repeat(size // 16, axis=0).repeat(size // 16, axis=1)
    with av.open(str(path), "w") as container:
        options = {"crf": str(crf), "preset": "ultrafast"} if encoder == "libx264" else {}
        stream = container.add_stream(encoder, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = size, 3 * size // 4, "yuv420p"
        for time in range(frames):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, 3 * time, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def compare(here: Path, tiny_checkpoint: Path) -> Callable[..., str]:
    """Runs the command in the current folder; returns the page."""

    def run(*words: str) -> str:
        main(["compare", *words, "--ckpt_path", str(tiny_checkpoint), "--score_every=0.2"])
        return (here / "compare.html").read_text()

    return run


def test_two_encodes(compare: Callable[..., str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "a.mp4", 10)
    write(here / "b.mp4", 40, frames=9, size=96)
    page = compare("a.mp4", "b.mp4")
    assert "compare.html: 1 pair" in capsys.readouterr().out
    assert page.count('type="range"') == page.count("<figcaption>") >= 1
    assert "A 64 x 48, B 96 x 72" in page
    assert "A 0.48 s, B 0.36 s): the first 0.36 s are compared" in page
    assert "Scores of A and B over time" in page
    assert not re.findall(r"url\((?!#)|@import|https?://(?!www\.w3\.org)", page)
    assert all(
        address.startswith("data:image/jpeg;base64,") for address in re.findall(r'src="([^"]*)"', page)
    )


def test_two_folders(compare: Callable[..., str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", ODD, "broken", "lone"):
        write(here / "a" / f"{name}.mp4", 10)
        write(here / "b" / f"{name}.mkv", 30)
    (here / "b" / "broken.mkv").write_bytes(b"no video")
    (here / "a" / "lone.mp4").unlink()
    page = compare("a", "b", "--pictured=1")
    told = " ".join(capsys.readouterr().out.split())
    assert "without a counterpart: b/lone.mkv" in told
    assert "unreadable: b/broken.mkv cannot be opened" in told
    assert "compare.html: 2 pairs" in told
    assert "3 contents, two encodes of each" in page
    assert "1 file without a counterpart" in page
    assert "b/broken.mkv cannot be opened" in page
    assert "1 of 2 pairs, those in which the second falls most" in page
    assert page.count("<section") == 1
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt; &#34;&#39;&amp;$a$") >= 1


def test_ladders(compare: Callable[..., str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for crf in (10, 25, 40):
        write(here / "x" / f"{crf}.mp4", crf)
        write(here / "y" / f"{crf}.mp4", crf + 5)
    page = compare("--ladder", "<b>$x$</b>=x", "--ladder", "y=y/*.mp4")
    assert "BD-rate of y to <b>$x$</b>: " in " ".join(capsys.readouterr().out.split())
    assert "BD-rate of y to &lt;b&gt;$x$&lt;/b&gt;" in page
    assert page.count("<details") == 3
    assert "Score against bit rate" in page
    assert "<b>" not in page


def test_more_than_two_go_on_without_one(compare: Callable[..., str], here: Path) -> None:
    for crf in (10, 25, 40):
        write(here / f"{crf}.mp4", crf)
    (here / "broken.mp4").write_bytes(b"")
    page = compare("10.mp4", "broken.mp4", "25.mp4", "40.mp4", "--title", "<b>mine</b>")
    assert "<title>&lt;b&gt;mine&lt;/b&gt;</title>" in page
    assert "broken.mp4 is empty" in page
    assert "C beside A" in page
    assert "D beside A" in page


def test_a_browser_sorts_and_slides_without_an_error(
    compare: Callable[..., str], here: Path, in_browser: Callable[[str, str], str]
) -> None:
    for place, name in enumerate(("one", ODD, "three")):
        write(here / "a" / f"{name}.mp4", 10 + 10 * place)
        write(here / "b" / f"{name}.mp4", 40)
    told = """
    const all = (selector) => [...document.querySelectorAll(selector)];
    const rates = () => all("#summary tbody tr").map((row) => Number(row.children[3].dataset.value));
    const said = [], button = all("#summary th button")[3];
    for (const _ of [1, 2]) { button.click(); said.push(rates()); }
    const [range] = all(".frames input"), [over] = all(".over");
    for (const value of [50, 20]) {
      range.value = value;
      range.dispatchEvent(new Event("input"));
      said.push(getComputedStyle(over).clipPath);
    }
    document.title = JSON.stringify(said);
    """
    up, down, *cuts = json.loads(in_browser(compare("a", "b"), told))
    assert up == sorted(up) == down[::-1]
    assert len(set(up)) == 3
    assert cuts == ["inset(0px 0px 0px 50%)", "inset(0px 0px 0px 20%)"]


def test_a_real_clip_and_its_encode(
    compare: Callable[..., str], clips_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("carphone_pristine.mp4", "carphone_distorted.mp4")
    page = compare(*(str(clips_folder / name) for name in names))
    rates = re.findall(r'<td class="number "\s+data-value="([\d.]+)">\d+</td>', page)
    assert float(rates[0]) > 10 * float(rates[1]) > 0
    assert "589 kB" in page
    assert "7.02 kB" in page


class TestBadInput:
    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            ([], "compare needs two encodes or more, two folders, or --ladder NAME=FOLDER twice; got none."),
            (
                ["a.mp4"],
                "compare needs two encodes or more, two folders, or --ladder NAME=FOLDER twice; got a",
            ),
            (["a.mp4", "gone.mp4"], "gone.mp4 does not exist"),
            (["a.mp4", "empty.mp4"], "empty.mp4 is empty"),
            (["a.mp4", "folder"], "compare takes two folders, or files alone; got a.mp4, folder."),
            (["folder", "other"], "folder and other share no name"),
            (["folder", "twins"], "twins has two files of one name, a.mkv and a.mp4"),
            (
                ["a.csv", "b.csv"],
                "compare takes videos; got a.csv: two files of scores are compared by vqa-light",
            ),
            (["--first", "a.csv", "--second", "b.csv"], "compare takes videos; got a.csv"),
            (["--ladder", "x=folder"], "--ladder must be NAME=FOLDER or NAME=GLOB, and given twice"),
            (["--ladder", "x=folder", "--ladder", "other"], "--ladder must be NAME=FOLDER or NAME=GLOB"),
            (["a.mp4", "--ladder", "x=folder"], "--ladder must stand in place of videos; got a.mp4 besides."),
            (["a.mp4", "a.mp4", "--score_every", "0"], "--score_every must be more than 0; got 0.0."),
            (
                ["a.mp4", "a.mp4", "--output", "page.pdf"],
                "The suffix of --output page.pdf must be one of .html",
            ),
            (["a.mp4", "a.mp4", "--tilte", "x"], "--tilte is not a setting; the nearest is --title."),
            (["a.mp4", "a.mp4", "--ckpt_path", "a.mp4"], "The checkpoint a.mp4 cannot be loaded"),
        ],
    )
    def test_is_one_sentence(
        self, here: Path, refused: Callable[..., str], words: list[str], sentence: str
    ) -> None:
        for name in ("a.mp4", "folder/one.mp4", "other/two.mp4", "twins/a.mp4", "twins/a.mkv"):
            write(here / name, 20)
        (here / "empty.mp4").write_bytes(b"")
        assert refused(main, ["compare", *words]).startswith(sentence)
        assert not (here / "compare.html").exists()

    def test_without_a_readable_pair(
        self, here: Path, tiny_checkpoint: Path, refused: Callable[..., str]
    ) -> None:
        write(here / "a" / "x.mp4", 20)
        (here / "b").mkdir()
        (here / "b" / "x.mp4").write_bytes(b"")
        sentence = refused(main, ["compare", "a", "b", "--ckpt_path", str(tiny_checkpoint)])
        assert sentence.startswith("not two encodes of a content could be read; the first: b/x.mp4 is empty")
