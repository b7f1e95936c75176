"""Material for all tests: real clips where there are some, and a small procedural corpus made once."""

from pathlib import Path

import av
import numpy as np
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
