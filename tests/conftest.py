"""Material for all tests: real clips where there are some, small corpora, and untrained weights."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from datamodules.procedural import write_corpus

# Property tests try few cases and always the same; many and others with --hypothesis-profile long.
_ANY_MACHINE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile(
    "quick", max_examples=25, deadline=None, derandomize=True, suppress_health_check=_ANY_MACHINE
)
settings.register_profile("long", max_examples=2000, deadline=None, suppress_health_check=_ANY_MACHINE)


def pytest_configure(config: pytest.Config) -> None:
    """One thread in each process, here and in those that tests start: they share the cores.

    They hear signals, too: what a shell or nohup starts in the background inherits that some are ignored.
    """
    for one in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(one) == signal.SIG_IGN:
            signal.signal(one, lambda *_: None)  # which is the default again in a program that is started
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    if config.getoption("--hypothesis-profile") is None:
        settings.load_profile("quick")


LONGEST = ("test_survival.py", "test_ends.py", "test_machines.py")
"""Files whose slow tests take minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first: the process that begins one last would let the others wait."""
    items.sort(key=lambda item: [*LONGEST, item.path.name].index(item.path.name))


SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"


def _real(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"no real videos at {folder}")
    return folder


@pytest.fixture(scope="session")
def clips_folder() -> Path:
    return _real("clips")


@pytest.fixture(scope="session")
def edge_folder() -> Path:
    return _real("edge")


@pytest.fixture(scope="session")
def faults_folder() -> Path:
    return _real("faults")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that nothing has been written to."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of eight procedural videos with manifest and truth, one a content, and no clean renders."""
    folder = write_corpus(tmp_path_factory.mktemp("corpus"), contents=8, chains=1).parent
    shutil.rmtree(folder / "references")  # a folder of videos is searched whole
    return folder


SIZES = ((64, 48), (48, 64), (96, 64))
"""Width and height of the frames in the mixed corpus."""


@pytest.fixture(scope="session")
def mixed_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of nine short videos of moving noise, three of each of SIZES, no two of a size in a row."""
    folder = tmp_path_factory.mktemp("mixed")
    for index in range(9):
        width, height = SIZES[index % 3]
        blocks = np.random.default_rng(index).integers(40, 216, (height // 4, width // 4, 3), np.uint8)
        picture = blocks.repeat(4, axis=0).repeat(4, axis=1)
        with av.open(str(folder / f"video-{index}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "18", "preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for time in range(12):
                frame = av.VideoFrame.from_ndarray(np.roll(picture, 3 * time, axis=1), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return folder


@pytest.fixture
def sound_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MP4 that has a second of silence and no picture."""
    path = tmp_path_factory.mktemp("sound") / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def save_checkpoint() -> Callable[..., Path]:
    """Saves the untrained weights of a tiny model as fit does: with the command line's hyper-parameters."""
    import torch
    from lightning.pytorch.cli import LightningCLI

    from vqa_lightning.training import RankingModule

    def save(path: Path, *settings: str, seed: int = 0) -> Path:
        sizes = ("image_size=32", "hidden_size=32", "vision_layers=1", "text_layers=1")
        tiny = [f"lmm.embedded.{size}" for size in sizes]
        cuts = ("sampling.frames=2", "sampling.window=32", "scoring.anchors=3")
        cli = LightningCLI(
            RankingModule,
            run=False,
            save_config_callback=None,
            seed_everything_default=seed,
            auto_configure_optimizers=False,
            trainer_defaults={"accelerator": "cpu", "barebones": True},
            args=[f"--model.{setting}" for setting in (*tiny, *cuts, *settings)],
        )
        module: RankingModule = cli.model
        module.configure_model()
        module.scale.copy_(torch.tensor([0.0, 0.02, 0.7, 0.001]))  # of the order of untrained scores
        if module.score_by == "pairwise":
            module.eval()
            module.set_anchors(list(torch.randint(256, (3, 2, 3, 32, 32), dtype=torch.uint8)))
        cli.trainer.strategy.connect(module)
        cli.trainer.save_checkpoint(path)
        return path

    return save


@pytest.fixture(scope="session")
def tiny_checkpoint(save_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained weights that score pointwise."""
    return save_checkpoint(tmp_path_factory.mktemp("tiny") / "last.ckpt")


@pytest.fixture(scope="session")
def with_shm() -> Callable[..., list[str]]:
    """Gives the words that run a command beside a /dev/shm of its own, of some size."""
    own = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    small = 'mount -t tmpfs -o size="$0" tmpfs /dev/shm && exec "$@"'
    if shutil.which("unshare") is None or subprocess.run([*own, small, "1m", "true"]).returncode:
        pytest.skip("needs a file system of its own")
    return lambda size, *words: [*own, small, size, *words]


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def in_browser(tmp_path: Path) -> Callable[[str, str], str]:
    """Runs a script behind a page in a headless browser, where nothing may be said on the console.

    Returns the title that the script gives the page.
    """
    if CHROMIUM is None:
        pytest.skip("needs chromium")

    def run(page: str, script: str) -> str:
        file = tmp_path / "in_browser.html"
        file.write_text(page.replace("</html>", f"<script>{script}</script></html>"))
        words = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
        command = [str(CHROMIUM), *words, f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert "CONSOLE" not in done.stderr
        (title,) = re.findall(r"<title>(.*?)</title>", done.stdout)
        return str(title)

    return run
