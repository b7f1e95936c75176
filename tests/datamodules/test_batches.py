from pathlib import Path

import pytest
import torch

from datamodules.batches import SAME, ClipCache, PairBatch, PairCollate, PairDataset, distort
from datamodules.codecs import CODECS
from datamodules.corpus import build_corpus, videos
from datamodules.decoding import Sampling, Video
from datamodules.distortions import DISTORTIONS
from datamodules.errors import UnreadableVideo
from datamodules.levels import LEVELS, hard_levels
from datamodules.pairs import draw_pairs
from datamodules.simulators import Simulator, bases

NAMES = list(DISTORTIONS)
LADDER = {name: len(distortion.levels) for name, distortion in DISTORTIONS.items()}
SAMPLING = Sampling(frames=4, window=48)


@pytest.fixture(scope="module")
def corpus(small_corpus: Path) -> dict[str, Video]:
    found = videos(build_corpus(small_corpus, cache=small_corpus / "cache", progress=False))
    return {video.video_id: video for video in found}


def batch_of(corpus: dict[str, Video], count: int = 24, seed: int = 0) -> PairBatch:
    pairs = draw_pairs(list(corpus), LADDER, seed=seed, round=0, synthetic=count)
    dataset = PairDataset(pairs, corpus, SAMPLING, DISTORTIONS, ClipCache(16))
    return PairCollate(seed)([dataset[row] for row in range(count)])


class TestDistort:
    def test_the_source_stays_and_the_harsher_side_is_farther_from_it(self, corpus: dict[str, Video]) -> None:
        before = batch_of(corpus)
        after = distort(before, DISTORTIONS)
        source = before.clips.float() / 255
        loss = (after.clips - source).abs().mean(dim=(2, 3, 4, 5))
        severity = before.severities.amax(dim=2)
        assert torch.equal(after.clips[severity == 0], source[severity == 0])
        assert after.clips.min() >= 0
        assert after.clips.max() <= 1
        assert (loss[severity >= 3] > 0).all()

    def test_is_the_same_every_time(self, corpus: dict[str, Video]) -> None:
        first, second = (distort(batch_of(corpus), DISTORTIONS) for _ in range(2))
        assert torch.equal(first.clips, second.clips)

    def test_sides_that_hardly_differ_become_similar(self, corpus: dict[str, Video]) -> None:
        # Level 1 of the blur has sigma 0.1: the identity (METHOD section 3).
        after = distort(batch_of(corpus, 400), DISTORTIONS)
        blur = after.simulator() == NAMES.index("gaussian_blur")
        invisible = blur & (after.severities.amax(dim=(0, 2)) == 1)
        similar = hard_levels(after.levels) == LEVELS.index("similar")
        difference = (after.clips[0] - after.clips[1]).square().mean(dim=(1, 2, 3, 4)).sqrt()
        assert invisible.any()
        assert similar[invisible].all()
        assert torch.equal(similar, difference < SAME)
        assert torch.equal(after.order() == 0, similar)


