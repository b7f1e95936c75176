"""Take the README's two pictures: a report of some of the embedded corpus, and TensorBoard of a run.

    python docs/take_pictures.py runs/round/version_0

Needs a Chromium. The clips are rendered by this package, so that the pictures are anyone's.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from datamodules.files import cache_folder
from datamodules.procedural import VERSION, write_corpus
from datamodules.round_data import EMBEDDED_CONTENTS

PICTURES = Path(__file__).with_name("pictures")
PORT = 6123


def take(address: str, picture: Path, size: tuple[int, int], wait: int = 0) -> None:
    """Take a picture of a page in a window of a size in pixels, after some milliseconds of its time."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("A Chromium is needed to take pictures: install one.")
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={picture}"]
    words += [f"--window-size={size[0]},{size[1]}", *([f"--virtual-time-budget={wait}"] if wait else [])]
    subprocess.run([browser, *words, address], check=True, capture_output=True, timeout=120)


def report(folder: Path) -> None:
    """Score a dozen videos of the embedded corpus, and take a picture of the page."""
    corpus = write_corpus(cache_folder() / f"embedded-{VERSION}", EMBEDDED_CONTENTS).parent
    (folder / "videos").mkdir()
    for file in sorted(corpus.glob("*.mp4"))[::33]:
        shutil.copy(file, folder / "videos")
    words = ["predict", "--data.videos", "videos", "--data.score_every", "0.2", "--report", "report.html"]
    subprocess.run([sys.executable, "-m", "vqa_lightning", *words], cwd=folder, check=True)
    take((folder / "report.html").as_uri(), PICTURES / "report.png", (1100, 820))


def tensorboard(run: Path) -> None:
    """Take a picture of TensorBoard's images of a run."""
    words = ["--logdir", str(run), "--port", str(PORT), "--samples_per_plugin", "images=100"]
    server = subprocess.Popen([sys.executable, "-m", "tensorboard.main", *words])
    try:
        address = f"http://localhost:{PORT}"
        for _ in range(60):
            time.sleep(1)
            try:
                urlopen(address).close()
                break
            except OSError:
                continue
        take(f"{address}/?darkMode=false#images", PICTURES / "tensorboard.png", (1280, 900), wait=20000)
    finally:
        server.terminate()


def main() -> None:
    """Take both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run")
    run = parser.parse_args().run
    PICTURES.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        report(Path(folder))
    tensorboard(run)


if __name__ == "__main__":
    main()
