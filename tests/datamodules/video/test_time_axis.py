"""The time axis: by itself, and of files whose stamps, durations or rates are wrong."""

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from math import nan
from pathlib import Path

import av
import numpy as np
import pytest
from av.packet import Packet
from hypothesis import given
from hypothesis import strategies as st

from datamodules.video import Clip, Cut, Sampling, probe, read_clip, read_clips
from datamodules.video.time_axis import Stamps, measure
from datamodules.video_data import intervals, shared_intervals

FRAMES, FPS = 60, 30
EVEN = [index / FPS for index in range(FRAMES)]


STAMP = st.one_of(st.just(nan), st.floats(-1e6, 1e12))


def grey(index: int) -> int:
    """The luma of a frame of `film`, by which it is known again."""
    return 40 + 3 * index


def film(
    path: Path,
    stamps: Sequence[float] = EVEN,
    shades: Sequence[int] = range(FRAMES),
    *,
    codec: str = "libx264",
    rate: int = FPS,
    ticks: int = 90000,
    restamp: Callable[[Packet, int], None] | None = None,
    **options: str,
) -> Path:
    """Write a grey frame at each stamp, in seconds; `restamp` is given each packet and its number."""
    with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as container:
        settings = {"g": "10", "crf": "30", "bf": "0", "preset": "ultrafast"} if "264" in codec else {}
        stream = container.add_stream(codec, rate=rate, options=settings | options)
        stream.width = stream.height = 64
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, ticks)
        number = 0
        for stamp, shade in zip([*stamps, None], [*shades[: len(stamps)], 0], strict=True):
            frame = None
            if stamp is not None:
                planes = np.full((96, 64), 128, np.uint8)
                planes[:64] = grey(shade)
                frame = av.VideoFrame.from_ndarray(planes, format="yuv420p").reformat(format=stream.pix_fmt)
                frame.pts, frame.time_base = round(stamp * ticks), Fraction(1, ticks)
            for packet in stream.encode(frame):
                if restamp is not None:
                    restamp(packet, number)
                number += 1
                container.mux(packet)
    return path


def indices(path: Path, draws: int = 8) -> list[int]:
    """Which frames the draws of a file begin with."""
    clips = read_clips(probe(path), Sampling(frames=2, window=32), [Cut(draw) for draw in range(draws)])
    return [round(luma_index(clip)) for clip in clips]


def luma_index(clip: Clip) -> float:
    """Which frame of `film` a clip begins with, by its luma."""
    return (16 + float(clip.frames[0].double().mean()) * 219 / 255 - 40) / 3


def hole(at: int, seconds: float) -> list[float]:
    return [stamp + seconds * (index >= at) for index, stamp in enumerate(EVEN)]


def zero(packet: Packet, number: int) -> None:
    packet.pts = packet.dts = 0


def stops(packet: Packet, number: int) -> None:
    if number > 20:
        packet.pts = packet.dts = round(20 / FPS / packet.time_base)


