"""How the pair tables of later rounds grow, which pairs they keep, and which are hard."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from datamodules.corpus import Splits
from datamodules.errors import InputError
from datamodules.labels import Consensus, Labelling, Versions
from datamodules.pairs import PAIR_SCHEMA, SOURCES, Drawing, HardPairs, LaterRounds, PairCounts, read_pairs
from datamodules.pairs.counts import part
from datamodules.pairs.families import counted_by_simulator, simulators_of
from datamodules.pairs.hard.recorded import Rule
from datamodules.pairs.table import PLACES
from datamodules.round_data import RoundDataModule

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory, mixed_corpus: Path) -> Path:
    """A manifest that gives six of the nine videos to the train split."""
    manifest = tmp_path_factory.mktemp("manifest") / "videos.csv"
    splits = ["train"] * 6 + ["select", "report", "report"]
    rows = [f"{mixed_corpus}/video-{index}.mp4,{index},{split}" for index, split in enumerate(splits)]
    manifest.write_text("\n".join(["path,content,split", *rows]) + "\n")
    return manifest


class TestGrowth:
    """Rounds of 60 synthetic and 40 teacher pairs, the later ones of a third and a half of them."""

    LATER = {"synthetic": 1 / 3, "teacher": 0.5}

    def made(self, contents: Path, **settings: Any) -> RoundDataModule:
        counts = PairCounts(synthetic=60, teacher=40)
        given = {"batch_size": 4, "counts": counts, "splits": Splits(duplicates=False), **settings}
        data = RoundDataModule(str(contents), **given)
        data.setup("fit")
        return data

    def found(self, data: RoundDataModule, seed: int = 0) -> Consensus:
        """What somebody says of the train split."""
        ids = tuple(video.video_id for video in data.split("train"))
        score = np.random.default_rng(seed).normal(size=len(ids))
        return Consensus(ids, score, np.full(len(ids), 0.1))

    def begin(self, data: RoundDataModule, round: int, **settings: Any) -> pa.Table:
        """A round whose student got every third pair wrong."""
        if round:
            answers = torch.ones(len(data.round_pairs), 3)
            answers[::3] = -1
            settings = {"answers": answers, "defenders": [self.found(data)], **settings}
        data.begin_round(round, self.found(data, round), **settings)
        return data.round_pairs

    def sizes(self, pairs: pa.Table) -> tuple[int, int]:
        counts = Counter(pairs["source"].to_pylist())
        return counts["synthetic"], counts["teacher"]

    def test_as_it_was_every_round_is_as_long_as_the_first_and_has_a_tenth_of_hard_pairs(
        self, contents: Path
    ) -> None:
        data = self.made(contents, later=LaterRounds(hard=HardPairs(bins=1)))
        for round in range(3):
            pairs = self.begin(data, round)
            assert self.sizes(pairs) == (60, 40)
            assert pairs["hard"].to_pylist().count(True) == (10 if round else 0)
        assert data.round_sizes(3) == [100] * 3

    @pytest.mark.parametrize(
        ("union", "sizes"), [(False, [(60, 40), (20, 20), (20, 20)]), (True, [(60, 40), (80, 60), (100, 80)])]
    )
    @pytest.mark.parametrize("hard", ["gmad", "loss", "confidence", "random"])
    def test_sizes_are_known_beforehand(
        self, contents: Path, union: bool, sizes: list[tuple[int, int]], hard: Rule
    ) -> None:
        data = self.made(contents, later=LaterRounds(self.LATER, union, HardPairs(share=1.0, rule=hard)))
        assert data.round_sizes(3) == [sum(pair) for pair in sizes]
        assert [self.sizes(self.begin(data, round)) for round in range(3)] == sizes

    def test_the_same_seed_gives_the_same_pairs(self, contents: Path) -> None:
        tables = []
        for seed in (0, 0, 1):
            data = self.made(
                contents, later=LaterRounds(union=True), splits=Splits(seed=seed, duplicates=False)
            )
            tables.append([self.begin(data, round) for round in range(3)])
        assert tables[0] == tables[1]
        assert tables[0][2] != tables[2][2]

    def test_a_union_keeps_all_pairs_and_labels_the_real_ones_anew(self, contents: Path) -> None:
        data = self.made(contents, later=LaterRounds(self.LATER, union=True))
        before, after = self.begin(data, 0).to_pylist(), self.begin(data, 1).to_pylist()
        rows = [Counter(map(_without_label, table)) for table in (before, after)]
        assert not rows[0] - rows[1]
        labels = {_without_label(row): row["levels"] for row in after}
        real = [row for row in before if row["source"] == "teacher"]
        assert any(labels[_without_label(row)] != row["levels"] for row in real)
        found, known = self.found(data, 1), {row: i for i, row in enumerate(self.found(data).video_ids)}
        for row in after:
            if row["source"] == "teacher":
                first, second = (np.array([known[row[side]]]) for side in ("first", "second"))
                assert row["margin"] == pytest.approx(float(found.margin(first, second)[0]), rel=1e-5)
            elif _without_label(row) in rows[0]:
                assert row["margin"] is None

    @pytest.mark.parametrize("union", [False, True])
    def test_a_round_taken_up_from_its_file_goes_on_as_without(
        self, contents: Path, tmp_path: Path, union: bool
    ) -> None:
        straight = self.made(contents, later=LaterRounds(union=union))
        pq.write_table(self.begin(straight, 0), tmp_path / "round-0.parquet")
        resumed = self.made(contents, later=LaterRounds(union=union))
        resumed.resume_round(0, read_pairs(tmp_path / "round-0.parquet", resumed.ladder))
        assert self.begin(resumed, 1) == self.begin(straight, 1)

    @pytest.mark.parametrize("hard", ["gmad", "loss"])
    def test_no_round_trains_on_labels_that_are_not_sure_enough(self, contents: Path, hard: Rule) -> None:
        settings = {"later": LaterRounds(self.LATER, True, HardPairs(share=1.0, rule=hard))}
        free, strict = (
            self.made(contents, labelling=Labelling(min_confidence=least), **settings) for least in (0.0, 0.8)
        )
        for round in range(3):
            unsure, pairs = (self.begin(data, round) for data in (free, strict))
            assert self.sizes(pairs) == self.sizes(unsure)
            assert least_sure(pairs) >= 0.8 > least_sure(unsure)

    @pytest.mark.parametrize("union", [False, True])
    def test_a_lost_video_is_in_no_pair_and_its_pairs_are_made_up(self, contents: Path, union: bool) -> None:
        data = self.made(contents, later=LaterRounds(self.LATER, union, HardPairs(share=1.0)))
        lost = data.split("train")[0].video_id
        assert lost in self.begin(data, 0)["first"].to_pylist()
        pairs = self.begin(data, 1, lost={lost})
        assert lost not in pairs["first"].to_pylist() + pairs["second"].to_pylist()
        assert len(pairs) == data.round_sizes(2)[1]

    @pytest.mark.parametrize("union", [False, True])
    def test_imported_pairs_come_once_and_keep_their_labels(
        self, contents: Path, tmp_path: Path, union: bool
    ) -> None:
        data = self.made(contents)
        rows = [row for row in self.begin(data, 0).to_pylist() if row["source"] == "teacher"][:5]
        rows += [{**row, "source": "human", "margin": None} for row in rows]
        given = pa.Table.from_pylist(
            [{**row, "draw_first": 100 + index} for index, row in enumerate(rows)], schema=PAIR_SCHEMA
        )
        pq.write_table(given, tmp_path / "given.parquet")
        data = self.made(
            contents,
            later=LaterRounds(union=union),
            drawing=Drawing(imported=str(tmp_path / "given.parquet")),
        )
        for round in range(3):
            imported = [row for row in self.begin(data, round).to_pylist() if row["draw_first"] >= 100]
            assert sorted(imported, key=str) == sorted(given.to_pylist(), key=str)
            assert len(data.round_pairs) == data.round_sizes(3)[round]
        lost = rows[0]["first"]
        assert len(self.begin(data, 3, lost={lost})) == data.round_sizes(4)[3]

    def test_fewer_hard_pairs_than_wanted_are_named(
        self, contents: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        data = self.made(contents, later=LaterRounds(hard=HardPairs(share=1.0)))
        self.begin(data, 0)
        with caplog.at_level("INFO"):
            self.begin(data, 1)
        found = Counter(row["source"] for row in data.round_pairs.to_pylist() if row["hard"])
        assert set(found) == {"synthetic", "teacher"}
        assert f"round 1: {found['synthetic']} of 60 hard synthetic pairs were found" in caplog.text
        assert f"round 1: {found['teacher']} of 40 hard teacher pairs were found" in caplog.text

    PAPER = (
        "resize",
        "gaussian_blur",
        "gaussian_noise",
        "darken",
        "brighten",
        "jitter",
        "stutter",
        "h264",
        "h265",
    )

    @pytest.mark.parametrize("union", [False, True])
    @pytest.mark.parametrize("lost", [False, True])
    def test_families_have_their_parts_in_every_round(self, contents: Path, union: bool, lost: bool) -> None:
        first = {"sharpness": 64, "noise": 32, "tone": 64, "geometry": 20, "temporal": 20, "compression": 50}
        later = {"sharpness": 2, "noise": 1, "tone": 2, "geometry": 2.5, "temporal": 2.5, "compression": 5}
        data = self.made(
            contents,
            simulators=list(self.PAPER),
            counts=PairCounts(synthetic=250, teacher=40, families=first),
            later=LaterRounds({"synthetic": 0.24}, union, HardPairs(share=0.5), families=later),
        )
        expected = [[32] * 5 + [20] * 2 + [25] * 2, [4] * 5 + [10] * 4]
        total = Counter[str]()
        for round in range(3):
            gone = {data.split("train")[0].video_id} if lost and round == 2 else ()
            pairs = self.begin(data, round, **({"lost": gone} if round else {}))
            drawn = Counter(dict(zip(self.PAPER, expected[min(round, 1)], strict=True)))
            total = total + drawn if union else drawn
            assert counted_by_simulator(pairs) == total
            assert len(pairs) == data.round_sizes(3)[round]
            names = simulators_of(
                pairs.filter(pc.and_(pairs["hard"], pc.equal(pairs["source"], "synthetic")))
            )
            rounds = round if union else 1  # a union keeps the hard pairs of the rounds before
            most = {name: rounds * part(0.5, count) for name, count in drawn.items()}
            assert not Counter(names.to_pylist()) - Counter(most)
            assert (len(names) > 0) == (round > 0)

    def test_human_pairs_grow_too(self, contents: Path, tmp_path: Path) -> None:
        lines = [f"video-{index}.mp4,{index / 2}" for index in range(9)]
        (tmp_path / "mos.csv").write_text("\n".join(["path,mos", *lines]) + "\n")
        later = dict.fromkeys(SOURCES, 0.5)
        data = self.made(
            contents,
            counts=PairCounts(synthetic=60, teacher=40, human=10),
            labelling=Labelling(mos=[str(tmp_path / "mos.csv")]),
            later=LaterRounds(later, union=True),
        )
        labels = {}
        for round, count in enumerate((10, 15, 20)):
            human = [row for row in self.begin(data, round).to_pylist() if row["source"] == "human"]
            assert len(human) == count
            for row in human:
                assert labels.setdefault((row["first"], row["second"]), row["levels"]) == row["levels"]
        train = [video.video_id for video in data.split("train")]
        with pytest.raises(InputError, match=r"data\.counts\.teacher needs two .* got 1"):
            self.begin(data, 3, lost=train[1:])

    def test_reference_pairs_grow_too(self, contents: Path) -> None:
        data = self.made(
            contents,
            counts=PairCounts(synthetic=60, teacher=40, reference=10),
            later=LaterRounds({"reference": 0.5}, union=True),
        )
        ids = tuple(video.video_id for video in data.split("train")) * 2
        scores = Consensus(ids, np.random.default_rng(0).normal(size=12), np.full(12, 0.1))
        versions = Versions(scores, ("gaussian_blur",) * 12, np.arange(12) // 6 + 1)
        for round, lost in enumerate(((), (), ids[:1])):
            rows = self.begin(data, round, versions=versions, lost=lost).to_pylist()
            reference = [row for row in rows if row["source"] == "reference"]
            assert len(reference) == (10, 15, 20)[round]
            assert not {row[side] for row in reference for side in ("first", "second")} & set(lost)

    @pytest.mark.parametrize(
        ("made", "sentence"),
        [
            (lambda: LaterRounds({"people": 1.0}), "any of synthetic, .*; got people: 1.0"),
            (lambda: LaterRounds({"teacher": -0.1}), "got teacher: -0.1"),
            (lambda: LaterRounds({"teacher": float("nan")}), "got teacher: nan"),
            (lambda: PairCounts(families={"noise": -1.0}), r"data\.counts\.families must be parts from 0"),
            (lambda: LaterRounds(families={"noise": 0.0}), r"data\.later\.families must be parts from 0"),
            (
                lambda: RoundDataModule("folder", counts=PairCounts(families={"noise": 1.0})),
                "must name each family of data.simulators, compression, geometry, .*; got noise",
            ),
            (lambda: PairCounts(human=-1), r"data\.counts\.human must be 0 or more; got -1"),
            (lambda: RoundDataModule("folder", later=LaterRounds(dict.fromkeys(SOURCES, 0.0))), "got 0"),
        ],
    )
    def test_settings_that_cannot_be(self, made: Callable[[], object], sentence: str) -> None:
        with pytest.raises(InputError, match=sentence):
            made()


def least_sure(pairs: pa.Table) -> float:
    """The least probability of the likeliest level of a pair that annotators labelled."""
    return min(max(row["levels"]) for row in pairs.to_pylist() if row["source"] == "teacher")


def _without_label(row: dict[str, Any]) -> str:
    return str([value for name, value in row.items() if name not in ("levels", "margin", *PLACES)])
