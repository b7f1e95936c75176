"""Material for all tests: real clips where there are some, and a small procedural corpus made once."""

from pathlib import Path

import pytest

from datamodules.procedural import write_corpus

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
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of eight procedural videos with manifest and truth."""
    return write_corpus(tmp_path_factory.mktemp("corpus"), contents=8).parent
