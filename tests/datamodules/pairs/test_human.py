import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from datamodules.corpus import Splits, videos
from datamodules.errors import InputError
from datamodules.labels import CUTS, LEVELS, Consensus, Labelling, hard_levels
from datamodules.labels.human_labels import MOSList, human_scores, read_mos
from datamodules.labels.teacher_scales import Floats
from datamodules.opinions import read_opinions
from datamodules.pairs import PairCounts
from datamodules.pairs.scored import human_pairs
from datamodules.round_data import RoundDataModule

UNKNOWN = np.full(60, np.nan)
IDS = [f"v{index:02d}" for index in range(60)]


def opinions(seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(3, 0.8, 60)


def levels(pairs: pa.Table) -> torch.Tensor:
    return hard_levels(torch.tensor(pairs["levels"].to_pylist()))


class TestRule:
    def test_a_level_is_counted_in_the_deviation_of_the_votes(self) -> None:
        mos = np.array([3.0, 3.5, 4.2, 5.0])
        scores = human_scores(mos, np.full(4, 0.6), np.full(4, 100.0), IDS[:4])
        assert scores.consensus.cuts == CUTS
        joint = 0.6 * 2**0.5
        margin = scores.consensus.margin(np.zeros(4, dtype=int), np.arange(4))
        assert margin == pytest.approx((mos - 3) / joint)
        pairs = human_pairs(np.random.default_rng(0), [scores], 12, draws=1)
        found = {
            (row["first"], row["second"]): LEVELS[int(np.argmax(row["levels"]))] for row in pairs.to_pylist()
        }
        assert found["v00", "v01"] == "similar"  # .59 of the joint deviation
        assert found["v00", "v02"] == "better"  # 1.41
        assert found["v00", "v03"] == "superior"  # 2.36
        assert found["v03", "v00"] == "inferior"

    def test_more_votes_make_surer_labels_of_the_same_level(self) -> None:
        mos = np.array([3.0, 4.1])
        few, many = (human_scores(mos, np.ones(2), np.full(2, votes), IDS[:2]) for votes in (4.0, 400.0))
        assert few.consensus.cuts == many.consensus.cuts
        assert few.consensus.variance == pytest.approx(many.consensus.variance)
        assert (few.blur, many.blur) == pytest.approx((0.5, 0.05))  # 1 / sqrt(votes)

    def test_votes_that_happen_to_agree_are_no_certainty(self) -> None:
        deviation = np.where(np.arange(60) == 0, 0.0, np.random.default_rng(1).uniform(0.4, 1.0, 60))
        scores = human_scores(opinions(), deviation, np.full(60, 5.0), IDS)
        assert scores.consensus.variance[0] > 0.1

    def test_a_list_without_deviations_has_evenly_filled_levels(self) -> None:
        scores = human_scores(opinions(), UNKNOWN, UNKNOWN, IDS)
        first, second = np.nonzero(~np.eye(60, dtype=bool))
        inner, outer = scores.consensus.cuts
        level = np.searchsorted([-outer, -inner, inner, outer], scores.consensus.margin(first, second))
        # The cuts are quantiles of 4096 random pairs: a share is known to four deviations of .006.
        assert np.bincount(level) / len(level) == pytest.approx(0.2, abs=0.03)

    def test_missing_deviations_are_taken_to_be_as_the_others(self) -> None:
        deviation = np.where(np.arange(60) < 30, 0.7, np.nan)
        scores = human_scores(opinions(), deviation, UNKNOWN, IDS)
        assert scores.consensus.variance == pytest.approx(0.49)
        assert scores.consensus.cuts == CUTS


class TestPairs:
    def test_levels_are_balanced_and_sides_differ(self) -> None:
        scores = human_scores(opinions(), np.full(60, 0.5), np.full(60, 24.0), IDS)
        pairs = human_pairs(np.random.default_rng(0), [scores], 200, draws=4)
        counts = np.bincount(levels(pairs), minlength=5)
        assert counts.tolist() == [40] * 5
        assert set(pairs["source"].to_pylist()) == {"human"}
        assert not any(a == b for a, b in zip(pairs["first"], pairs["second"], strict=True))
        assert set(pairs["draw_first"].to_pylist()) == set(range(4))

    def test_scales_of_two_lists_are_never_compared(self) -> None:
        one = human_scores(opinions(), UNKNOWN, UNKNOWN, IDS)
        other = human_scores(20 * opinions(1), UNKNOWN, UNKNOWN, [f"w{index:02d}" for index in range(60)])
        third = human_scores(opinions(2)[:30], UNKNOWN[:30], UNKNOWN[:30], [f"x{i:02d}" for i in range(30)])
        pairs = human_pairs(np.random.default_rng(0), [one, other, third], 100, draws=1)
        sides = [
            (a[0], b[0]) for a, b in zip(*(pairs[s].to_pylist() for s in ("first", "second")), strict=True)
        ]
        assert Counter(sides) == {("v", "v"): 40, ("w", "w"): 40, ("x", "x"): 20}  # as they have videos

    def test_the_same_draw_gives_the_same_pairs(self) -> None:
        scores = human_scores(opinions(), UNKNOWN, UNKNOWN, IDS)
        one, same, other = (
            human_pairs(np.random.default_rng(seed), [scores], 50, draws=8) for seed in (0, 0, 1)
        )
        assert one == same
        assert one != other


def write_list(path: Path, rows: dict[str, float]) -> MOSList:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "mos"), *rows.items()])
    return MOSList(str(path))