class TestCompositions:
    SIMULATORS: dict[str, Simulator] = {
        **{name: DISTORTIONS[name] for name in ("gaussian_noise", "jpeg", "stutter")},
        "h264": CODECS["h264"],
    }

    def batch(self, corpus: dict[str, Video]) -> PairBatch:
        ladder = {name: len(one.levels) for name, one in self.SIMULATORS.items()}
        under = bases(self.SIMULATORS)
        assert under == {name: ["gaussian_noise"] for name in ("jpeg", "stutter", "h264")}
        pairs = draw_pairs(list(corpus), ladder, seed=0, round=0, synthetic=48, bases=under, composed=1.0)
        dataset = PairDataset(pairs, corpus, SAMPLING, self.SIMULATORS, ClipCache(16))
        return PairCollate(0)([dataset[row] for row in range(48)])

    def test_workers_do_codecs_and_what_lies_under_them(self, corpus: dict[str, Video]) -> None:
        batch = self.batch(corpus)
        codec = batch.simulators == list(self.SIMULATORS).index("h264")
        encoded = codec.any(dim=-1, keepdim=True)
        assert encoded.any()
        assert torch.equal(batch.done, encoded & (batch.simulators >= 0))

    def test_the_base_is_the_same_to_the_bit_on_both_sides(self, corpus: dict[str, Video]) -> None:
        batch = self.batch(corpus)
        compared = batch.simulator()
        assert set(compared.tolist()) == {0, 1, 2, 3}
        stutter = compared == list(self.SIMULATORS).index("stutter")
        after = distort(batch, self.SIMULATORS)
        # The first frame of a segment never stutters: only the noise below is in it.
        assert torch.equal(after.clips[0][stutter][:, 0], after.clips[1][stutter][:, 0])
        assert not torch.equal(after.clips[0][stutter], batch.clips[0][stutter] / 255)

    def test_the_compared_simulator_is_the_one_on_top(self, corpus: dict[str, Video]) -> None:
        batch = self.batch(corpus)
        for pair, compared in enumerate(batch.simulator().tolist()):
            depth = [
                {
                    int(i): int(v)
                    for i, v in zip(batch.simulators[s, pair], batch.severities[s, pair], strict=True)
                }
                for s in (0, 1)
            ]
            assert depth[0].get(compared, 0) != depth[1].get(compared, 0)


class TestPairDataset:
    def test_both_sides_of_a_source_show_the_same_window(self, corpus: dict[str, Video]) -> None:
        batch = batch_of(corpus)
        assert torch.equal(batch.clips[0], batch.clips[1])
        assert torch.equal(batch.times[0], batch.times[1])

    def test_a_pair_whose_file_is_gone_is_left_out(self, corpus: dict[str, Video]) -> None:
        gone = {name: Video(**{**vars(video), "path": "gone.mp4"}) for name, video in corpus.items()}
        pairs = draw_pairs(list(corpus), LADDER, seed=0, round=0, synthetic=4)
        whole, broken = (
            PairDataset(pairs, known, SAMPLING, DISTORTIONS, ClipCache(16)) for known in (corpus, gone)
        )
        assert len(PairCollate(0)([whole[0], broken[1], whole[2]]).row) == 2
        with pytest.raises(UnreadableVideo, match=r"data\.videos"):
            PairCollate(0)([broken[0], broken[1]])

    def test_mirroring_turns_half_of_the_pairs_and_the_other_half_next_time(
        self, corpus: dict[str, Video]
    ) -> None:
        pairs = draw_pairs(list(corpus), LADDER, seed=0, round=0, synthetic=6)
        dataset = PairDataset(pairs, corpus, SAMPLING, DISTORTIONS, ClipCache(16))
        samples = [dataset[row] for row in range(6)]
        plain = PairCollate(0)(samples).clips
        first, second = (PairCollate(epoch * 2**20, mirror=True)(samples).clips for epoch in (0, 1))
        assert torch.equal(first[:, ::2], plain[:, ::2])
        assert torch.equal(first[:, 1::2], plain[:, 1::2].flip(-1))
        assert torch.equal(second[:, ::2], plain[:, ::2].flip(-1))
        assert torch.equal(second[:, 1::2], plain[:, 1::2])

    def test_order_follows_the_label(self, corpus: dict[str, Video]) -> None:
        batch = batch_of(corpus)
        first, second = batch.severities.amax(dim=2)
        assert torch.equal(batch.order(), (first - second).sign().float())


def test_the_cache_forgets_the_clips_read_longest_ago(corpus: dict[str, Video]) -> None:
    one_clip = 4 * 3 * 512 * 512  # 3 MiB
    cache = ClipCache(2 * one_clip // 2**20)
    video = next(iter(corpus.values()))
    large = Sampling(frames=4, window=512)
    first = cache.read(video, large, 0)
    assert cache.read(video, large, 0) is first
    cache.read(video, large, 1)
    cache.read(video, large, 2)
    assert cache.read(video, large, 0) is not first
