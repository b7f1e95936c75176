"""The command `report`, and the page that predict writes, through the real command line."""

import re
import shutil
from pathlib import Path

import pytest

from vqa_lightning.cli import main

HEADER = "path,score,stderr,status,error,model\n"

ODD = "<img src=x onerror=alert(1)> \"'&.mp4"


@pytest.fixture
def videos(mixed_corpus: Path) -> list[Path]:
    return sorted(mixed_corpus.glob("*.mp4"))[:3]


class TestCommand:
    def test_of_a_file_of_scores(
        self, here: Path, tiny_checkpoint: Path, videos: list[Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = here / "videos"
        folder.mkdir()
        for path in videos:
            shutil.copy(path, folder)
        (folder / ODD).write_bytes(b"no video")
        words = ["--ckpt_path", str(tiny_checkpoint), "--data.videos", "videos", "--data.score_every=0.2"]
        quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
        main(["predict", *words, *quiet, "--report=page.html"])
        main(["report", "scores.csv", "--output", "again.html"])
        assert "again.html: 4 videos" in capsys.readouterr().out
        texts = [(here / name).read_text() for name in ("page.html", "again.html")]
        pages = [re.sub(r"\d{4}-.* UTC", "", text) for text in texts]
        assert pages[0] == pages[1]
        assert pages[0].count("<section") == len(videos)

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            (None, "scores.csv does not exist"),
            ("", "scores.csv is no file that predict wrote"),
            (HEADER, "scores.csv has no row"),
            ("name,mos\na,1\n", "scores.csv is no file that predict wrote"),
            (
                "path,score,stderr,status,error,model\na,b,c,d,e,f\n",
                "scores.csv is no file that predict wrote",
            ),
        ],
    )
    def test_of_another_file_is_one_sentence(
        self, here: Path, text: str | None, sentence: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        if text is not None:
            (here / "scores.csv").write_text(text)
        with pytest.raises(SystemExit) as ended:
            main(["report", "scores.csv"])
        assert ended.value.code == 2
        assert sentence in capsys.readouterr().err

    def test_one_row_and_a_score_that_is_no_number_are_shown(self, here: Path) -> None:
        (here / "scores.csv").write_text(f"{HEADER}a.mp4,nan,nan,ok,,m\n")
        main(["report", "scores.csv"])
        assert "1 unreadable" in (here / "report.html").read_text()
