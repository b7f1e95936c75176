"""Features of clips that were seen before: found by what a clip shows, and no more of them than allowed."""

import torch

from datamodules.codecs import CODECS
from datamodules.distortions import DISTORTIONS
from datamodules.labels.seen_clips import SeenClips, clip_key


def test_those_not_asked_for_the_longest_make_room() -> None:
    seen = SeenClips(megabytes=3 * 4096 / 2**20)  # three tensors of 1024 floats
    for name in "abc":
        seen.keep(name, torch.full((1024,), float(ord(name))))
    assert seen["a"][0] == ord("a")
    seen.keep("d", torch.zeros(1024))
    assert [name in seen for name in "abcd"] == [True, False, True, True]


def test_nothing_is_kept_beyond_the_limit() -> None:
    seen = SeenClips(megabytes=0)
    seen.keep("a", torch.zeros(1))
    assert "a" not in seen


def test_keys_tell_apart_whatever_changes_the_pixels() -> None:
    blur, h264 = DISTORTIONS["gaussian_blur"], CODECS["h264"]
    applied = [[], [(blur, 1)], [(blur, 2)], [(h264, 1)], [(blur, 1), (h264, 1)], [(h264, 1), (blur, 1)]]
    keys = [clip_key(name, draw, steps) for name in ("a", "b") for draw in (0, 1) for steps in applied]
    assert len(set(keys)) == len(keys)
