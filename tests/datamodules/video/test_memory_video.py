from pathlib import Path

import pytest
import torch

from datamodules.errors import InputError
from datamodules.video import Sampling, Video, probe, read_clip
from datamodules.video.memory_video import memory_video

DATA = Path(__file__).resolve().parents[3].parent / "shared/data"

SAMPLINGS = [
    Sampling(frames=4, window=72),
    Sampling(segments=3, frames=2, window=None),
    Sampling(segments=4, frames=1, spacing=0.5, window=500),
]


def frames_of(video: Video) -> torch.Tensor:
    return read_clip(video, Sampling(frames=round(video.duration * video.fps), window=None)).frames


@pytest.mark.skipif(not DATA.is_dir(), reason="the real clips under ../shared/data are absent")
@pytest.mark.parametrize(
    "name",
    ["clips/foreman_cif.y4m", "clips/carphone_pristine.mp4", "edge/testsrc2_odd_height_and_width_444.mp4"],
)
def test_is_cut_as_the_file_with_its_frames(name: str) -> None:
    video = probe(DATA / name)
    frames = frames_of(video)
    spans = (None, (0.1, 0.3), (video.duration - 0.01, video.duration))
    for held in (memory_video(frames, video.fps), memory_video(frames / 255, video.fps)):
        assert held.duration == pytest.approx(video.duration)
        for sampling in SAMPLINGS:
            for span in spans:
                found, file = (read_clip(one, sampling, span=span) for one in (held, video))
                assert torch.equal(found.frames, file.frames)
                # Time stamps of a file are rounded to its time base.
                assert torch.allclose(found.times, file.times, atol=1e-3)


def test_random_draws_are_those_of_any_video() -> None:
    frames = torch.randint(256, (40, 3, 48, 64), dtype=torch.uint8)
    sampling = Sampling(segments=2, frames=2, window=16)
    one, other = (
        [read_clip(memory_video(video), sampling, draw).frames for draw in range(4)]
        for video in (frames, 255 - frames)
    )
    assert len({int(clip.sum()) for clip in one}) == 4
    assert all(torch.equal(a, 255 - b) for a, b in zip(one, other, strict=True))


def test_a_defect_anywhere_makes_another_video() -> None:
    frames = torch.randint(256, (61, 3, 16, 16), dtype=torch.uint8)
    broken = frames.clone()
    broken[41] = 0
    assert memory_video(frames).video_id == memory_video(frames.clone()).video_id
    assert memory_video(frames).video_id != memory_video(broken).video_id


def test_one_frame_is_repeated() -> None:
    frame = torch.randint(256, (1, 3, 16, 16), dtype=torch.uint8)
    clip = read_clip(memory_video(frame), Sampling(segments=2, frames=3, window=None), draw=1)
    assert torch.equal(clip.frames, frame.expand(6, -1, -1, -1))


@pytest.mark.parametrize(
    ("frames", "fps", "what"),
    [
        (torch.zeros(3, 8, 8), 30.0, "shape"),
        (torch.zeros(2, 8, 8, 3), 30.0, "shape"),
        (torch.zeros(0, 3, 8, 8), 30.0, "shape"),
        (torch.full((2, 3, 8, 8), 255.0), 30.0, "floats from 255 to 255"),
        (torch.full((2, 3, 8, 8), torch.nan), 30.0, "floats from nan"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.int64), 30.0, "int64"),
        (torch.zeros(2, 3, 8, 8), 0.0, "frames per second .*; got 0.0"),
    ],
)
def test_what_is_no_video_is_one_sentence(frames: torch.Tensor, fps: float, what: str) -> None:
    with pytest.raises(InputError, match=what):
        memory_video(frames, fps)
