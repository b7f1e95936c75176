import io

import numpy as np
import torch
from PIL import Image

from callbacks.pictures.pair_picture import (
    BARS,
    EDGE,
    HEADING,
    SIDE,
    WIDE,
    ShownPair,
    animated_png,
    draw_pairs,
)


def pair(first: torch.Tensor, second: torch.Tensor, caption: str = "name") -> ShownPair:
    given, predicted = torch.eye(5)[4], torch.full((5,), 0.2)
    return ShownPair((first, second), ((caption, "source"), (caption, "blur 2")), "1", "", given, predicted)


class TestDrawPairs:
    def test_there_is_a_picture_for_every_frame_with_both_clips_side_by_side(self) -> None:
        times = torch.linspace(0, 1, 3)[:, None, None, None].expand(3, 3, 16, 16)
        frames = draw_pairs("", [pair(times, 1 - times)])
        top = 2 * HEADING + SIDE // 2
        seen = [frame.getpixel((EDGE + 5 + side * (SIDE + EDGE), top)) for frame in frames for side in (0, 1)]
        assert seen == [(grey,) * 3 for grey in (0, 255, 128, 128, 255, 0)]

    def test_small_clips_keep_their_pixels_and_wide_ones_their_shape(self) -> None:
        checks = torch.tensor([[0.0, 1], [1, 0]]).expand(1, 3, 2, 2)
        wide = torch.zeros(1, 3, 20, 40)
        frame = np.asarray(draw_pairs("", [pair(checks, wide)])[0])[2 * HEADING : 2 * HEADING + SIDE]
        assert set(np.unique(frame[:, EDGE : EDGE + SIDE])) == {0, 255}
        black = frame[:, 2 * EDGE + SIDE : 2 * EDGE + 2 * SIDE].max(axis=(1, 2)) == 0
        assert black.sum() == SIDE // 2

    def test_bars_are_as_long_as_their_shares(self) -> None:
        clip = torch.zeros(1, 3, 8, 8)
        frame = np.asarray(draw_pairs("", [pair(clip, clip)])[0].convert("RGB"))
        blue = (frame[:, BARS:] == (0, 0x72, 0xB2)).all(axis=-1)[HEADING:].sum(axis=1).max()
        grey = (frame[:, BARS:] == (0x55,) * 3).all(axis=-1)[HEADING:].sum(axis=1).max()
        # Both ends of a bar are drawn, and its length is rounded.
        assert abs((blue - 1) / (grey - 1) - 0.2) < 0.01

    def test_a_long_name_keeps_both_ends_within_its_clip(self) -> None:
        clip = torch.ones(1, 3, 8, 8)
        frame = np.asarray(draw_pairs("", [pair(clip, clip, "a_very_long_name_of_a_video" * 3)])[0])
        below = frame[2 * HEADING + SIDE + 2 :, EDGE + SIDE : 2 * EDGE + SIDE]  # under the frame of the clips
        assert (below == 255).all()


class TestAnimatedPNG:
    def test_plays_all_frames_without_loss(self) -> None:
        noise = np.random.default_rng(0).integers(256, size=(3, 20, WIDE, 3), dtype=np.uint8)
        with Image.open(io.BytesIO(animated_png([Image.fromarray(one) for one in noise]))) as picture:
            assert picture.format == "PNG"
            for place, expected in enumerate(noise):
                picture.seek(place)
                assert np.array_equal(np.asarray(picture.convert("RGB")), expected)