TROUBLED = {
    "hole.ts": (lambda path: film(path, hole(30, 72000)), "have a hole of 72000 s at 0.9667 s"),
    "b_frames.ts": (lambda path: film(path, hole(30, 72000), bf="2"), "have a hole of 72000 s"),
    "hole.mp4": (lambda path: film(path, hole(30, 20000)), "have a hole of 20000 s"),
    "hole.mkv": (lambda path: film(path, hole(30, 72000), ticks=1000), "have a hole of 72000 s"),
    "hole.webm": (lambda path: film(path, hole(30, 600), codec="libvpx", ticks=1000, g="10"), "have a hole"),
    "short_hole.ts": (lambda path: film(path, hole(30, 0.5)), "have a hole of 0.53333 s"),
    "after_first.mp4": (lambda path: film(path, hole(1, 6000)), "have a hole of 6000 s at 0 s"),
    "before_last.mp4": (lambda path: film(path, hole(59, 6000)), "have a hole of 6000 s at 1.933 s"),
    "frame_between.mkv": (
        lambda path: film(
            path, [a + b - c for a, b, c in zip(hole(30, 600), hole(31, 7200), EVEN, strict=True)], ticks=1000
        ),
        "have 2 holes of 7800.1 s, the first at 0.967 s",
    ),
    "stands.mkv": (lambda path: film(path, ticks=1000, restamp=zero), "stand still for 59 frames"),
    "stops.mkv": (lambda path: film(path, ticks=1000, restamp=stops), "stand still for 39 frames"),
    "before_zero.mkv": (
        lambda path: film(path, [stamp - 0.5 for stamp in EVEN], ticks=1000),
        "are absent from 15 of 60 frames",
    ),
    "raw.h264": (lambda path: film(path), "are absent"),
    "raw_b_frames.h264": (lambda path: film(path, bf="2"), "are absent"),
}
"""Name -> what writes 60 frames with stamps that no clock keeps, and the note on it."""


@pytest.mark.parametrize("name", TROUBLED)
def test_draws_lie_where_frames_are(tmp_path: Path, name: str) -> None:
    write, note = TROUBLED[name]
    path = write(tmp_path / name)
    video = probe(path)
    assert note in video.error
    assert video.remark.startswith(f"The time stamps of {path} {video.error}: its frames are taken ")
    assert video.status == "ok"
    assert video.duration == pytest.approx(FRAMES / video.fps, rel=0.01)
    sound = indices(film(tmp_path / "sound.mp4"))
    # Frames of other containers lie within a millisecond, and a draw between two takes the nearest.
    assert np.abs(np.subtract(indices(path), sound)).max() <= 1
    assert len(shared_intervals([video], 0.001)) == FRAMES


@pytest.mark.parametrize("name", TROUBLED)
def test_many_clips_in_one_pass_are_those_read_one_by_one(tmp_path: Path, name: str) -> None:
    video = probe(TROUBLED[name][0](tmp_path / name))
    sampling = Sampling(segments=2, frames=4, window=32)
    half = video.duration / 2
    cuts = [Cut(draw, span) for span in (None, (0.0, half), (half, video.duration)) for draw in range(4)]
    for cut, clip in zip(cuts, read_clips(video, sampling, cuts), strict=True):
        alone = read_clip(video, sampling, *cut)
        assert (clip.frames == alone.frames).all()
        assert (clip.times == alone.times).all()
        for segment in clip.times.reshape(2, 4):
            assert segment.diff().numpy() == pytest.approx(1 / video.fps, rel=0.1)


@pytest.mark.parametrize("name", ["long.ts", "long.mkv", "long.mp4"])
def test_seeking_in_a_long_file_lands_on_the_same_frames(tmp_path: Path, name: str) -> None:
    """Frames behind a hole, sought and read over: the luma of each tells its number, modulo FRAMES."""
    stamps = [index / FPS + 7200 * (index >= 900) for index in range(2400)]
    lumas = [index % FRAMES for index in range(len(stamps))]
    path = film(tmp_path / name, stamps, lumas, ticks=1000 if name.endswith("mkv") else 90000, bf="2")
    video = probe(path)
    assert video.duration == pytest.approx(80, rel=0.001)
    spans = [(start, start + 1.0) for start in (70.0, 3.0, 29.5, 50.0, 0.0, 79.0)]  # cuts are read in order
    clips = [read_clip(video, Sampling(frames=2, window=32), span=span) for span in spans]
    clips += read_clips(video, Sampling(frames=2, window=32), [Cut(0, span) for span in spans])
    for clip in clips:
        place = round(float(clip.times[0]) * video.fps)
        assert luma_index(clip) == pytest.approx(place % FRAMES, abs=0.6)


