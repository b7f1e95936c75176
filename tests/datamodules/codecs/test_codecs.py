"""Codecs on real clips: known order, repeatable bitstreams, any frame size, a cache that may be damaged."""

import hashlib
import math
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import CLI
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from datamodules.codecs import CODECS, Codec, CodecCache
from datamodules.distortions import DISTORTIONS
from datamodules.errors import InputError
from datamodules.video import Sampling, Video, luma, probe, read_clip

CLIPS = Path(__file__).resolve().parents[3].parent / "shared/data/clips"
NATURAL = sorted(path for path in CLIPS.glob("*") if "distorted" not in path.name)
WINDOW = Sampling(segments=1, frames=8, spacing=None, window=128)
EMBEDDED = Sampling(segments=1, frames=4, spacing=None, window=72)

pytestmark = pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips under ../shared/data are absent")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def video(path: Path) -> Video:
    return probe(path)


@cache
def frames(path: Path, sampling: Sampling) -> Tensor:
    return read_clip(video(path), sampling).frames


def ssim(clip: Tensor, source: Tensor) -> float:
    """Mean over the frames, on luma as SSIM was published."""
    pairs = zip(*((luma(frames / 255).unsqueeze(1).split(4)) for frames in (clip, source)), strict=True)
    values = [structural_similarity_index_measure(*pair, data_range=1.0) for pair in pairs]
    return float(torch.stack(values).mean())


def similarities(codec: Codec, clip: Tensor, fps: float) -> list[float]:
    return [ssim(codec(clip, level, fps), clip) for level in range(1, len(codec.levels) + 1)]


def falls(values: Sequence[float]) -> bool:
    return all(second < first for first, second in pairwise(values))


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("sampling", [WINDOW, EMBEDDED], ids=["window", "embedded"])
def test_ssim_falls_strictly_from_level_to_level_on_every_clip(name: str, sampling: Sampling) -> None:
    found = {
        path.name: similarities(CODECS[name], frames(path, sampling), video(path).fps) for path in NATURAL
    }
    assert len(found) == 12
    assert {clip: values for clip, values in found.items() if not falls([1.0, *values])} == {}


def test_a_ladder_keeps_its_order_on_a_still_whose_bits_are_all_in_one_intra_frame() -> None:
    for path in NATURAL:
        clip = frames(path, EMBEDDED)
        assert falls(similarities(CODECS["ladder"], clip[:1], video(path).fps)), path.name
        assert falls(similarities(CODECS["ladder"], clip[:1].expand_as(clip), video(path).fps)), path.name


def test_a_ladder_gives_hard_content_a_coarser_quantiser_than_easy() -> None:
    # At 0.125 bits per pixel the river costs more than its rung has, the face in front of a wall does not.
    ladder = Codec("top", "libx264", (1,), {"preset": "fast"}, "downscale")
    fine = Codec("fine", "libx264", (30,), {"preset": "fast"})
    hard, easy = (CLIPS / name for name in ("Seeking_30_480_1050.mp4", "10053703034.mp4"))
    assert len(ladder.encode(frames(hard, WINDOW), 1, 25)) < len(fine.encode(frames(hard, WINDOW), 1, 25))
    assert len(ladder.encode(frames(easy, WINDOW), 1, 30)) > len(fine.encode(frames(easy, WINDOW), 1, 30))


def test_the_last_level_of_h264_is_crf_51_whatever_the_paper_calls_it() -> None:
    assert CODECS["h264"].levels == (24, 36, 48, 63)
    clip = frames(NATURAL[0], EMBEDDED)
    clamped = Codec("clamped", "libx264", (51,), {"preset": "fast"})
    assert CODECS["h264"].encode(clip, 4, 30) == clamped.encode(clip, 1, 30)


@pytest.mark.parametrize("name", CODECS)
def test_order_holds_on_a_blurred_source(name: str) -> None:
    for path in (CLIPS / "foreman_cif.y4m", CLIPS / "vsfa_test.mp4"):
        source = frames(path, EMBEDDED)
        blurred = DISTORTIONS["gaussian_blur"](source[None] / 255, torch.tensor([3]))[0]  # sigma 1
        blurred = (255 * blurred).round().to(torch.uint8)
        mild, strong = (CODECS[name](blurred, level, video(path).fps) for level in (1, 3))
        assert ssim(strong, blurred) < ssim(mild, blurred) < 1