@pytest.fixture(scope="module")
def data(mixed_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> RoundDataModule:
    """Nine videos in three splits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        data = RoundDataModule(str(mixed_corpus), splits=Splits(duplicates=False))
        data.setup("fit")
    return data


class TestLists:
    def test_no_mos_of_a_held_out_video_is_kept(self, data: RoundDataModule, tmp_path: Path) -> None:
        train = data.split("train")
        entry = write_list(tmp_path / "mos.csv", {f"video-{index}.mp4": index / 2 for index in range(9)})
        scores, report = read_mos(entry, videos(data.corpus))
        assert set(scores.consensus.video_ids) == {video.video_id for video in train}
        assert report.keys() == {video.video_id for video in data.split("report")}
        known = {video.video_id: float(Path(video.path).stem[-1]) / 2 for video in train}
        assert scores.consensus.score.tolist() == [known[name] for name in scores.consensus.video_ids]

    def test_a_list_of_a_known_set_brings_its_sign(self, data: RoundDataModule, tmp_path: Path) -> None:
        corpus = videos(data.corpus)
        entry = write_list(tmp_path / "dmos.csv", {f"video-{index}.mp4": float(index) for index in range(9)})
        plain, _ = read_mos(entry, corpus)
        turned, _ = read_mos(MOSList(entry.path, name="LIVE-VQA"), corpus)
        typed, _ = read_mos(MOSList(entry.path, higher_is_better=False), corpus)
        assert turned.consensus.score.tolist() == typed.consensus.score.tolist()
        assert turned.consensus.score.tolist() == (-plain.consensus.score).tolist()

    @pytest.mark.parametrize(
        ("rows", "sentence"),
        [
            ({"elsewhere.mp4": 3.0, "nowhere.mp4": 4.0}, "names none of the 9 videos"),
            ({"train.mp4": 3.0}, "has 1 videos of the train split"),
            ({f"video-{index}.mp4": 3.0 for index in range(9)}, "no two of different MOS"),
        ],
    )
    def test_a_list_that_says_nothing_is_refused(
        self, data: RoundDataModule, tmp_path: Path, rows: dict[str, float], sentence: str
    ) -> None:
        train = data.split("train")
        named = {Path(train[0].path).name if name == "train.mp4" else name: mos for name, mos in rows.items()}
        entry = write_list(tmp_path / "mos.csv", named)
        with pytest.raises(InputError, match=re.escape(sentence)):
            read_mos(entry, videos(data.corpus))

    def test_an_unknown_set_is_refused(self, tmp_path: Path) -> None:
        entry = write_list(tmp_path / "mos.csv", {"a.mp4": 1.0})
        with pytest.raises(InputError, match=r"in data\.labelling\.mos must be one of"):
            MOSList(entry.path, name="KoNViD").read()


class TestRounds:
    def begun(self, data: RoundDataModule, mos: MOSList | None, round: int = 0) -> pa.Table:
        """Forty human pairs, where there is a list, among the others of a round."""
        asked = RoundDataModule(
            data.videos,
            batch_size=4,
            counts=PairCounts(synthetic=10, teacher=10, human=0 if mos is None else 40),
            labelling=Labelling(mos=None if mos is None else [mos]),
            splits=Splits(duplicates=False),
        )
        asked.setup("fit")
        ids = tuple(video.video_id for video in data.split("train"))
        for number in range(round + 1):
            asked.begin_round(number, Consensus(ids, np.arange(len(ids), dtype=float), np.ones(len(ids))))
        return asked.round_pairs

    @pytest.fixture
    def mos(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MOSList:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        return write_list(tmp_path / "mos.csv", {f"video-{index}.mp4": index**1.5 for index in range(9)})

    def test_human_labels_are_the_same_in_every_round(self, data: RoundDataModule, mos: MOSList) -> None:
        tables = [self.begun(data, mos, round).to_pylist() for round in (0, 1)]
        human = [[row for row in table if row["source"] == "human"] for table in tables]
        assert [len(rows) for rows in human] == [40, 40]
        labels = [{(row["first"], row["second"]): row["levels"] for row in rows} for rows in human]
        assert labels[0] == labels[1]  # forty are more than all pairs of the train split, each of which comes
        train = {video.video_id for video in data.split("train")}
        assert {side for pair in labels[0] for side in pair} <= train

    def test_other_pairs_are_drawn_as_without_human_ones(self, data: RoundDataModule, mos: MOSList) -> None:
        plain, mixed = (self.begun(data, one).to_pylist() for one in (None, mos))
        rest = [row for row in mixed if row["source"] != "human"]
        assert sorted(map(str, rest)) == sorted(map(str, plain))

    def test_lists_and_pairs_go_together(self) -> None:
        with pytest.raises(InputError, match=r"data\.labelling\.mos must name a list"):
            RoundDataModule("folder", counts=PairCounts(human=10))
        with pytest.raises(InputError, match=r"data\.counts\.human must be 1 or more"):
            RoundDataModule("folder", labelling=Labelling(mos=["mos.csv"]))


class TestRealLists:
    def test_the_rule_finds_all_levels_in_published_votes(self) -> None:
        folder = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "labels"
        if not folder.is_dir():
            pytest.skip(f"no published lists at {folder}")
        for name in ("bvqa_benchmark/YOUTUBE_UGC_metadata.csv", "nflx/nflx_public.json", "nflx/vqeghd3.json"):
            listed = read_opinions(folder / name)
            scores = human_scores(listed.mos, listed.deviation, listed.votes, listed.names)
            assert scores.consensus.cuts == CUTS
            assert scores.blur < 0.25  # 24 votes or more
            pairs = human_pairs(np.random.default_rng(0), [scores], 500, draws=1)
            assert np.bincount(levels(pairs), minlength=5).tolist() == [100] * 5
