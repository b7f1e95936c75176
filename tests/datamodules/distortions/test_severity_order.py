"""Known order, proven on every natural clip: more of a simulator is further from the source.

Simulators that change pixels are measured by full-reference SSIM. Where pixels do not decide, because a
repeated frame is itself flawless, it is how many frames repeat and how far in time the picture lags; for
jitter, how far a still picture moves from frame to frame as well.
"""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from kornia.color import rgb_to_grayscale
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure as ssim

from datamodules.distortions import DISTORTIONS
from datamodules.video import Clip, Sampling, Video, probe, read_clip

CLIPS = Path(__file__).resolve().parents[3].parent / "shared/data/clips"
DEGRADED = "carphone_distorted.mp4"
"""No source: the compressed version of another clip."""

IDENTITIES = {"gaussian_blur": 1}
"""Mildest levels that METHOD's own values make an identity: a Gaussian of 0.1 pixels."""

TEMPORAL = ("stutter", "frame_rate", "freeze")
BY_PIXELS = [name for name in DISTORTIONS if name not in TEMPORAL]
SEEDS = range(2)

pytestmark = pytest.mark.skipif(not CLIPS.is_dir(), reason=f"there are no clips in {CLIPS}")


@pytest.fixture(scope="module")
def videos() -> list[Video]:
    return [probe(path) for path in sorted(CLIPS.glob("*")) if path.name != DEGRADED]


@pytest.fixture(scope="module")
def sources(videos: list[Video]) -> dict[str, Tensor]:
    """Eight consecutive frames (8, 3, H, W) of 192 pixels a side, or what smaller frames have."""
    samplings = [Sampling(frames=8, window=min(192, video.width, video.height)) for video in videos]
    return {
        Path(video.path).name: read_clip(video, sampling).frames / 255
        for video, sampling in zip(videos, samplings, strict=True)
    }


def all_levels(name: str, clip: Tensor, times: Tensor | None = None, seed: int = 0) -> Tensor:
    """The clip at level 0, 1, ..., one batch."""
    level = torch.arange(len(DISTORTIONS[name].levels) + 1)
    clips = clip.expand(len(level), *clip.shape)
    return DISTORTIONS[name](
        clips,
        level,
        times=None if times is None else times.expand(len(level), -1),
        generator=torch.Generator().manual_seed(seed),
    )


def similarity(name: str, clip: Tensor, source: Tensor) -> float:
    """SSIM (torchmetrics' defaults) of the luma; of R, G and B for `saturation`, which keeps the luma.

    The mean of frames 0 and 4: a frame's value costs 20 ms, and no simulator here favours a frame.
    """
    values = []
    for frame in range(0, len(clip), 4):
        pair = torch.stack([clip[frame], source[frame]])
        first, second = pair if name == "saturation" else rgb_to_grayscale(pair)
        value = ssim(first[None], second[None], data_range=1.0)
        assert isinstance(value, Tensor)
        values.append(value.item())
    return sum(values) / len(values)


@pytest.mark.parametrize("name", BY_PIXELS)
def test_similarity_falls_strictly(name: str, sources: dict[str, Tensor]) -> None:
    same = IDENTITIES.get(name, 0)
    for clip_name, clip in sources.items():
        found = [1.0] + [similarity(name, version, clip) for version in all_levels(name, clip)[1:]]
        assert found[same] == pytest.approx(1, abs=1e-4) or not same, (clip_name, found)
        assert all(mild > strong for mild, strong in pairwise(found[same:])), (clip_name, found)


def test_jitter_moves_a_still_scene_further(sources: dict[str, Tensor]) -> None:
    """From frame to frame, in every draw, by the mean absolute change."""
    for clip_name, clip in sources.items():
        for seed in SEEDS:
            shaken = all_levels("jitter", clip[:1, :, 48:144, 48:144].expand(4, -1, -1, -1), seed=seed)
            motion = shaken.diff(dim=1).abs().mean(dim=(1, 2, 3, 4))
            assert (motion.diff() > 0).all(), (clip_name, seed, motion)


@pytest.fixture(
    scope="module",
    params=[Sampling(segments=1, frames=4, window=72), Sampling(segments=4, frames=8, window=72)],
    ids=["one segment", "four segments"],
)
def moving(request: pytest.FixtureRequest, videos: list[Video]) -> tuple[Sampling, dict[str, Clip]]:
    """A sampling, and by name the clips that it reads in which no two frames are the same."""
    sampling: Sampling = request.param
    long_enough = [video for video in videos if video.duration > 2]
    clips = {Path(video.path).name: read_clip(video, sampling) for video in long_enough}
    clips = {
        name: clip
        for name, clip in clips.items()
        if len(torch.unique(clip.frames[..., ::2, ::2], dim=0)) == len(clip.frames)
    }
    assert len(clips) >= 5  # or little would be tested
    return sampling, clips


@pytest.mark.parametrize("name", TEMPORAL)
def test_sampling_shows_what_happens_in_time(name: str, moving: tuple[Sampling, dict[str, Clip]]) -> None:
    """On clips as a model gets them, each level repeats more frames than the one below and lags further.

    Which source frame is shown is told by its pixels. Stutter lags by chance: its measure is the repeats.
    """
    sampling, clips = moving
    for clip_name, (frames, times) in clips.items():
        for seed in SEEDS:
            graded = all_levels(name, frames / 255, times, seed)
            few = graded[..., ::2, ::2]  # enough pixels to know a frame by
            same = (few[:, :, None] == few[0][None, None]).flatten(3).all(dim=3)
            assert (same.sum(dim=2) == 1).all()  # every frame shown is one of the source's
            shown = same.long().argmax(dim=2)
            segment = torch.arange(len(frames)) // sampling.frames
            assert torch.equal(segment[shown], segment.expand_as(shown)), (clip_name, seed)
            repeats = (shown.diff(dim=1) == 0).sum(dim=1)
            assert repeats[0] == 0
            assert (repeats.diff() > 0).all(), (clip_name, seed, repeats)
            lag = (times - times[shown]).mean(dim=1)
            if name != "stutter":
                assert (lag.diff() > 0).all(), (clip_name, seed, lag)


def test_sampling_shows_jitter(moving: tuple[Sampling, dict[str, Clip]]) -> None:
    """Every frame changes, and the clip as a whole is further from the source at each level."""
    _, clips = moving
    for clip_name, (frames, times) in clips.items():
        graded = all_levels("jitter", frames / 255, times)
        change = (graded - graded[0]).abs().mean(dim=(2, 3, 4))
        assert (change[1:] > 0).all(), clip_name
        assert (change.mean(dim=1).diff() > 0).all(), (clip_name, change)
