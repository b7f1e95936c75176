"""Decoding against plain PyAV and numpy, on real files that break readers."""

import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import torch

from datamodules.errors import InputError
from datamodules.video import Cut, Sampling, probe, read_clip, read_clips
from datamodules.video.colour import WindowConverter, hdr_to_sdr

DATA = Path(__file__).resolve().parents[3].parent / "shared/data"
WHOLE = Sampling(window=None)

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real clips under ../shared/data are absent")

# (width, height, frames per second, duration, codec); every file of clips/ and edge/ gives frames.
EXPECTED = {
    "clips/10053703034.mp4": (960, 540, 29.97, 8.008, "h264"),
    "clips/1724.mp4": (406, 720, 29.97, 8.108, "h264"),
    "clips/Seeking_10_288_375.mp4": (384, 288, 25, 6.0, "h264"),
    "clips/Seeking_30_480_1050.mp4": (720, 480, 25, 6.0, "h264"),
    "clips/bigbuckbunny.mp4": (1280, 720, 25, 5.28, "h264"),
    "clips/carphone_distorted.mp4": (176, 144, 29.97, 4.004, "h264"),
    "clips/carphone_pristine.mp4": (176, 144, 29.97, 4.004, "h264"),
    "clips/foreman_cif.y4m": (352, 288, 29.97, 0.334, "rawvideo"),
    "clips/nasa_13013.mp4": (320, 180, 25, 13.0, "h264"),
    "clips/park_joy_480x270_10f.y4m": (480, 270, 50, 0.2, "rawvideo"),
    "clips/vsfa_test.mp4": (960, 540, 29.97, 8.008, "h264"),
    "clips/w2s_anchor_1.mp4": (640, 360, 24, 2.875, "mpeg4"),
    "clips/w2s_anchor_2.mp4": (720, 1280, 30, 5.067, "mpeg4"),
    "edge/av1_video.mkv": (640, 360, 25, 5.0, "av1"),
    "edge/bt601_full_range.mp4": (320, 240, 30, 2.0, "h264"),
    "edge/bt601_limited_range.mp4": (320, 240, 30, 2.0, "h264"),
    "edge/bt709_full_range.mp4": (1280, 720, 30, 1.0, "h264"),
    "edge/corrupted.mp4": (1280, 720, 10, 5.0, "h264"),  # the packets of all 50 frames are there; 28 decode
    "edge/discard_first_keyframe.mp4": (64, 64, 25, 1.0, "h264"),
    "edge/h264_10bits.mp4": (200, 200, 30, 1.0, "h264"),
    "edge/h265_video.mp4": (128, 128, 10, 1.0, "hevc"),
    "edge/nasa_13013_rotated.mp4": (270, 480, 29.97, 0.567, "h264"),
    "edge/noise.y4m": (320, 240, 25, 0.12, "rawvideo"),
    "edge/sine_stereo_mp2.mpg": (128, 128, 25, 4.0, "mpeg1video"),  # declared 3.9
    "edge/sunset-hlg.mov": (1920, 1080, 30, 0.167, "hevc"),
    "edge/test_non_zero_start.mp4": (200, 112, 30, 0.4, "h264"),
    "edge/test_video_vp9_2160p_600f.mkv": (3840, 2160, 60, 10.0, "vp9"),
    "edge/testsrc2_mpeg4.avi": (1280, 720, 30, 1.0, "mpeg4"),
    "edge/testsrc2_mpeg4.mp4": (64, 64, 25, 0.04, "mpeg4"),
    "edge/testsrc2_odd_height_and_width_444.mp4": (321, 241, 25, 1.0, "h264"),
    "edge/testsrc2_odd_height_and_width_vp9_10bit.mp4": (321, 241, 25, 1.0, "vp9"),
    "edge/testsrc2_odd_width_mpeg2.mp4": (121, 80, 25, 0.4, "mpeg2video"),
    "edge/testsrc2_vp8.webm": (1280, 720, 30, 1.0, "vp8"),
    "edge/testsrc2_vp9.webm": (1280, 720, 30, 1.0, "vp9"),
    "edge/unordered.mov": (50, 50, 32, 0.125, "h264"),
    "edge/video_0.mov": (568, 320, 30, 0.1, "h264"),
    "edge/video_180.mov": (568, 320, 30, 0.1, "h264"),
    "edge/video_270.mov": (320, 568, 30, 0.1, "h264"),
    "edge/video_90.mov": (320, 568, 30, 0.1, "h264"),
}