@pytest.mark.parametrize("ending", ["ts", "mkv"])
def test_joined_files_are_seen_whole(tmp_path: Path, ending: str) -> None:
    """Stamps that start anew name two frames each."""
    ticks = 1000 if ending == "mkv" else 90000
    halves = [film(tmp_path / f"{name}.{ending}", EVEN[:30], ticks=ticks) for name in "ab"]
    joined = tmp_path / f"joined.{ending}"
    joined.write_bytes(b"".join(half.read_bytes() for half in halves))
    video = probe(joined)
    assert video.duration == pytest.approx(2.0, rel=0.01)
    assert video.error == "start anew once, first at 1 s"
    clips = read_clips(video, Sampling(frames=1), [Cut(0, span) for span in shared_intervals([video], 0.5)])
    early, late, *again = (int(clip.frames.double().mean()) for clip in clips)
    assert early < late
    assert again == pytest.approx([early, late], abs=2)


@pytest.mark.parametrize("start", [0.0, 50000.0, 2**33 / 90000 - 1])
def test_where_a_clock_begins_or_wraps_does_not_matter(tmp_path: Path, start: float) -> None:
    path = film(tmp_path / "start.ts", [start + stamp for stamp in EVEN])
    assert probe(path).error == ""
    assert probe(path).duration == pytest.approx(2.0)
    assert indices(path) == indices(film(tmp_path / "sound.mp4"))


@pytest.mark.parametrize("seconds", [1e9, 0.1, 0.0, -5.0, nan])
def test_a_declared_duration_is_not_believed(tmp_path: Path, seconds: float) -> None:
    whole = film(tmp_path / "whole.mkv", ticks=1000).read_bytes()
    at = whole.index(b"\x44\x89\x88") + 3  # Duration, a float of 8 bytes in milliseconds
    path = tmp_path / "wrong.mkv"
    path.write_bytes(whole[:at] + struct.pack(">d", 1000 * seconds) + whole[at + 8 :])
    assert probe(path).duration == pytest.approx(2.0, abs=0.002)
    assert indices(path) == indices(tmp_path / "whole.mkv")


@pytest.mark.parametrize(("nanoseconds", "told"), [(10**9, "1"), (11111, "3e+04")])
def test_a_declared_rate_is_not_believed(tmp_path: Path, nanoseconds: int, told: str) -> None:
    whole = film(tmp_path / "whole.mkv", ticks=1000).read_bytes()
    at = whole.index(b"\x23\xe3\x83") + 3  # DefaultDuration, an integer
    length = whole[at] & 0x7F
    path = tmp_path / "wrong.mkv"
    path.write_bytes(whole[: at + 1] + nanoseconds.to_bytes(length, "big") + whole[at + 1 + length :])
    video = probe(path)
    assert (video.fps, video.duration) == pytest.approx((30, 2.0), rel=0.01)
    assert video.error == f"count 30 frames a second and not the declared {told}"
    assert indices(path) == indices(tmp_path / "whole.mkv")


@pytest.mark.parametrize("rate", ["90000:1", "1000000000:1"])
def test_a_rate_that_cannot_be_is_the_usual_one(tmp_path: Path, rate: str) -> None:
    path = tmp_path / "fast.y4m"
    path.write_bytes(f"YUV4MPEG2 W64 H64 F{rate} C420\n".encode() + 50 * (b"FRAME\n" + bytes(96 * 64)))
    assert (probe(path).fps, probe(path).duration) == pytest.approx((25.0, 2.0))


@pytest.mark.parametrize("name", ["one.mp4", "one.mkv", "one.ts", "one.gif"])
def test_a_single_frame_is_a_video(tmp_path: Path, name: str) -> None:
    gif = {"codec": "gif", "rate": 10} if name.endswith("gif") else {}
    video = probe(film(tmp_path / name, [0.0], ticks=100, **gif))  # type: ignore[arg-type]
    assert 0 < video.duration <= 0.1
    assert len(shared_intervals([video], 0.01)) == 1
    assert read_clip(video, Sampling(frames=3)).times.tolist() == [0.0, 0.0, 0.0]


