"""Copies are found under other encodings, sizes and tones; unlike videos, black ones and stills are not."""

from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest

from datamodules.corpus import assign_splits, build_corpus, find_duplicates, join_contents, videos
from datamodules.corpus.duplicates import (
    BITS,
    FRAMES,
    THRESHOLD,
    distances,
    group_hashes,
    hash_video,
)
from datamodules.corpus.table import SCHEMA
from datamodules.procedural import write_corpus
from datamodules.video import probe

DATA = Path(__file__).resolve().parents[3].parent / "shared/data"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real clips under ../shared/data are absent")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write_copy(source: Path, copy: Path, bar: float = 0) -> None:
    """Half the size, brighter and less contrast, H.264 at CRF 32; with black bars of a part of its height."""
    with av.open(str(source)) as read, av.open(str(copy), "w") as written:
        pictures = read.streams.video[0]
        stream = written.add_stream("libx264", rate=pictures.average_rate)
        width, height = (pictures.width // 4 * 2, pictures.height // 4 * 2)
        bars = int(bar * height) // 2 * 2
        stream.width, stream.height, stream.pix_fmt = width, height + 2 * bars, "yuv420p"
        stream.options = {"crf": "32", "preset": "ultrafast"}
        for frame in read.decode(pictures):
            image = 30 + 0.8 * frame.reformat(width, height, "rgb24").to_ndarray()
            image = np.pad(image.clip(0, 255).astype(np.uint8), ((bars, bars), (0, 0), (0, 0)))
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")):
                written.mux(packet)
        for packet in stream.encode():
            written.mux(packet)


def write_noise(path: Path, level: int, seed: int) -> None:
    """One second of one flat level with the noise of a sensor in the dark."""
    generator = np.random.default_rng(seed)
    with av.open(str(path), "w") as written:
        stream = written.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.options = {"crf": "20"}
        for _ in range(10):
            image = (level + generator.normal(0, 2, (96, 128, 3))).clip(0, 255).astype(np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")):
                written.mux(packet)
        for packet in stream.encode():
            written.mux(packet)


@needs_data
def test_the_known_pairs_of_the_clips_and_nothing_else() -> None:
    corpus = build_corpus(DATA / "clips", progress=False)
    names = {video.video_id: Path(video.path).name for video in videos(corpus)}
    groups = [[names[video_id] for video_id in group] for group in find_duplicates(corpus, progress=False)]
    assert groups == [
        ["Seeking_10_288_375.mp4", "Seeking_30_480_1050.mp4"],
        ["carphone_distorted.mp4", "carphone_pristine.mp4"],
    ]


@needs_data
@pytest.mark.parametrize("name", sorted(path.name for path in (DATA / "clips").glob("*")))
def test_a_reencoded_smaller_brighter_copy_is_found(name: str, tmp_path: Path) -> None:
    source = DATA / "clips" / name
    write_copy(source, tmp_path / "copy.mp4", bar=0.25)
    hashes, seen = zip(*(hash_video(probe(path)) for path in (source, tmp_path / "copy.mp4")), strict=True)
    labels = group_hashes(np.stack(hashes), np.stack(seen))
    assert labels[0] == labels[1]


def test_procedural_contents_are_no_duplicates(tmp_path: Path) -> None:
    """Four of them, for rendering is slow; all 128 have no pair nearer than .41."""
    corpus = build_corpus(write_corpus(tmp_path / "embedded", 4, workers=1, chains=1), progress=False)
    hashes, seen = (np.stack(part) for part in zip(*map(hash_video, videos(corpus)), strict=True))
    first, second = np.triu_indices(len(hashes), 1)
    apart = distances(hashes.view(np.uint64), seen, first, second)
    assert apart.min() > THRESHOLD + 0.1  # far enough that no chance of the codec brings them together
    assert apart.mean() == pytest.approx(0.5, abs=0.03)  # of bits that say nothing of each other


def test_black_and_flat_videos_are_not_alike(tmp_path: Path) -> None:
    for index, level in enumerate((0, 0, 8, 128, 128, 255)):
        write_noise(tmp_path / f"{index}.mp4", level, seed=index)
    assert find_duplicates(build_corpus(tmp_path, progress=False), progress=False) == []


def test_copies_among_many_are_found_by_their_bands() -> None:
    """Random hashes, a few of them with copies in which one bit in ten differs."""
    generator = np.random.default_rng(0)
    bits = generator.random((20000, FRAMES, BITS + 1)) < 0.5
    bits[100:200] = bits[:100] ^ (generator.random((100, FRAMES, BITS + 1)) < 0.1)
    labels = group_hashes(np.packbits(bits, axis=2), np.ones((len(bits), FRAMES), dtype=bool))
    assert (labels[:100] == labels[100:200]).mean() >= 0.97  # .998 expected, of 100
    assert len(np.unique(labels[200:])) == len(bits) - 200


def corpus_of(contents: list[str], splits: list[str]) -> pa.Table:
    rows = [
        {"video_id": f"v{index}", "path": f"{index}.mp4", "content": content, "split": split}
        | {"width": 64, "height": 64, "fps": 25.0, "duration": 1.0, "interlaced": False}
        | {"status": "ok", "error": "", "codec": "h264"}
        for index, (content, split) in enumerate(zip(contents, splits, strict=True))
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def test_groups_stay_on_one_side_of_the_splits() -> None:
    corpus = corpus_of([f"c{index // 2}" for index in range(60)], [""] * 60)
    joined = join_contents(corpus, [["v0", "v20", "v41"], ["v21", "v50"]])  # v20 and v21 are one content
    assert len(set(joined["content"].to_pylist())) == 30 - 3
    for seed in range(5):
        splits = assign_splits(joined, seed=seed)["split"].to_pylist()
        assert len({splits[index] for index in (0, 1, 20, 21, 40, 41, 50, 51)}) == 1
    assert join_contents(corpus, []).equals(corpus)


def test_typed_splits_stand_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    corpus = corpus_of(["a", "b", "c", "d"], ["train", "report", "", "select"])
    joined = join_contents(corpus, [["v0", "v1"], ["v2", "v3"]])
    assert joined["content"].to_pylist() == ["a", "b", "c", "c"]
    assert "0.mp4 and 1.mp4" in caplog.text
    assert assign_splits(joined)["split"].to_pylist() == ["train", "report", "select", "select"]
