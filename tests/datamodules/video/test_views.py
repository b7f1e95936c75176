"""Views on real clips: native pixels stay what they are, in the same places of every frame."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from datamodules.errors import InputError
from datamodules.video import Sampling, probe, read_clip
from datamodules.video.views import VIEWS, View, crop, fragments, require_native, view

SIZE = (64, 64)
PATCH = 8


@pytest.fixture(scope="module")
def clips(clips_folder: Path) -> Tensor:
    """Two whole clips of 352 x 288: (2, 4, 3, 288, 352) in [0, 1]."""
    video = probe(clips_folder / "foreman_cif.y4m")
    read = [read_clip(video, Sampling(frames=4, window=None), draw) for draw in (0, 1)]
    return torch.stack([clip.frames for clip in read]) / 255


def resize(clips: Tensor, size: tuple[int, int]) -> Tensor:
    return transforms.resize(clips, list(size), antialias=True).clamp(0, 1)


def located(height: int, width: int) -> Tensor:
    """A clip whose pixels say where they are: channels row, column, frame."""
    frame, row, column = torch.meshgrid(
        torch.arange(3.0), torch.arange(float(height)), torch.arange(float(width)), indexing="ij"
    )
    return torch.stack([row, column, frame], dim=1)[None]


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("size", [SIZE, (48, 96)])
def test_a_view_gives_the_towers_size_and_so_many_pictures_a_frame(
    clips: Tensor, name: View, size: tuple[int, int]
) -> None:
    pictures = view(clips, name, size, PATCH, resize)
    assert pictures.shape == (2, 4 * VIEWS[name], 3, *size)
    assert 0 <= pictures.min() <= pictures.max() <= 1


def test_resize_is_the_towers_own(clips: Tensor) -> None:
    assert torch.equal(view(clips, "resize", SIZE, PATCH, resize), resize(clips, SIZE))


def test_a_crop_is_the_centre_in_native_pixels(clips: Tensor) -> None:
    assert torch.equal(crop(clips, SIZE), clips[..., 112:176, 144:208])


def test_fragments_are_exact_copies_from_all_over_the_frame(clips: Tensor) -> None:
    pictures = fragments(clips, SIZE, PATCH)
    places = fragments(located(288, 352), SIZE, PATCH)[0, 0]
    for row in range(0, 64, 16):
        for column in range(0, 64, 16):
            top, left = (int(places[axis, row, column]) for axis in (0, 1))
            piece = pictures[..., row : row + 16, column : column + 16]
            assert torch.equal(piece, clips[..., top : top + 16, left : left + 16])
            # in the middle of the cell of a 4 x 4 grid, 72 by 88 pixels
            assert (top, left) == (row // 16 * 72 + 28, column // 16 * 88 + 36)


def test_fragments_lie_at_the_same_places_in_all_frames() -> None:
    places = fragments(located(288, 352), SIZE, PATCH)[0]
    assert torch.equal(places[0, :2], places[2, :2])
    assert places[:, 2].flatten(1).unique(dim=1).flatten().tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", VIEWS)
def test_a_still_clip_stays_still(clips: Tensor, name: View) -> None:
    still = clips[:, :1].expand(-1, 4, -1, -1, -1)
    pictures = view(still, name, SIZE, PATCH, resize).unflatten(1, (-1, 4))
    assert torch.equal(pictures[:, :, :1].expand_as(pictures), pictures)


@pytest.mark.parametrize(
    ("size", "patch"),
    [
        ((64, 64), 8),
        ((384, 384), 14),  # LLaVA-OneVision: 27 patches and 6 pixels
        ((448, 448), 14),  # InternVL3
        ((512, 512), 16),  # SmolVLM2
        ((288, 512), 16),  # Qwen3-VL
        ((40, 8), 8),  # an odd number of patches, and a single one
    ],
)
def test_no_tower_patch_lies_across_a_seam(size: tuple[int, int], patch: int) -> None:
    places = fragments(located(1080, 1920), size, patch)[0, 0]
    for axis in (0, 1):
        lines = places[axis].select(1 - axis, 0)
        seams = [place + 1 for place, step in enumerate(lines.diff().tolist()) if step != 1]
        assert all(seam % patch == 0 for seam in seams)
        pieces = [end - start for start, end in zip([0, *seams], [*seams, size[axis]], strict=True)]
        assert max(pieces) < 4 * patch, pieces  # three patches and what is left over beyond whole ones
        assert lines.diff().min() >= 1, "cells do not overlap in a frame that is large enough"


@pytest.mark.parametrize("name", ["crop", "fragments"])
def test_frames_of_the_towers_size_stay_as_they_are(clips: Tensor, name: View) -> None:
    own = crop(clips, SIZE)
    assert torch.equal(view(own, name, SIZE, PATCH, resize), own)


def test_fragments_follow_the_resized_pictures(clips: Tensor) -> None:
    both = view(clips, "resize_fragments", SIZE, PATCH, resize)
    resized, pieces = both.chunk(2, dim=1)
    assert torch.equal(resized, resize(clips, SIZE))
    assert torch.equal(pieces, fragments(clips, SIZE, PATCH))


@pytest.mark.parametrize("name", ["crop", "fragments"])
def test_smaller_frames_are_enlarged_with_their_aspect_kept(name: View) -> None:
    small = located(30, 40) / 40
    pictures = view(small, name, SIZE, PATCH, resize)[0, 0]
    # 64 / 30 of its size: neighbouring rows, and columns, are that part of a pixel apart.
    steps = pictures[0, 30:33].diff(dim=0), pictures[1, :, 40:43].diff(dim=1)
    for step in steps:
        # The side rounded up to a whole pixel changes the factor by a hundredth.
        assert torch.allclose(step, torch.full_like(step, 30 / 64 / 40), rtol=0.02)


def test_a_window_too_small_for_native_pixels_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"model\.sampling\.window must be 64 or more .* fragments.*; got 48"
    ):
        require_native("fragments", 48, SIZE)
    require_native("resize", 48, SIZE)
    require_native("crop", 64, SIZE)
    require_native("crop", None, SIZE)