def test_a_pause_of_a_gif_is_a_hole(tmp_path: Path) -> None:
    path = film(tmp_path / "pause.gif", [0, 0.1, 0.2, 3, 3.1, 3.2, 3.3], codec="gif", rate=10, ticks=100)
    assert probe(path).error == "have a hole of 2.8 s at 0.2 s"
    assert probe(path).duration == pytest.approx(0.7)


def test_frames_that_an_edit_list_hides_are_not_there(tmp_path: Path) -> None:
    path = film(tmp_path / "hidden.mp4", [stamp - 0.5 for stamp in EVEN])
    assert probe(path).duration == pytest.approx(1.5)
    assert min(indices(path)) >= 15


class TestIntervals:
    def test_lie_where_frames_begin(self, tmp_path: Path) -> None:
        """Half a second of 50 frames a second, then two frames a second: no hole, and few frames."""
        video = probe(film(tmp_path / "slower.mp4", [*np.arange(25) / 50, *np.arange(1, 21) / 2]))
        assert video.error == ""
        assert len(shared_intervals([video], 0.009)) == 45
        spans = shared_intervals([video], 0.3)
        assert spans[:4] == [(0.0, 0.3), (0.3, 0.6), (0.9, 1.2), (1.5, 1.8)]
        assert len(spans) == 2 + 19

    def test_of_a_frame_every_ten_minutes_are_as_many_as_frames(self, tmp_path: Path) -> None:
        video = probe(film(tmp_path / "slow.mkv", [600.0 * index for index in range(12)], ticks=1000))
        assert [start for start, _ in shared_intervals([video], 1.0)] == [600 * index for index in range(12)]

    @given(st.lists(st.floats(0, 1e5), min_size=1, max_size=30), st.floats(0.001, 1e4), st.floats(0.001, 100))
    def test_are_no_more_than_frames_and_rise(self, times: list[float], length: float, fps: float) -> None:
        spans = intervals(max(times) + 1 / fps, length, fps, sorted(times))
        assert 1 <= len(spans) <= len(times)
        assert all(start < end for start, end in spans)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))


class TestMeasure:
    @given(
        st.lists(
            st.tuples(STAMP, STAMP, st.floats(0, 1e9), st.booleans()),
            min_size=1,
            max_size=40,
        ),
        st.floats(-10, 1e9),
    )
    def test_every_frame_has_one_place_and_time_never_goes_back(
        self, told: list[tuple[float, float, float, bool]], rate: float
    ) -> None:
        axis = measure([Stamps(*one) for one in told], rate)
        assert len(axis.times) == len(told)
        assert axis.times[0] == 0
        assert (np.diff(axis.times) >= 0).all()
        assert np.isfinite(axis.times).all()
        assert axis.fps > 0
        assert axis.duration > 0
        assert axis.places is None or sorted(axis.places.tolist()) == list(range(len(told)))

    @given(st.floats(1, 200), st.integers(1, 50), st.floats(-1e5, 1e5))
    def test_an_even_clock_is_taken_as_it_is(self, rate: float, count: int, start: float) -> None:
        stamps = [start + index / rate for index in range(count)]
        axis = measure([Stamps(stamp, stamp, 1 / rate, True) for stamp in stamps], rate)
        assert axis.note == ""
        assert axis.times == pytest.approx(np.array(stamps) - start, abs=1e-6)

    def test_a_rate_that_changes_makes_no_hole(self) -> None:
        steps = [0.02] * 30 + [0.5] * 30 + [5.0] * 30 + [0.02] * 30
        stamps = np.cumsum(steps).tolist()
        rate = len(stamps) / stamps[-1]
        assert measure([Stamps(stamp, stamp, 0.0, True) for stamp in stamps], rate).note == ""