FRESH = """
import hashlib, sys, numpy, torch
from datamodules.codecs import CODECS
clip = torch.from_numpy(numpy.load(sys.argv[1]))
for name, codec in CODECS.items():
    print(name, hashlib.sha256(codec.encode(clip, 2, 25.0)).hexdigest())
"""


def test_bitstreams_repeat_in_this_and_in_another_process_and_nothing_is_printed(tmp_path: Path) -> None:
    clip = frames(CLIPS / "nasa_13013.mp4", WINDOW)
    np.save(tmp_path / "clip.npy", clip.numpy())
    run = subprocess.run(
        [sys.executable, "-c", FRESH, tmp_path / "clip.npy"], capture_output=True, text=True, check=True
    )
    elsewhere = dict(line.split() for line in run.stdout.splitlines())
    for _ in range(2):
        here = {
            name: hashlib.sha256(codec.encode(clip, 2, 25.0)).hexdigest() for name, codec in CODECS.items()
        }
        assert here == elsewhere
    assert run.stderr == ""


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (36, 36), (71, 23), (65, 128)])
def test_any_size_comes_back_upright(name: str, height: int, width: int) -> None:
    clip = frames(CLIPS / "foreman_cif.y4m", WINDOW)[:3, :, -height:, -width:]
    decoded = CODECS[name](clip, 1, 30)
    assert decoded.shape == clip.shape
    assert decoded.dtype == torch.uint8
    others = (clip, clip.flip(-1), clip.flip(-2), clip.flip(0).roll(5, -1), clip.roll(5, -2))
    errors = [(decoded.float() - other.float()).abs().mean() for other in others]
    assert errors[0] == min(errors)


@pytest.mark.parametrize("name", CODECS)
def test_odd_sizes_are_padded_by_their_border_and_cut_again(name: str) -> None:
    clip = frames(CLIPS / "foreman_cif.y4m", WINDOW)[:3, :, :71, :93]
    padded = torch.cat([clip, clip[:, :, -1:]], dim=2)
    padded = torch.cat([padded, padded[..., -1:]], dim=3)
    assert torch.equal(CODECS[name](clip, 2, 30), CODECS[name](padded, 2, 30)[:, :, :71, :93])


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)])
def test_flat_colours_survive_both_conversions(name: str, colour: tuple[int, int, int]) -> None:
    clip = torch.tensor(colour, dtype=torch.uint8).view(1, 3, 1, 1).repeat(2, 1, 64, 64)
    # The wrong matrix moves a primary by 20 or more, the wrong range white by 16; a quantiser's step by 4.
    decoded = CODECS[name](clip, 1, 25)
    assert (decoded.int() - clip.int()).abs().max() <= 6


def test_level_0_is_the_source_and_the_rate_may_be_any() -> None:
    clip = frames(NATURAL[0], EMBEDDED)
    for codec in CODECS.values():
        assert codec(clip, 0, 25) is clip
        for fps in (0.2, 29.97, 1000):
            assert codec(clip, 1, fps).shape == clip.shape


def test_identity_tells_definitions_apart_and_no_others() -> None:
    builtin = Codec("h264", "libx264", (24.0, 36.0, 48.0, 63.0), {"preset": "fast"})
    assert CODECS["h264"].identity == builtin.identity
    others = [
        builtin,
        Codec("h264", "libx264", (24, 36), {"preset": "fast"}),
        Codec("h264", "libx264", (24, 36, 48, 63)),
        Codec("h264", "libx265", (24, 36, 48), {"preset": "fast"}),
        Codec("h264", "libx264", (24, 36, 48), {"preset": "fast"}, "downscale"),
    ]
    identities = {codec.identity for codec in others}
    assert len(identities) == len(others)
    assert all(identity.startswith("h264-") and len(identity) == 13 for identity in identities)


