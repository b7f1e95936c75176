"""A run of three rounds that is as small as rounds get, for tests that run it many times."""

import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from vqa_lightning.cli import main

SMALLEST = """
trainer:
  accelerator: cpu
  max_epochs: 3
  enable_progress_bar: false
  enable_model_summary: false
  log_every_n_steps: 1
  limit_val_batches: 1
  callbacks:
    - class_path: callbacks.SelfImprovement
      init_args: {{calibration_simulators: [gaussian_noise]}}
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {{filename: best, monitor: round/probe, mode: max, enable_version_counter: false,
        save_on_train_epoch_end: true}}
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint  # after the best, whose score it remembers
      init_args: {{filename: last, enable_version_counter: false, save_on_train_epoch_end: true}}
model:
  lmm:
    quality_tower: null
    pictures: true
    feature_cache: null
    embedded: {{image_size: 32, hidden_size: 32, vision_layers: 1, text_layers: 1}}
  sampling: {{frames: 2, window: 32}}
  scoring: {{anchors: 2, draws: 2, whole: false}}
data:
  class_path: datamodules.RoundDataModule
  init_args:
    videos: {videos}
    labels: labels
    batch_size: 4
    workers: 0
    counts: {{synthetic: 12, teacher: 8, reference: 0, evaluation: 4}}
    drawing: {{draws: 2}}
    simulators: [gaussian_blur, jpeg]
    teachers: [{{class_path: datamodules.Artefacts}}, {{class_path: datamodules.SITI}}]
    splits: {{shares: [0.5, 0.25, 0.25], duplicates: false}}
"""


@pytest.fixture(scope="session")
def smallest(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words of the smallest run, whose label store lies in the current folder."""
    config = tmp_path_factory.mktemp("smallest") / "smallest.yaml"
    config.write_text(SMALLEST.format(videos=small_corpus / "manifest.csv"))
    return ["fit", "--config", "round.yaml", "--config", str(config)]


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What may be found in the cache by all runs of a test session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: None) -> Path:
    """An empty current folder with a cache and label store of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vqa-lightning"])
    return tmp_path


@pytest.fixture
def videos(mixed_corpus: Path, here: Path) -> Path:
    """A folder of four videos of half a second."""
    folder = here / "videos"
    folder.mkdir()
    for file in sorted(mixed_corpus.glob("*.mp4"))[:4]:
        shutil.copy(file, folder)
    return folder


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Calls what is to end with exit code 2 and one sentence; returns the sentence."""

    def end(command: Callable[..., object], *arguments: object) -> str:
        with pytest.raises(SystemExit) as ended:
            command(*arguments)
        assert ended.value.code == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        return line.removeprefix("error: ")

    return end


@contextmanager
def no_file_above(size: int | None) -> Iterator[None]:
    """Lets no file become larger, as a full disk would; None: no limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft if size is None else size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="session")
def run(shared_cache: Path) -> Callable[..., int]:
    """Runs the command line in a folder, in this process; returns its exit code."""

    def run_here(here: Path, words: Sequence[str], size: int | None = None) -> int:
        here.mkdir(exist_ok=True)
        with pytest.MonkeyPatch.context() as patch, no_file_above(size):
            patch.chdir(here)
            patch.setenv("XDG_CACHE_HOME", str(shared_cache))
            patch.setattr(sys, "argv", ["vqa-lightning"])
            try:
                main(list(words))
            except SystemExit as ended:
                return int(ended.code or 0)
        return 0

    return run_here


@pytest.fixture(scope="session")
def start(shared_cache: Path) -> Callable[..., "subprocess.Popen[bytes]"]:
    """Starts the command line in a folder, in a session of its own; its output goes to `log` there."""

    def begin(here: Path, words: Sequence[str]) -> "subprocess.Popen[bytes]":
        here.mkdir(exist_ok=True)
        environment = {**os.environ, "XDG_CACHE_HOME": str(shared_cache), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "vqa_lightning", *words]
        with (here / "log").open("a") as log:
            return subprocess.Popen(
                command, cwd=here, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    return begin


STORE = {"object_store_memory": 200_000_000, "include_dashboard": False}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of Ray with two cores, to which this process is connected."""
    ray = pytest.importorskip("ray")
    ray.init("local", num_cpus=2, log_to_driver=False, logging_level="ERROR", **STORE)
    yield
    ray.shutdown()


@pytest.fixture
def two_machines() -> Iterator[Any]:
    """A cluster of Ray: a head that does no work, and two nodes that do."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    ray.shutdown()
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **STORE})
    for _ in range(2):
        started.add_node(num_cpus=2, object_store_memory=STORE["object_store_memory"])
    started.wait_for_nodes()
    yield started
    ray.shutdown()
    started.shutdown()


@pytest.fixture
def one_dies(two_machines: Any) -> Callable[[Path, int], AbstractContextManager[list[int]]]:
    """While a `with` block runs, one of two machines is killed as soon as a folder has a part."""

    @contextmanager
    def dying(folder: Path, place: int) -> Iterator[list[int]]:
        """Give a list that will have the number of parts that were there."""
        found: list[int] = []

        def kill() -> None:
            while not list(folder.glob("part-*")):
                time.sleep(0.01)
            found.append(len(list(folder.glob("part-*"))))
            nodes = [node for node in two_machines.list_all_nodes() if not node.is_head()]
            two_machines.remove_node(nodes[place], allow_graceful=False)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        yield found
        killer.join()
        assert len(two_machines.list_all_nodes()) == 2  # the head and one of two

    return dying
