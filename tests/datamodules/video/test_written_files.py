"""Decoding of files written for the purpose: odd time stamps, names, tags, and what is no video."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from datamodules.errors import UnreadableVideo
from datamodules.video import Sampling, Video, probe, read_clip

DATA = Path(__file__).resolve().parents[3].parent / "shared/data"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real clips under ../shared/data are absent")


def write_video(path: Path, stamps: list[int], *, gop: int = 250) -> Path:
    """One grey frame per stamp (ms), whose brightness is 40 + 4 * its index; B-frames as x264 chooses."""
    size = 64
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size = gop
        for index, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(
                np.full((size * 3 // 2, size), 128, np.uint8), format="yuv420p"
            )
            shade = np.full((size, frame.planes[0].line_size), 40 + 4 * index, np.uint8)
            frame.planes[0].update(shade.tobytes())
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def shades(frames: torch.Tensor) -> list[int]:
    """Which frames of `write_video` these are, by their brightness."""
    limited = 16 + frames.double().mean(dim=(1, 2, 3)) * 219 / 255
    return [round(float(value)) for value in (limited - 40) / 4]


def test_variable_frame_rate_goes_by_time_stamps(tmp_path: Path) -> None:
    """50 frames a second for half a second, then 2: the middle by time is not that by number."""
    stamps = [*range(0, 500, 20), *range(500, 10500, 500)]
    video = probe(write_video(tmp_path / "vfr.mp4", stamps))
    assert video.duration == pytest.approx(10.5, abs=0.51)  # the last frame's length is the encoder's guess
    clip = read_clip(video, Sampling(segments=1, frames=3))
    first = shades(clip.frames)[0]
    assert shades(clip.frames) == [first, first + 1, first + 2]
    assert clip.times.tolist() == pytest.approx([stamps[first + i] / 1000 for i in range(3)], abs=1e-3)
    assert clip.times[0] == pytest.approx(video.duration / 2, abs=0.6)


def test_b_frames_and_many_keyframes_seek_to_the_right_frame(tmp_path: Path) -> None:
    video = probe(write_video(tmp_path / "gop.mp4", [40 * i for i in range(50)], gop=8))
    for draw in range(8):
        clip = read_clip(video, Sampling(segments=3, frames=3), draw)
        assert shades(clip.frames) == [round(float(t) / 0.04) for t in clip.times]


def test_a_stream_without_time_stamps_is_counted(tmp_path: Path) -> None:
    video = probe(write_video(tmp_path / "raw.h264", [40 * i for i in range(50)], gop=8))
    clip = read_clip(video, Sampling(segments=2, frames=3))
    assert video.duration == pytest.approx(2.0)
    assert shades(clip.frames) == [round(float(t) / 0.04) for t in clip.times]


@needs_data
def test_a_colon_and_a_percent_sign_in_a_name_are_letters(tmp_path: Path) -> None:
    path = tmp_path / "http:12%03d.mp4"
    path.write_bytes((DATA / "edge/h265_video.mp4").read_bytes())
    assert probe(path).width == 128


@needs_data
def test_identity_is_of_content_not_of_place(tmp_path: Path) -> None:
    source = DATA / "edge/h265_video.mp4"
    copy = tmp_path / "other name.mp4"
    copy.write_bytes(source.read_bytes())
    assert probe(copy).video_id == probe(source).video_id
    assert len({probe(path).video_id for path in (DATA / "edge").glob("video_*.mov")}) == 4


@needs_data
def test_interlaced_is_said(tmp_path: Path) -> None:
    path = tmp_path / "fields.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "tff=1"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        grey = av.VideoFrame.from_ndarray(np.full((96, 64), 128, np.uint8), format="yuv420p")
        container.mux([*stream.encode(grey), *stream.encode(None)])
    assert probe(path).interlaced
    assert not probe(DATA / "edge/h265_video.mp4").interlaced


def test_tags_in_another_encoding_are_no_obstacle(tmp_path: Path) -> None:
    source = write_video(tmp_path / "plain.mkv", [0, 40])
    path = tmp_path / "tagged.mkv"
    path.write_bytes(source.read_bytes().replace(b"Lavf", b"Lav\xe9"))
    assert probe(path).width == 64


@needs_data
def test_files_without_frames_end_in_one_sentence(tmp_path: Path, sound_file: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    (tmp_path / "notes.txt").write_text("not a video\n" * 100)
    (tmp_path / "head.mp4").write_bytes((DATA / "clips/carphone_pristine.mp4").read_bytes()[:20000])
    (tmp_path / "folder.mp4").mkdir()
    sound_file.rename(tmp_path / "sound.mp4")
    for name in ("empty.mp4", "text.mp4", "notes.txt", "head.mp4", "folder.mp4", "sound.mp4", "missing.mp4"):
        with pytest.raises(UnreadableVideo, match=name) as caught:
            probe(tmp_path / name)
        message = str(caught.value)
        assert message.endswith(".")
        assert "\n" not in message
        with pytest.raises(UnreadableVideo, match=name):
            read_clip(Video("id", str(tmp_path / name), fps=25, duration=1), Sampling())


@needs_data
def test_a_cut_file_gives_what_is_left(tmp_path: Path) -> None:
    """A download that broke off: what is there counts, and the duration is that of what is there."""
    source = DATA / "edge/testsrc2_vp9.webm"
    path = tmp_path / "cut.webm"
    path.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    video = probe(path)
    assert 0.2 < video.duration < 0.8  # 1.0 is declared
    assert read_clip(video, Sampling(segments=3)).frames.shape == (12, 3, 96, 96)
