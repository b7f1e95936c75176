from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from torch.utils.data import DataLoader

from datamodules.batches import PairBatch, PairDataset
from datamodules.batches.clip_cache import ClipCache
from datamodules.batches.device import Step, distort, planned, run
from datamodules.batches.pair_batch import together
from datamodules.batches.pair_dataset import SAME, PairCollate
from datamodules.batches.video_batch import collate_videos
from datamodules.codecs import CODECS
from datamodules.corpus import build_corpus, videos
from datamodules.distortions import DISTORTIONS, Distortion
from datamodules.errors import UnreadableVideo
from datamodules.labels import LEVELS, ClipDataset, Consensus, Labelling, Request, hard_levels
from datamodules.pairs import SOURCES
from datamodules.pairs.drawing import evaluation_pairs, shuffled
from datamodules.pairs.scored import teacher_pairs
from datamodules.pairs.synthetic import synthetic_pairs
from datamodules.simulators import Simulator, bases
from datamodules.video import Sampling, Video

NAMES = list(DISTORTIONS)
DRAWN = {NAMES.index(name) for name in ("gaussian_noise", "jitter")}
LADDER = {name: len(distortion.levels) for name, distortion in DISTORTIONS.items()}
SAMPLING = Sampling(frames=4, window=48)


def own_grain(
    clips: torch.Tensor, strength: torch.Tensor, times: torch.Tensor | None, generator: torch.Generator
) -> torch.Tensor:
    """A user's simulator: one generator, whatever the number of clips."""
    return clips + strength.view(-1, 1, 1, 1, 1) * torch.rand(clips.shape, generator=generator)


@pytest.fixture(scope="module")
def corpus(small_corpus: Path) -> dict[str, Video]:
    found = videos(build_corpus(small_corpus, cache=small_corpus / "cache", progress=False))
    return {video.video_id: video for video in found}


@pytest.fixture(scope="module")
def mixed(mixed_corpus: Path) -> dict[str, Video]:
    found = videos(build_corpus(mixed_corpus, cache=mixed_corpus / "cache", progress=False))
    return {video.video_id: video for video in found}


def batch_of(corpus: dict[str, Video], count: int = 24, seed: int = 0) -> PairBatch:
    pairs = evaluation_pairs(list(corpus), LADDER, count, seed)
    dataset = PairDataset(pairs, corpus, SAMPLING, DISTORTIONS, ClipCache(16))
    return PairCollate(seed)([dataset[row] for row in range(count)])


def stacked(batch: PairBatch) -> torch.Tensor:
    assert isinstance(batch.clips, torch.Tensor)
    return batch.clips


def test_seconds_alone_are_float64(corpus: dict[str, Video]) -> None:
    """Which devices may lack: `VideoDataModule` moves seconds as the device has them."""
    values = batch_of(corpus)._asdict().items()
    double = [name for name, one in values if isinstance(one, torch.Tensor) and one.dtype == torch.float64]
    assert double == ["times"]


