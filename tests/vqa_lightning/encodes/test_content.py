"""Which encodes stand beside each other, and which have a BD-rate."""

import numpy as np

from datamodules.video import Video
from vqa_lightning.encodes import BDRate, Content, Encode, EncodeScores


def content(ladders: str, rates: list[float], unread: int | None = None) -> Content:
    """Encodes of the ladders named by letters; quality is the logarithm of the rate."""
    scores = 10 * np.log2(np.array(rates))
    errors = ["broken." if place == unread else "" for place in range(len(rates))]
    empty = np.empty((0,))
    found = EncodeScores(tuple(errors), scores, np.eye(len(rates)), empty, empty, empty)
    encodes = zip(rates, ladders, strict=True)
    return Content("one", tuple(Encode(Video("", ""), "", rate, 1, name) for rate, name in encodes), found)


def test_without_ladders_all_stand_beside_the_first_that_can_be_read() -> None:
    assert content("   ", [1, 2, 3]).pairs == [(0, 1), (0, 2)]
    assert content("   ", [1, 2, 3], unread=0).pairs == [(1, 2)]
    assert content("  ", [1, 2], unread=1).pairs == []
    assert content("   ", [1, 2, 3]).bd_rates() == {}


def test_in_ladders_each_stands_beside_the_nearest_in_rate() -> None:
    assert content("aabb", [1, 4, 3, 1.5]).pairs == [(1, 2), (0, 3)]


def test_a_ladder_has_a_bd_rate_or_a_reason() -> None:
    found = content("aaabbbcc", [1, 2, 4, 1, 2, 4, 1, 2]).bd_rates()
    assert isinstance(found["b"], BDRate)
    assert abs(found["b"].value) < 1e-6
    assert found["c"] == "A BD-rate needs 3 encodes or more of a ladder; got 2 of the second."
    unread = content("aaaabbb", [1, 2, 3, 4, 1, 2, 4], unread=1).bd_rates()["b"]
    assert isinstance(unread, BDRate)