def plain_frames(path: Path) -> Iterator[tuple[float, av.VideoFrame]]:
    """All frames by PyAV alone, in order, with their seconds from the stream's start."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        start = float((stream.start_time or 0) * stream.time_base)
        try:
            for frame in container.decode(stream):
                yield frame.time - start, frame
        except av.InvalidDataError:
            return


def luma(frame: av.VideoFrame) -> npt.NDArray[np.float64]:
    plane = frame.planes[0]
    kind = np.uint16 if plane.line_size >= 2 * plane.width else np.uint8
    return np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width].astype(np.float64)


@pytest.mark.parametrize("name", EXPECTED)
def test_every_file_is_probed_and_gives_its_clip(name: str) -> None:
    video = probe(DATA / name)
    width, height, fps, duration, codec = EXPECTED[name]
    assert (video.width, video.height, video.codec, video.status) == (width, height, codec, "ok")
    assert video.fps == pytest.approx(fps, rel=1e-3)
    # One frame: containers round time stamps, and an edit list may hide the last packet.
    assert video.duration == pytest.approx(duration, abs=1.01 / fps)
    clip = read_clip(video, Sampling())
    assert clip.frames.shape == (4, 3, 96, 96)
    assert clip.frames.dtype == torch.uint8
    assert clip.times.dtype == torch.float64
    assert clip.frames.max() > 0  # no file here is black in the middle


def test_expectations_cover_every_file() -> None:
    files = [path for folder in ("clips", "edge") for path in (DATA / folder).iterdir()]
    assert {f"{path.parent.name}/{path.name}" for path in files} == set(EXPECTED)


@pytest.mark.parametrize("name", [n for n in EXPECTED if "2160p" not in n])
def test_frames_are_consecutive_and_those_of_a_plain_reader(name: str) -> None:
    """Seeking, skipping and falling back give exactly the frames that decoding from the start gives."""
    video = probe(DATA / name)
    convert = WindowConverter(video.path, window=96, place=(0.5, 0.5))
    truth = [(time, frame) for time, frame in plain_frames(DATA / name)]
    order = [round(time, 6) for time, _ in truth]
    for sampling in (Sampling(3, 4), Sampling(2, 8, spacing=0.7), Sampling(5, 3)):
        clip = read_clip(video, sampling)
        places = torch.tensor([order.index(round(float(t), 6)) for t in clip.times])
        for segment in places.reshape(sampling.segments, sampling.frames).tolist():
            assert segment == [min(segment[0] + i, len(order) - 1) for i in range(sampling.frames)]
        for image, place in zip(clip.frames, places.tolist(), strict=True):
            assert np.array_equal(image.permute(1, 2, 0).numpy(), convert(truth[place][1]))


def test_probe_and_clip_of_damage_end_at_the_last_good_frame() -> None:
    video = probe(DATA / "edge/corrupted.mp4")
    late = read_clip(video, Sampling(segments=5, frames=4))
    assert late.times[-4:].tolist() == pytest.approx([2.4, 2.5, 2.6, 2.7])  # 28 frames at 10 a second


def test_a_video_shorter_than_a_segment_repeats_its_last_frame() -> None:
    clip = read_clip(probe(DATA / "edge/video_0.mov"), Sampling(frames=5))
    assert clip.times.tolist() == pytest.approx([0, 1 / 30, 2 / 30, 2 / 30, 2 / 30])
    assert torch.equal(clip.frames[2], clip.frames[4])


def test_start_that_is_not_zero_counts_from_the_first_frame() -> None:
    clip = read_clip(probe(DATA / "edge/test_non_zero_start.mp4"), Sampling(frames=12))
    assert clip.times.tolist() == pytest.approx([i / 30 for i in range(12)], abs=1e-3)  # stamps in 1/15360 s


@pytest.mark.parametrize(("name", "quarter_turns"), [("video_90", -1), ("video_180", 2), ("video_270", 1)])
def test_rotation_is_applied(name: str, quarter_turns: int) -> None:
    path = DATA / f"edge/{name}.mov"
    clip = read_clip(probe(path), Sampling(frames=1, window=None))
    stored = next(plain_frames(path))[1].to_ndarray(format="rgb24").astype(np.int64)
    turned = np.rot90(stored, quarter_turns)
    shown = clip.frames[0].permute(1, 2, 0).numpy()
    assert shown.shape == turned.shape
    # Two chroma interpolations of the same planes: 3 codes on average at most; a wrong turn gives over 30.
    assert np.abs(shown - turned).mean() < 3


MATRICES = {"601": (0.299, 0.114), "709": (0.2126, 0.0722)}


@pytest.mark.parametrize(
    ("name", "matrix", "full", "bits"),
    [
        ("bt601_full_range.mp4", "601", True, 8),
        ("bt601_limited_range.mp4", "601", False, 8),
        ("bt709_full_range.mp4", "709", True, 8),
        ("testsrc2_vp8.webm", "601", False, 8),  # 720 lines, but the stream names BT.470BG
        ("testsrc2_vp9.webm", "709", False, 8),  # names none: 720 lines
        ("h264_10bits.mp4", "601", False, 10),
        ("testsrc2_odd_height_and_width_vp9_10bit.mp4", "601", False, 10),
    ],
)
def test_luma_returns_by_the_right_matrix_and_range(name: str, matrix: str, full: bool, bits: int) -> None:
    """K_r R + K_g G + K_b B is the stored luma, whatever the chroma interpolation, where none is clipped."""
    kr, kb = MATRICES[matrix]
    clip = read_clip(probe(DATA / "edge" / name), Sampling(frames=1, window=None))
    rgb = clip.frames[0].permute(1, 2, 0).double().numpy()
    stored = next(
        luma(f) for t, f in plain_frames(DATA / "edge" / name) if abs(t - float(clip.times[0])) < 1e-6
    )
    step = 2 ** (bits - 8)
    expected = stored / (256 * step - 1) if full else (stored - 16 * step) / (219 * step)
    inside = ((rgb > 1) & (rgb < 254)).all(axis=-1)
    assert inside.sum() > 500
    difference = np.abs(rgb @ [kr, 1 - kr - kb, kb] - 255 * expected)[inside]
    # Rounding of three channels leaves at most 0.5, chroma that overshoots at coloured edges a little more;
    # the other matrix or range moves coloured areas by several codes.
    assert np.median(difference) <= 0.5
    assert difference.mean() < 0.5


def test_444_equals_numpy_to_one_code() -> None:
    path = DATA / "edge/testsrc2_odd_height_and_width_444.mp4"
    clip = read_clip(probe(path), Sampling(frames=1, window=None))
    frame = next(f for t, f in plain_frames(path) if abs(t - float(clip.times[0])) < 1e-6)
    y, cb, cr = frame.to_ndarray().astype(np.float64)
    y, cb, cr = (y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
    rgb = np.stack([y + 1.402 * cr, y - (0.114 * 1.772 * cb + 0.299 * 1.402 * cr) / 0.587, y + 1.772 * cb])
    expected = np.rint(255 * rgb.clip(0, 1))
    assert np.abs(clip.frames[0].numpy() - expected).max() <= 1  # FFmpeg's matrix is in fixed point


def test_ten_bits_are_rounded_to_eight() -> None:
    """A ramp of the 10-bit greys: each becomes the nearest of 8 bits, never truncated, never dithered."""
    ramp = np.tile(np.arange(64, 940, dtype=np.uint16), (16, 1))
    planes = np.concatenate([ramp, np.full((8, 876), 512, np.uint16)])
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p10le")
    frame.time_base = Fraction(1, 25)
    shown = WindowConverter("ramp", None, (0.5, 0.5))(frame)
    expected = np.rint((ramp - 64.0) / 876 * 255)[..., None]
    # FFmpeg's matrix is in fixed point, which may turn a near tie either way.
    assert np.abs(shown - expected).max() <= 1
    assert (shown == expected).mean() > 0.95
    assert (shown == shown[:1]).all()


@pytest.mark.parametrize("hlg", [True, False])
def test_hdr_rule_keeps_black_grey_and_order(hlg: bool) -> None:
    ramp = np.repeat(np.linspace(0, 65535, 512).astype(np.uint16)[None, :, None], 3, axis=2)
    shown = hdr_to_sdr(ramp, hlg=hlg)
    assert shown[0, 0].tolist() == [0, 0, 0]
    assert (np.diff(shown[0, :, 1].astype(int)) >= 0).all()
    # The rows of the primaries' matrix sum to 1 within 1e-4, so grey stays grey to a code.
    assert np.ptp(shown.astype(int), axis=-1).max() <= 1
    white = np.full((1, 1, 3), round(65535 * (0.75 if hlg else 0.5807)), np.uint16)  # 203 cd/m2 in BT.2408
    assert hdr_to_sdr(white, hlg=hlg)[0, 0, 0] == pytest.approx(255 * 0.816 ** (1 / 2.4), abs=1)


def test_hlg_file_is_shown_bright_but_not_clipped() -> None:
    frames = read_clip(probe(DATA / "edge/sunset-hlg.mov"), Sampling(frames=1, window=None)).frames
    assert 150 < frames.double().mean() < 230  # a sky: bright, and blue rather than white
    assert (frames == 255).double().mean() < 0.01


@pytest.mark.parametrize("name", ["clips/vsfa_test.mp4", "edge/bt601_full_range.mp4", "edge/h264_10bits.mp4"])
@pytest.mark.parametrize("draw", [0, 1, 2])
def test_window_is_a_part_of_the_whole_frame(name: str, draw: int) -> None:
    """Cutting before converting changes nothing, not even chroma at the border; 33 is not a multiple of 2."""
    video = probe(DATA / name)
    window = read_clip(video, Sampling(frames=1, window=33), draw).frames[0]
    whole = read_clip(video, Sampling(frames=1, window=None), draw).frames[0]
    places = whole.unfold(1, 33, 1).unfold(2, 33, 1)  # (C, rows, columns, 33, 33)
    equal = torch.ones(places.shape[1:3], dtype=torch.bool)
    for y, x in ((0, 0), (16, 16), (32, 5), (9, 32)):  # a few points first, for all of it would be slow
        equal &= (places[:, :, :, y, x] == window[:, None, None, y, x]).all(dim=0)
    assert any(torch.equal(places[:, y, x], window) for y, x in equal.nonzero().tolist())
    if draw == 0:
        top, left = (whole.shape[1] - 32) // 2, (whole.shape[2] - 32) // 2
        assert torch.equal(whole[:, top : top + 33, left : left + 33], window)


def test_small_frames_are_padded_with_their_border() -> None:
    clip = read_clip(probe(DATA / "edge/unordered.mov"), Sampling(frames=1))
    whole = read_clip(probe(DATA / "edge/unordered.mov"), Sampling(frames=1, window=None))
    assert torch.equal(clip.frames[:, :, 23:73, 23:73], whole.frames)
    assert torch.equal(clip.frames[:, :, 0, 23:73], whole.frames[:, :, 0])


def test_draws_are_deterministic_and_differ() -> None:
    video = probe(DATA / "clips/Seeking_10_288_375.mp4")
    sampling = Sampling(segments=2, frames=2)
    torch.manual_seed(0)
    first = read_clip(video, sampling, draw=3)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global generator is what must not matter
    again = read_clip(video, sampling, draw=3)
    assert torch.equal(first.frames, again.frames)
    assert torch.equal(first.times, again.times)
    assert len({tuple(read_clip(video, sampling, d).times.tolist()) for d in range(6)}) > 3
    starts = [read_clip(video, sampling, d).times.reshape(2, 2)[:, 0] for d in range(6)]
    assert all(s[0] <= video.duration / 2 <= s[1] + 2 / video.fps for s in starts)  # each in its own half


def test_draw_is_the_same_in_another_process() -> None:
    path = DATA / "clips/carphone_distorted.mp4"
    code = (
        "import sys; from datamodules.video import *\n"
        "clip = read_clip(probe(sys.argv[1]), Sampling(2, 2), 5)\n"
        "print(clip.times.tolist(), int(clip.frames.sum()))"
    )
    command = [sys.executable, "-c", code, str(path)]
    printed = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONHASHSEED": "7"}
    )
    clip = read_clip(probe(path), Sampling(2, 2), 5)
    assert printed.stdout.strip() == f"{clip.times.tolist()} {int(clip.frames.sum())}"


def test_all_segments_have_one_window(tmp_path: Path) -> None:
    """A still picture: equal windows are equal places."""
    path = tmp_path / "still.y4m"
    noise = np.random.default_rng(0).integers(16, 235, (120, 80), dtype=np.uint8).tobytes()  # 80x80 in 4:2:0
    path.write_bytes(b"YUV4MPEG2 W80 H80 F25:1 C420\n" + 20 * (b"FRAME\n" + noise))
    for draw in range(4):
        frames = read_clip(probe(path), Sampling(segments=3, frames=2, window=32), draw).frames
        assert (frames == frames[:1]).all()


def test_spacing_sets_the_distance_of_segments() -> None:
    clip = read_clip(probe(DATA / "clips/nasa_13013.mp4"), Sampling(segments=3, frames=2, spacing=1.0))
    assert clip.times.reshape(3, 2)[:, 0].diff().tolist() == pytest.approx([1.0, 1.0])
    assert clip.times.mean() == pytest.approx(6.5, abs=0.05)  # centred, to a frame


class TestSpans:
    def test_a_clip_lies_inside_its_span(self) -> None:
        video = probe(DATA / "clips/nasa_13013.mp4")
        for sampling in (Sampling(2, 3), Sampling(3, 2, spacing=1.0), Sampling(3, 2, spacing=0.2)):
            for draw in range(4):
                times = read_clip(video, sampling, draw, (5.0, 6.0)).times
                # To the nearest frame on either side.
                assert times.min() >= 5.0 - 0.5 / video.fps
                assert times.max() <= 6.0 + 0.5 / video.fps
                assert len(set(times.tolist())) == len(times)

    def test_the_whole_video_is_the_span_of_its_duration(self) -> None:
        video = probe(DATA / "clips/carphone_pristine.mp4")
        sampling = Sampling(2, 3)
        for draw in range(3):
            whole = read_clip(video, sampling, draw)
            assert torch.equal(whole.frames, read_clip(video, sampling, draw, (0.0, video.duration)).frames)

    def test_a_spacing_that_fits_is_kept(self) -> None:
        video = probe(DATA / "clips/nasa_13013.mp4")
        starts = read_clip(video, Sampling(3, 2, spacing=0.4), 1, (2.0, 4.0)).times.reshape(3, 2)[:, 0]
        assert starts.diff().tolist() == pytest.approx([0.4, 0.4])

    def test_one_draw_has_one_window_in_every_span(self, tmp_path: Path) -> None:
        """A still picture: equal windows are equal places."""
        path = tmp_path / "still.y4m"
        noise = np.random.default_rng(0).integers(16, 235, (120, 80), dtype=np.uint8).tobytes()
        path.write_bytes(b"YUV4MPEG2 W80 H80 F25:1 C420\n" + 50 * (b"FRAME\n" + noise))
        video, sampling = probe(path), Sampling(frames=2, window=32)
        early, late = (read_clip(video, sampling, 3, span).frames for span in ((0.0, 1.0), (1.0, 2.0)))
        assert torch.equal(early, late)
        assert torch.equal(early, read_clip(video, sampling, 3).frames)

    def test_one_shorter_than_a_segment_is_reached_beyond(self) -> None:
        video = probe(DATA / "edge/h265_video.mp4")  # ten frames a second
        times = read_clip(video, Sampling(frames=4), 0, (0.95, 1.0)).times
        assert times.tolist() == pytest.approx([0.6, 0.7, 0.8, 0.9])
        times = read_clip(video, Sampling(frames=4), 2, (0.2, 0.25)).times
        assert times.tolist() == pytest.approx([0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize(
    "name", ["clips/nasa_13013.mp4", "edge/testsrc2_vp9.webm", "edge/video_90.mov", "clips/foreman_cif.y4m"]
)
def test_many_clips_in_one_pass_are_those_read_one_by_one(name: str) -> None:
    """Runs that overlap, that repeat and that lie far apart."""
    video, sampling = probe(DATA / name), Sampling(segments=2, frames=4, window=32)
    half = video.duration / 2
    cuts = [Cut(draw, span) for span in (None, (0.0, half), (half, video.duration)) for draw in range(5)]
    for cut, clip in zip(cuts, read_clips(video, sampling, cuts), strict=True):
        alone = read_clip(video, sampling, *cut)
        assert torch.equal(clip.frames, alone.frames)
        assert torch.equal(clip.times, alone.times)


@pytest.mark.parametrize("wrong", [{"segments": 0}, {"frames": 0}, {"spacing": 0.0}, {"window": -1}])
def test_sampling_rejects_what_makes_no_clip(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_a_window_of_long_4k_costs_little() -> None:
    """600 frames of 3840 x 2160 are 7.5 GB as YUV; 8 of them may cost what a decoder and a segment hold."""
    code = (
        "import resource, sys, time; from datamodules.video import *\n"
        "probe(sys.argv[2]); read_clip(probe(sys.argv[2]), Sampling())\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "video = probe(sys.argv[1]); start = time.process_time()\n"
        "clip = read_clip(video, Sampling(segments=2)); seconds = time.process_time() - start\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, seconds, *clip.frames.shape)"
    )
    paths = [str(DATA / "edge" / name) for name in ("test_video_vp9_2160p_600f.mkv", "testsrc2_vp9.webm")]
    run = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    kilobytes, seconds, *shape = run.stdout.split()
    assert shape == ["8", "3", "96", "96"]
    # VP9 keeps 8 references and a few frames in work, a segment holds 4: at 12.4 MB each well under 400 MB.
    assert int(kilobytes) < 400_000
    # At most 128 frames since a keyframe for each segment, near 10 ms each; all 600 would take twice that.
    assert float(seconds) < 8
