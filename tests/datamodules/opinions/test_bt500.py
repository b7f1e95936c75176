import numpy as np
from scipy.stats import kurtosis

from datamodules.opinions.bt500 import screen_observers

VIDEOS, OBSERVERS = 60, 16


def votes_of(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Sensible observers: quality from 1 to 5, each vote off by half a point."""
    generator = np.random.default_rng(seed)
    quality = np.linspace(1, 5, VIDEOS)[:, None]
    return np.clip(np.rint(quality + generator.normal(0, 0.5, (VIDEOS, OBSERVERS))), 1, 5)


def by_the_letter(votes: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[bool]:
    """The Recommendation's loops, vote by vote."""
    above, below = np.zeros(votes.shape[1]), np.zeros(votes.shape[1])
    for video in votes:
        spread = video.std(ddof=1)
        if spread == 0:
            continue
        times = 2 if 2 <= kurtosis(video, fisher=False) <= 4 else np.sqrt(20)
        for observer, vote in enumerate(video):
            above[observer] += vote >= video.mean() + times * spread
            below[observer] += vote <= video.mean() - times * spread
    return [
        not ((up + down) / len(votes) > 0.05 and abs(up - down) / (up + down) < 0.3)
        for up, down in zip(above, below, strict=True)
    ]


class TestScreening:
    def test_it_is_the_recommendations_loop(self) -> None:
        outcomes = set()
        for seed in range(20):
            votes = votes_of(seed)
            generator = np.random.default_rng(seed)
            for observer, share in enumerate((0.1, 0.2, 0.4)):
                odd = generator.random(VIDEOS) < share
                votes[odd, observer] = 6 - votes[odd, observer]
            kept = screen_observers(votes).tolist()
            assert kept == by_the_letter(votes)
            outcomes.update(kept)
        assert outcomes == {True, False}

    def test_who_turns_the_scale_round_is_left_out(self) -> None:
        votes = votes_of(0)
        votes[:, 5] = 6 - votes[:, 5]
        assert np.flatnonzero(~screen_observers(votes)).tolist() == [5]

    def test_who_is_only_stricter_stays(self) -> None:
        votes = votes_of(0)
        votes[:, 5] = np.clip(votes[:, 5] - 2, 1, 5)
        assert screen_observers(votes).all()

    def test_unanimous_votes_speak_against_nobody(self) -> None:
        votes = votes_of(0)
        votes[: VIDEOS // 2] = 1
        assert screen_observers(votes).all()

    def test_votes_not_cast_count_neither_way(self) -> None:
        votes = votes_of(0)
        votes[:, 5] = 6 - votes[:, 5]
        more = np.full((2 * VIDEOS, OBSERVERS), np.nan)
        more[:VIDEOS] = votes
        more[VIDEOS:, 0] = 3
        assert np.flatnonzero(~screen_observers(more)).tolist() == [5]
