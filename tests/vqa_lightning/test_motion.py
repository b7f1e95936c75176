"""What changes in time reaches the language model, on moving clips read as round.yaml reads them."""

from pathlib import Path

import pytest
import torch

from datamodules.decoding import Sampling, probe, read_clip
from datamodules.distortions import DISTORTIONS
from vqa_lightning.motion import MotionPath

SAMPLING = Sampling(segments=1, frames=4, window=72)
MOVING = ("Seeking_30_480_1050.mp4", "vsfa_test.mp4", "foreman_cif.y4m", "park_joy_480x270_10f.y4m")


@pytest.fixture(scope="module")
def clips(clips_folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Four draws of each moving clip: frames (B, T, 3, H, W) in [0, 1] and their times."""
    read = [
        read_clip(video, SAMPLING, draw)
        for video in (probe(clips_folder / name) for name in MOVING)
        for draw in range(4)
    ]
    return torch.stack([clip.frames for clip in read]) / 255, torch.stack([clip.times for clip in read])


@pytest.mark.parametrize("name", ["jitter", "stutter", "frame_rate", "freeze"])
def test_no_level_of_a_temporal_distortion_is_hidden_from_the_motion_path(
    clips: tuple[torch.Tensor, torch.Tensor], name: str
) -> None:
    frames, times = clips
    torch.manual_seed(0)
    motion = MotionPath(SAMPLING.frames, 32)
    with torch.no_grad():
        tokens = []
        for level in range(len(DISTORTIONS[name].levels) + 1):
            levels = torch.full((len(frames),), level)
            generator = torch.Generator().manual_seed(1)
            distorted = DISTORTIONS[name](frames, levels, times=times, generator=generator)
            tokens.append(motion(distorted).flatten(1))
        source = tokens[0].norm(dim=1)
        for level in range(1, len(tokens)):
            moved = (tokens[level] - tokens[level - 1]).norm(dim=1)
            # A hundredth of the token, far above float noise; a window may happen to be still, and the draws
            # of two levels may coincide on three repeatable frames: most clips, and not all.
            assert ((moved / source) > 0.01).float().mean() >= 0.75, (level, (moved / source).tolist())
