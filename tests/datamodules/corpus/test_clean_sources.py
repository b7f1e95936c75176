"""Sources of reference labels: named ones with a split each, or the corpus's own videos made smaller."""

import csv
from pathlib import Path

import av
import pytest
import torch

from datamodules.corpus import Splits, assign_splits, build_corpus, find_sources, videos
from datamodules.corpus.smaller_copies import smaller
from datamodules.video import Sampling, read_clip

SPLITS = Splits(duplicates=False)


def write(path: Path, height: int, width: int, shift: int = 0) -> None:
    """Write twenty frames of a moving ramp."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "10"})
        stream.codec_context.height, stream.codec_context.width = height, width
        stream.codec_context.pix_fmt = "yuv420p"
        for time in range(20):
            ramp = (torch.arange(width) + 3 * time + 17 * shift).remainder(256).byte()
            picture = ramp.expand(height, width)[..., None].expand(-1, -1, 3).contiguous().numpy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four contents, two of which have the lines for a copy."""
    made = tmp_path_factory.mktemp("contents")
    for number, (height, width) in enumerate(((480, 640), (240, 320), (500, 360), (720, 1280))):
        write(made / f"{number}.mp4", height, width, number)
    return made


def test_videos_with_the_lines_are_made_smaller_once(folder: Path, tmp_path: Path) -> None:
    corpus = assign_splits(build_corpus(folder, cache=tmp_path, progress=False), (0.5, 0.25, 0.25))
    sources, originals = find_sources(None, corpus, SPLITS, tmp_path / "copies")
    learnt = {video.video_id: video for name in ("train", "select") for video in videos(corpus, name)}
    assert {originals[source.video_id] for source in sources} == set(learnt)
    for source in sources:
        video = learnt[originals[source.video_id]]
        assert (source.content, source.split) == (video.content, video.split)
        if min(video.height, video.width) < 480:
            assert source == video
        else:
            assert (source.height, source.width) == (video.height // 2, video.width // 2)
            assert 0.5 < source.duration < 0.8  # sixteen frames
            shown = read_clip(source, Sampling(frames=4, window=None)).frames
            assert shown.float().std() > 30  # and not an empty picture
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "copies").iterdir()}
    assert find_sources(None, corpus, SPLITS, tmp_path / "copies")[0] == sources
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "copies").iterdir()} == before


def test_named_sources_keep_their_split_and_none_is_reported(folder: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "sources.csv"
    with manifest.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "content", "split"))
        rows.writerows(
            (folder / f"{n}.mp4", f"c{n}", ("train", "select", "report", "train")[n]) for n in range(4)
        )
    corpus = build_corpus(folder, cache=tmp_path, progress=False)
    sources, originals = find_sources(manifest, corpus, SPLITS, tmp_path / "copies")
    assert [source.split for source in sources] == ["train", "select", "train", "train"]
    assert not originals
    assert not (tmp_path / "copies").exists()


def test_a_folder_of_few_sources_is_all_trained_on(folder: Path, tmp_path: Path) -> None:
    corpus = build_corpus(folder, cache=tmp_path, progress=False)
    sources, _ = find_sources(folder / "1.mp4", corpus, SPLITS, tmp_path / "copies")
    assert [source.split for source in sources] == ["train"]


def test_a_copy_averages_and_does_not_skip() -> None:
    noise = torch.randint(
        256, (1, 3, 480, 640), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    # Of four independent pixels the mean has half the deviation; a bicubic kernel reaches over some more.
    assert 0.3 < smaller(noise).float().std() / noise.float().std() < 0.5
