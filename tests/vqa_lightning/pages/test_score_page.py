"""The page of scores: what is on it, what it escapes, and that a browser shows and sorts it."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from vqa_lightning.pages.page import short_names
from vqa_lightning.pages.score_page import score_page, worst

ODD = "<img src=x onerror=alert(1)> \"'&.mp4"


def row(path: str, score: float | None, **more: Any) -> dict[str, Any]:
    error = "" if score is not None else "cannot be opened as a video: <b>no</b>."
    return {
        "path": path,
        "score": score,
        "stderr": None if score is None else 1.5,
        "status": "error" if error else "ok",
        "error": error,
        "model": "RankingModule-0",
        "percentile": None if score is None else 10.0 * (score - 40),
        **more,
    }


def intervals(path: str, scores: list[float | None]) -> list[dict[str, Any]]:
    return [
        {"path": path, "start": float(place), "end": place + 1.0, "score": score, "stderr": 1.0}
        for place, score in enumerate(scores)
    ]


class Tags(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def sources(self) -> list[str]:
        found = [attributes.get("src") or attributes.get("href") or "" for _, attributes in self.tags]
        return [address for address in found if address]


@pytest.fixture
def videos(mixed_corpus: Path) -> list[str]:
    return [str(path) for path in sorted(mixed_corpus.glob("*.mp4"))[:3]]


class TestPage:
    def test_has_every_video_with_its_picture_curve_and_worst_moments(self, videos: list[str]) -> None:
        rows = [row(path, 45.0 + place) for place, path in enumerate(videos)]
        seconds = intervals(videos[0], [44.0, 50.0])
        seconds[0]["end"] = seconds[1]["start"] = 0.25
        seconds[1]["end"] = 0.5
        found = Tags(score_page(rows, seconds, "of a test"))
        pictures = [one for tag, one in found.tags if tag == "img"]
        assert len(pictures) == len(videos) + 1  # neighbours are one moment
        assert "".join(found.text).count("0.0 s: 44.0") == 1
        labels = [attributes.get("aria-label") for _, attributes in found.tags]
        assert labels.count(f"Score over time of {Path(videos[0]).name}") == 1
        cells = [attributes for tag, attributes in found.tags if tag == "td"]
        scores = [cell["data-value"] for cell in cells if cell.get("class") == "number"]
        assert scores == ["45.0", "46.0", "47.0"]

    def test_loads_nothing(self, videos: list[str]) -> None:
        page = score_page([row(path, 45.0) for path in videos], [], "of a test")
        assert all(re.match(r"data:image/jpeg;base64,|#", address) for address in Tags(page).sources())
        assert not re.findall(r"url\((?!#)|@import|https?://(?!www\.w3\.org)", page)

    def test_escapes_names_and_reasons(self) -> None:
        page = score_page([row(ODD, 45.0), row(f"b{ODD}", None)], intervals(ODD, [44.0, 50.0]), ODD)
        found = Tags(page)
        assert not [one for tag, one in found.tags if tag in ("img", "b")]
        assert "".join(found.text).count("<b>no</b>") == 1
        assert ODD in "".join(found.text)

    def test_without_the_files_or_a_score_it_is_still_a_page(self) -> None:
        assert "unreadable" in score_page([row("gone.mp4", None)], [], "none")
        assert "1 video scored" in score_page([row("gone.mp4", 41.0)], [], "one")
        assert "The worst 1 have pictures" in score_page([row("a", 41.0), row("b", 42.0)], [], "two", 1)

    def test_names_are_as_short_as_they_may(self) -> None:
        assert short_names(["a/x.mp4", "b/x.mp4", "b/y.mp4", "b/y.mp4"]) == {
            "a/x.mp4": "a/x.mp4",
            "b/x.mp4": "b/x.mp4",
            "b/y.mp4": "y.mp4",
        }
        assert short_names([]) == {}

    def test_worst_moments_are_apart_and_in_order(self) -> None:
        found = worst(intervals("a", [30.0, 29.0, 50.0, None, 40.0, 41.0, 35.0]))
        assert [one["start"] for one in found] == [1.0, 4.0, 6.0]


def test_a_browser_sorts_it_without_an_error(
    in_browser: Callable[[str, str], str], videos: list[str]
) -> None:
    rows = [row(path, score) for path, score in zip([*videos, ODD], (50.0, 41.0, 46.0, 44.0), strict=True)]
    rows[1]["percentile"] = None
    page = score_page(rows, intervals(videos[1], [40.0, 42.0, 41.0]), ODD)
    told = """
    const rows = () => [...document.querySelectorAll("#videos tbody tr")];
    const order = () => rows().map((row) => row.children[2].textContent);
    const said = [order()];
    const [name, score, error, percentile] = document.querySelectorAll("#videos th button");
    for (const button of [score, percentile, percentile, name]) { button.click(); said.push(order()); }
    document.title = said.map((one) => one.join(" ")).join("; ");
    """
    assert in_browser(page, told).split("; ")[:4] == [
        "41.0 44.0 46.0 50.0",
        "50.0 46.0 44.0 41.0",
        "44.0 46.0 50.0 41.0",
        "50.0 46.0 44.0 41.0",
    ]