class TestDistort:
    def test_the_source_stays_and_the_harsher_side_is_farther_from_it(self, corpus: dict[str, Video]) -> None:
        before = batch_of(corpus)
        after = distort(before, DISTORTIONS)
        source = stacked(before).float() / 255
        loss = (stacked(after) - source).abs().mean(dim=(2, 3, 4, 5))
        severity = before.severities.amax(dim=2)
        assert torch.equal(stacked(after)[severity == 0], source[severity == 0])
        assert stacked(after).min() >= 0
        assert stacked(after).max() <= 1
        assert (loss[severity >= 3] > 0).all()

    def test_is_the_same_every_time(self, corpus: dict[str, Video]) -> None:
        first, second = (distort(batch_of(corpus), DISTORTIONS) for _ in range(2))
        assert torch.equal(stacked(first), stacked(second))

    @pytest.mark.parametrize("size", [1, 5, 24])
    def test_a_pair_looks_the_same_in_whatever_batch(self, corpus: dict[str, Video], size: int) -> None:
        own = Distortion("own", own_grain, levels=(0.1, 0.2))
        chosen: dict[str, Simulator] = {**DISTORTIONS, "h264": CODECS["h264"], "own": own}
        ladder = {name: len(one.levels) for name, one in chosen.items()}
        pairs = synthetic_pairs(
            np.random.default_rng(0), list(corpus), 24, ladder, 8, bases=bases(chosen), composed=0.5
        )
        dataset = PairDataset(pairs, corpus, SAMPLING, chosen, ClipCache(16))
        samples = [dataset[row] for row in range(24)]

        def shown(seed: int, rows: list[int]) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
            batch = PairCollate(seed, mirror=True)([samples[row] for row in rows])
            after = distort(batch, chosen)
            return {row: (stacked(after)[:, i], after.levels[i]) for i, row in enumerate(rows)}

        whole = shown(3 * 2**32, list(range(24)))
        for rank in (0, 1):  # as two ranks would share them
            rows = list(range(rank, 24, 2))[::-1]
            for start in range(0, 12, size):
                for row, (clips, levels) in shown(3 * 2**32, rows[start : start + size]).items():
                    assert torch.equal(clips, whole[row][0])
                    assert torch.equal(levels, whole[row][1])
        # The next seed shows the same pairs with other noise, though its last 32 bits are the same.
        grainy = [row for row in range(24) if set(samples[row]["simulators"][:, 0].tolist()) & DRAWN]
        other = shown(5 * 2**32, grainy)
        assert not any(torch.equal(whole[row][0], other[row][0]) for row in grainy)

    def test_sides_that_hardly_differ_become_similar(self, corpus: dict[str, Video]) -> None:
        # Level 1 of the blur has sigma 0.1: the identity (METHOD section 3).
        after = distort(batch_of(corpus, 400), DISTORTIONS)
        blur = after.simulator() == NAMES.index("gaussian_blur")
        invisible = blur & (after.severities.amax(dim=(0, 2)) == 1)
        similar = hard_levels(after.levels) == LEVELS.index("similar")
        difference = (stacked(after)[0] - stacked(after)[1]).square().mean(dim=(1, 2, 3, 4)).sqrt()
        assert invisible.any()
        assert similar[invisible].all()
        assert torch.equal(similar, difference < SAME)
        assert torch.equal(after.order() == 0, similar)

    def test_torch_compile_makes_one_graph_of_the_pass(self, corpus: dict[str, Video]) -> None:
        batch = batch_of(corpus, 36)
        assert set(batch.simulators.flatten().tolist()) > set(range(len(NAMES)))
        sides, times, graphs = batch.sides(), batch.times.flatten(0, 1), []

        def steps() -> list[Step]:
            return planned(batch, range(len(sides)), NAMES, DISTORTIONS, torch.stack(list(sides)))

        def backend(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Callable[..., object]:
            graphs.append(graph)
            return graph.forward

        assert isinstance(sides, torch.Tensor)
        compiled = torch.compile(run, backend=backend, fullgraph=True)  # no part of it left to Python
        found = compiled(sides, steps(), times, DISTORTIONS)
        assert len(graphs) == 1
        assert torch.equal(found, run(sides, steps(), times, DISTORTIONS))
        assert torch.equal(found.view_as(batch.clips), stacked(distort(batch, DISTORTIONS)))


class TestCompositions:
    SIMULATORS: dict[str, Simulator] = {
        **{name: DISTORTIONS[name] for name in ("gaussian_noise", "jpeg", "stutter")},
        "h264": CODECS["h264"],
    }

    def batch(self, corpus: dict[str, Video]) -> PairBatch:
        ladder = {name: len(one.levels) for name, one in self.SIMULATORS.items()}
        under = bases(self.SIMULATORS)
        assert under == {name: ["gaussian_noise"] for name in ("jpeg", "stutter", "h264")}
        pairs = synthetic_pairs(
            np.random.default_rng(0), list(corpus), 48, ladder, 8, bases=under, composed=1.0
        )
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
        assert torch.equal(stacked(after)[0][stutter][:, 0], stacked(after)[1][stutter][:, 0])
        assert not torch.equal(stacked(after)[0][stutter], stacked(batch)[0][stutter] / 255)

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
        assert torch.equal(stacked(batch)[0], stacked(batch)[1])
        assert torch.equal(batch.times[0], batch.times[1])

    def test_a_pair_whose_file_is_gone_is_left_out(self, corpus: dict[str, Video]) -> None:
        gone = {name: Video(**{**vars(video), "path": "gone.mp4"}) for name, video in corpus.items()}
        pairs = evaluation_pairs(list(corpus), LADDER, 4, seed=0)
        whole, broken = (
            PairDataset(pairs, known, SAMPLING, DISTORTIONS, ClipCache(16)) for known in (corpus, gone)
        )
        assert len(PairCollate(0)([whole[0], broken[1], whole[2]]).row) == 2
        with pytest.raises(UnreadableVideo, match=r"data\.videos"):
            PairCollate(0)(broken.__getitems__([0, 1]))

    def test_what_cannot_be_read_is_named_once(
        self, corpus: dict[str, Video], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        gone, *_ = corpus
        known = corpus | {gone: Video(**{**vars(corpus[gone]), "path": str(tmp_path / "gone.mp4")})}
        pairs = evaluation_pairs(list(corpus), LADDER, 48, seed=0)
        dataset = PairDataset(pairs, known, SAMPLING, DISTORTIONS, ClipCache(16))
        batches = list(DataLoader(dataset, batch_size=16, collate_fn=PairCollate(0)))
        hit = [row for row, name in enumerate(pairs["first"].to_pylist()) if name == gone]
        met = [row for batch in batches for row in batch.row.tolist()]
        assert met == [row for row in range(48) if row not in hit]
        assert {name for batch in batches for name in batch.lost} == {gone}
        assert len(hit) > 1
        assert caplog.text.count("gone.mp4 cannot be opened") == 1

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_batch_of_which_nothing_is_left_takes_the_next_pair_there_is(
        self, corpus: dict[str, Video], workers: int
    ) -> None:
        pairs = evaluation_pairs(list(corpus), LADDER, 8, seed=0)
        first = set(pairs["first"].to_pylist()[:4])
        rest = [row for row, name in enumerate(pairs["first"].to_pylist()) if name not in first]
        known = {
            name: Video(**{**vars(video), "path": "away.mp4"}) if name in first else video
            for name, video in corpus.items()
        }
        dataset = PairDataset(pairs, known, SAMPLING, DISTORTIONS, ClipCache(16))
        loader = DataLoader(dataset, batch_size=4, collate_fn=PairCollate(0), num_workers=workers)
        lost, kept = loader
        assert lost.row.tolist() == rest[:1]
        assert set(lost.lost) == first
        assert kept.row.tolist() == rest

    def test_mirroring_turns_half_of_the_pairs_and_the_other_half_next_time(
        self, corpus: dict[str, Video]
    ) -> None:
        pairs = evaluation_pairs(list(corpus), LADDER, 6, seed=0)
        dataset = PairDataset(pairs, corpus, SAMPLING, DISTORTIONS, ClipCache(16))
        samples = [dataset[row] for row in range(6)]
        plain = stacked(PairCollate(0)(samples))
        first, second = (stacked(PairCollate(epoch * 2**20, mirror=True)(samples)) for epoch in (0, 1))
        assert torch.equal(first[:, ::2], plain[:, ::2])
        assert torch.equal(first[:, 1::2], plain[:, 1::2].flip(-1))
        assert torch.equal(second[:, ::2], plain[:, ::2].flip(-1))
        assert torch.equal(second[:, 1::2], plain[:, 1::2])

    def test_order_follows_the_label(self, corpus: dict[str, Video]) -> None:
        batch = batch_of(corpus)
        first, second = batch.severities.amax(dim=2)
        assert torch.equal(batch.order(), (first - second).sign().float())


class TestWholeFrames:
    """Clips that differ in size: a list in place of one tensor."""

    WHOLE = Sampling(frames=4, window=None)

    def dataset(self, mixed: dict[str, Video], simulators: list[str], seed: int = 0) -> PairDataset:
        """Twelve synthetic pairs with a base under most of them, and twelve of different mixed."""
        ids = tuple(mixed)
        scores = Consensus(ids, np.arange(len(ids), dtype=float), np.ones(len(ids)))
        chosen: dict[str, Simulator] = {name: DISTORTIONS[name] for name in simulators}
        ladder = {name: LADDER[name] for name in simulators}
        generator = np.random.default_rng(seed)
        known = synthetic_pairs(generator, ids, 12, ladder, 8, bases=bases(chosen), composed=0.7)
        scored = teacher_pairs(generator, scores, 12, 8, Labelling())
        pairs = shuffled([known, scored], generator)
        return PairDataset(pairs, mixed, self.WHOLE, chosen, ClipCache(16))

    def batch(self, dataset: PairDataset, *, mirror: bool = False) -> PairBatch:
        return PairCollate(0, mirror)([dataset[row] for row in range(len(dataset))])

    def test_sides_stand_in_one_row_and_those_of_one_source_are_aligned(
        self, mixed: dict[str, Video]
    ) -> None:
        dataset = self.dataset(mixed, ["gaussian_blur"])
        batch = self.batch(dataset)
        sides = batch.sides()
        assert isinstance(batch.clips, list)
        assert len(sides) == 48
        rows = dataset.rows.to_pylist()
        for row in batch.row.tolist():
            for side, name in ((row, "first"), (row + 24, "second")):
                video = mixed[rows[row][name]]
                assert sides[side].shape == (4, 3, video.height, video.width)
        same = [row for row in range(24) if rows[row]["source"] == "synthetic"]
        assert all(torch.equal(sides[row], sides[row + 24]) for row in same)
        across = [row for row in range(24) if sides[row].shape != sides[row + 24].shape]
        assert {rows[row]["source"] for row in across} == {"teacher"}

    def test_frames_of_one_size_are_stacked(self, mixed: dict[str, Video]) -> None:
        upright = {name: video for name, video in mixed.items() if video.height > video.width}
        batch = self.batch(self.dataset(upright, ["gaussian_blur"]))
        assert isinstance(batch.clips, torch.Tensor)
        assert batch.clips.shape == (2, 24, 4, 3, 64, 48)
        assert torch.equal(batch.sides()[24], batch.clips[1, 0])

    def test_mirroring_turns_both_sides(self, mixed: dict[str, Video]) -> None:
        dataset = self.dataset(mixed, ["gaussian_blur"])
        plain, mirrored = self.batch(dataset).sides(), self.batch(dataset, mirror=True).sides()
        for side in range(48):
            expected = plain[side].flip(-1) if side % 2 else plain[side]
            assert torch.equal(mirrored[side], expected)

    def test_clips_of_a_size_are_distorted_as_if_there_were_no_others(self, mixed: dict[str, Video]) -> None:
        dataset = self.dataset(mixed, ["gaussian_blur", "gaussian_noise", "jpeg", "stutter"])
        samples = [dataset[row] for row in range(len(dataset))]
        whole = distort(PairCollate(0)(samples), dataset.simulators)
        sizes = [tuple(clip.frames.shape for clip in sample["clips"]) for sample in samples]
        for size in {first for first, second in sizes if first == second}:
            inside = [row for row in range(24) if sizes[row] == (size, size)]
            across = [row for row in range(24) if size in sizes[row] and row not in inside]
            assert all(
                float(whole.severities[:, row].sum()) == 0 for row in across
            )  # so that they draw nothing
            alone = distort(PairCollate(0)([samples[row] for row in inside]), dataset.simulators)
            assert isinstance(alone.clips, torch.Tensor)
            for index, row in enumerate(inside):
                assert torch.equal(whole.sides()[row], alone.clips[0, index])
                assert torch.equal(whole.sides()[row + 24], alone.clips[1, index])
            assert torch.equal(whole.levels[inside], alone.levels)

    def test_bases_are_shared_and_sides_that_hardly_differ_become_similar(
        self, mixed: dict[str, Video]
    ) -> None:
        dataset = self.dataset(mixed, ["gaussian_noise", "jpeg", "stutter", "frame_rate"])
        before = self.batch(dataset)
        after = distort(before, dataset.simulators)
        sides = after.sides()
        synthetic = after.source == SOURCES.index("synthetic")
        temporal = torch.isin(after.simulator(), torch.tensor([2, 3]))
        based = synthetic & temporal & (after.severities[..., 0] > 0).all(0)
        assert based.any()
        for row in based.nonzero().flatten().tolist():
            # The first frame neither stutters nor is dropped: only the base below is in it.
            assert torch.equal(sides[row][0], sides[row + 24][0])
            assert not torch.equal(sides[row][0], before.sides()[row][0] / 255)
        similar = hard_levels(after.levels) == LEVELS.index("similar")
        for row in range(24):
            if synthetic[row]:
                difference = (sides[row] - sides[row + 24]).square().mean().sqrt()
                assert bool(similar[row]) == bool(difference < SAME)
            else:
                assert torch.equal(after.levels[row], before.levels[row])

    def test_workers_and_transfers_leave_a_batch_as_it_is(self, mixed: dict[str, Video]) -> None:
        dataset = self.dataset(mixed, ["gaussian_blur"])
        here, there = (
            next(iter(DataLoader(dataset, batch_size=24, num_workers=workers, collate_fn=PairCollate(0))))
            for workers in (0, 1)
        )
        moved = move_data_to_device(there, torch.device("cpu"))
        assert isinstance(moved, PairBatch)
        assert all(torch.equal(a, b) for a, b in zip(here.sides(), moved.sides(), strict=True))

    def test_a_video_that_is_gone_is_no_clip_of_a_batch(self, mixed: dict[str, Video]) -> None:
        video = next(iter(mixed.values()))
        items = ClipDataset([Request(video), Request(Video("gone", "gone.mp4"))], self.WHOLE, draws=2)
        batch = collate_videos([items[index] for index in range(2)])
        assert [clips.shape for clips in batch.clips] == [(2, 4, 3, video.height, video.width)]
        assert batch.rows == [0]
        assert list(batch.errors) == [1]

    def test_a_list_is_one_piece_of_memory(self) -> None:
        clips = [torch.full((2, 3, side, 5), side, dtype=torch.uint8) for side in (4, 6, 4)]
        packed = together(clips)
        assert isinstance(packed, list)
        assert all(torch.equal(a, b) for a, b in zip(clips, packed, strict=True))
        assert len({clip.untyped_storage().data_ptr() for clip in packed}) == 1


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