def test_a_config_names_built_in_codecs_and_describes_its_own(tmp_path: Path) -> None:
    config = """
simulators:
- resize
- {name: my264, encoder: libx264, levels: [20, 30], options: {preset: medium, bf: 0}}
"""
    (tmp_path / "config.yaml").write_text(config)

    def simulators_of(simulators: list[str | Codec]) -> list[str | Codec]:
        return simulators

    parsed = CLI(simulators_of, args=[f"--config={tmp_path / 'config.yaml'}"], as_positional=False)
    mine = Codec("my264", "libx264", (20, 30), {"preset": "medium", "bf": 0})
    assert parsed == ["resize", mine]
    assert parsed[1].identity == mine.identity


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder": "libaom-av1"}, "one of libx264.*; got 'libaom-av1'"),
        ({"encoder": "mpeg4"}, "one of libx264.*; got 'mpeg4'"),
        ({"levels": ()}, "number of levels of 'mine' must be 1 or more"),
        ({"levels": (24, 64)}, "CRF of 'mine' must be a whole number from 0 to 63 for libx264; got 64"),
        ({"encoder": "libx265", "levels": (24, 52)}, "from 0 to 51 for libx265; got 52"),
        ({"encoder": "libsvtav1", "levels": (0, 52)}, "from 1 to 63 for libsvtav1; got 0"),
        ({"encoder": "libvpx-vp9", "levels": (36.5,)}, "CRF .*; got 36.5"),
        ({"levels": (math.nan,)}, "CRF .*; got nan"),
        ({"levels": (30, 24)}, "levels .* rising, .*; got 30, 24"),
        ({"levels": (24, 24)}, "levels .* rising, .*; got 24, 24"),
        ({"levels": (51, 63)}, "above 51 as 51.*; got 51, 63"),
        ({"levels": (0.5,), "strength": "downscale"}, "downscale .*; got 0.5"),
        ({"levels": (2, math.inf), "strength": "downscale"}, "downscale .*; got inf"),
        ({"options": {"preset": "fsat"}}, "preset fsat"),
        ({"options": {"presett": "fast"}}, "presett"),
        ({"options": {"crf": "20"}}, "crf"),
        ({"options": {"threads": "4"}}, "threads"),
    ],
)
def test_a_codec_that_cannot_be_is_refused_when_it_is_made(changes: dict[str, object], words: str) -> None:
    definition = {"name": "mine", "encoder": "libx264", "levels": (20, 30)}
    with pytest.raises(InputError, match=words):
        Codec(**{**definition, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("clip", "level", "fps", "words"),
    [
        (torch.zeros(4, 3, 64, 64), 1, 25, "torch.float32"),
        (torch.zeros(4, 1, 64, 64, dtype=torch.uint8), 1, 25, r"\(4, 1, 64, 64\)"),
        (torch.zeros(0, 3, 64, 64, dtype=torch.uint8), 1, 25, r"\(0, 3, 64, 64\)"),
        (torch.zeros(4, 3, 64, 64, dtype=torch.uint8), 5, 25, "level of .* from 0 to 4; got 5"),
        (torch.zeros(4, 3, 64, 64, dtype=torch.uint8), -1, 25, "level of .*; got -1"),
        (torch.zeros(4, 3, 64, 64, dtype=torch.uint8), 1, 0, "frames per second .*; got 0"),
        (torch.zeros(4, 3, 64, 64, dtype=torch.uint8), 1, math.nan, "frames per second .*; got nan"),
        (torch.zeros(4, 3, 64, 15, dtype=torch.uint8), 1, 25, "16 x 16 or more; got 15 x 64"),
        (torch.zeros(1, 3, 16, 17000, dtype=torch.uint8), 1, 25, "17000 x 16"),
    ],
)
def test_a_clip_that_cannot_be_encoded_is_named(clip: Tensor, level: int, fps: float, words: str) -> None:
    with pytest.raises(InputError, match=words):
        CODECS["h264"](clip, level, fps)


def test_a_ladder_of_an_encoder_with_a_least_size_names_it() -> None:
    ladder = Codec("ladder265", "libx265", (1, 4), {"preset": "ultrafast"}, "downscale")
    clip = frames(NATURAL[0], WINDOW)[:1]
    assert ladder(clip, 1, 25).shape == clip.shape
    with pytest.raises(InputError, match="level 2 of 'ladder265' must be 288 x 288 or more; got 128 x 128"):
        ladder(clip, 2, 25)


@pytest.mark.parametrize("name", CODECS)
def test_a_cached_round_trip_is_the_codecs_own_bit_for_bit(name: str, tmp_path: Path) -> None:
    clip, codec, cached = frames(NATURAL[1], EMBEDDED), CODECS[name], CodecCache(tmp_path / "codecs")
    direct = codec(clip, 2, 25)
    assert torch.equal(cached.round_trip(codec, clip, 2, 25), direct)
    (entry,) = (path for path in cached.folder.rglob("*") if path.is_file())
    written = entry.stat().st_mtime_ns
    assert torch.equal(cached.round_trip(codec, clip, 2, 25), direct)
    assert entry.stat().st_mtime_ns == written
    assert entry.stat().st_size < clip.numel() / 10


def test_every_setting_and_every_pixel_makes_another_entry(tmp_path: Path) -> None:
    cached, clip = CodecCache(tmp_path), frames(NATURAL[0], EMBEDDED)
    other = clip.clone()
    other[-1, -1, -1, -1] ^= 1
    slower = Codec("h264", "libx264", (24, 36), {"preset": "slow"})
    for codec, frame, level, fps in [
        (CODECS["h264"], clip, 1, 25),
        (CODECS["h264"], clip, 2, 25),
        (CODECS["h264"], clip, 1, 50),
        (CODECS["h264"], other, 1, 25),
        (CODECS["h264"], clip.transpose(2, 3), 1, 25),
        (slower, clip, 1, 25),
    ]:
        assert torch.equal(cached.round_trip(codec, frame, level, fps), codec(frame, level, fps))
    assert cached.round_trip(CODECS["h264"], clip, 0, 25) is clip
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 6


def test_a_damaged_entry_is_encoded_anew(tmp_path: Path) -> None:
    cached, clip, codec = CodecCache(tmp_path), frames(NATURAL[0], EMBEDDED), CODECS["h264"]
    direct = cached.round_trip(codec, clip, 1, 25)
    (entry,) = (path for path in tmp_path.rglob("*") if path.is_file())
    whole = entry.read_bytes()
    for damaged in (b"", whole[:20], whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        entry.write_bytes(damaged)
        assert torch.equal(cached.round_trip(codec, clip, 1, 25), direct)
        assert entry.read_bytes() == whole


def test_workers_may_write_one_entry_at_once(tmp_path: Path) -> None:
    clip, codec = frames(NATURAL[0], EMBEDDED), CODECS["h264"]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: CodecCache(tmp_path).round_trip(codec, clip, 1, 25), range(8)))
    assert all(torch.equal(result, results[0]) for result in results)
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 1


def test_a_cache_that_cannot_be_written_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    clip = frames(NATURAL[0], EMBEDDED)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"file/codecs cannot be used \(Not a directory\)"):
        CodecCache(tmp_path / "file/codecs").round_trip(CODECS["h264"], clip, 1, 25)
    # No file may grow beyond 64 bytes: to a writer the same as a disk that fills up half way.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot be used"):
            CodecCache(tmp_path / "full").round_trip(CODECS["h264"], clip, 1, 25)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [path for path in (tmp_path / "full").rglob("*") if path.is_file()]


def test_the_default_folder_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert CodecCache().folder == tmp_path / "vqa-lightning/codecs"


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling is Linux's")
def test_no_encoder_leaves_this_process_with_real_time_priority() -> None:
    # SVT-AV1 takes it wherever it may, which is as root.
    policy = os.sched_getscheduler(0)
    for codec in CODECS.values():
        codec(torch.zeros(2, 3, 64, 64, dtype=torch.uint8), 1, 25)
        assert os.sched_getscheduler(0) == policy
    assert policy != os.SCHED_FIFO
