import pytest
import torch

from datamodules.pairs.drawing import evaluation_pairs
from datamodules.pairs.lost import NAMED, told_of_lost_pairs
from datamodules.video import Video

IDS = [f"{index:02}" for index in range(12)]
VIDEOS = {name: Video(name, f"/videos/{name}.mp4") for name in IDS}
PAIRS = evaluation_pairs(IDS, {"gaussian_blur": 5}, 60, seed=0)
FIRST = PAIRS["first"].to_pylist()


def answers() -> torch.Tensor:
    return torch.ones(60, 3)


class TestToldOfLostPairs:
    def test_says_nothing_where_nothing_was_lost(self) -> None:
        met = answers()
        met[-5:] = torch.nan  # what a whole number of batches leaves over
        assert told_of_lost_pairs(PAIRS, met, (), VIDEOS) == []

    def test_pairs_that_could_not_be_read_are_counted_and_their_videos_named(self) -> None:
        met = answers()
        hit = [row for row, name in enumerate(FIRST) if name == "03"]
        met[hit[:-1]] = torch.nan  # one was met before the file went away
        (told,) = told_of_lost_pairs(PAIRS, met, {"03"}, VIDEOS)
        assert told.startswith(f"{len(hit) - 1} of 60 pairs")
        assert told.endswith("/videos/03.mp4.")

    @pytest.mark.parametrize("count", [1, NAMED + 2])
    def test_pairs_without_a_finite_loss_are_counted_and_a_few_named(self, count: int) -> None:
        met = answers()
        met[:count, 1] = torch.inf
        (told,) = told_of_lost_pairs(PAIRS, met, (), VIDEOS)
        assert told.startswith(f"{count} of 60 pairs had no finite loss")
        assert told.count("/videos/") == min(count, NAMED)
        assert told.endswith("and 2 more." if count > NAMED else f"/videos/{FIRST[0]}.mp4.")
