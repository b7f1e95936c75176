from collections.abc import Callable
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from scipy.stats import spearmanr

from datamodules.distortions import DISTORTIONS
from datamodules.labels import Request, fit_consensus
from datamodules.labels.label_store import READ_SCHEMA
from datamodules.labels.teacher_weights import (
    TeacherWeight,
    agreement_change,
    synthetic_agreement,
    weigh_teachers,
)
from datamodules.simulators import Simulator
from datamodules.video import Video

Floats = npt.NDArray[np.float64]
Kind = Callable[[Floats, np.random.Generator], Floats]
SIMULATOR = DISTORTIONS["jpeg"]
LEVELS = 4
STEP = 0.5
"""By how much a level is worse, in standard deviations of the quality of sources."""
IDS = [f"v{index:04d}" for index in range(700)]
SELECT = IDS[-60:]
LADDERS = [
    Request(Video(name, name, content=f"content of {name}"), SIMULATOR, level)
    for name in SELECT
    for level in range(1, LEVELS + 1)
]
KINDS: dict[str, Kind] = {
    "good": lambda q, rng: q + 0.5 * rng.normal(size=q.shape),
    "fair": lambda q, rng: np.exp(q + rng.normal(size=q.shape)),
    "saturating": lambda q, rng: np.tanh(1.5 * q) + 0.25 * rng.normal(size=q.shape),
    "heavy": lambda q, rng: q + 0.4 * rng.standard_t(1.5, size=q.shape),
    "noise": lambda q, rng: rng.normal(size=q.shape),
    "inverted": lambda q, rng: -q - 0.5 * rng.normal(size=q.shape),
}


def rows_of(
    name: str, ids: list[str], scores: Floats, level: int = 0, simulator: Simulator = SIMULATOR
) -> pa.Table:
    count = len(ids)
    columns = {
        "video_id": ids,
        "simulator": [simulator.identity if level else None] * count,
        "level": [level] * count,
        "draw": [0] * count,
        "segment": [None] * count,
        "score": scores,
        "stderr": [None] * count,
        "round": [0] * count,
        "annotator": [name] * count,
        "fingerprint": [name] * count,
    }
    return pa.table(columns).cast(READ_SCHEMA)


def made_up(seed: int, kinds: list[str]) -> tuple[Floats, pa.Table]:
    """Truth and scores; a kind is a key of KINDS with a suffix, `file` for one that scores sources only."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=len(IDS))
    tables = []
    for name in kinds:
        score = KINDS[name.split()[0]]
        tables.append(rows_of(name, IDS, score(truth, rng)))
        if not name.endswith("file"):
            tables += [
                rows_of(name, SELECT, score(truth[-len(SELECT) :] - STEP * level, rng), level)
                for level in range(1, LEVELS + 1)
            ]
    return truth, pa.concat_tables(tables)


def weigh(table: pa.Table, kinds: list[str]) -> dict[str, TeacherWeight]:
    return {found.name: found for found in weigh_teachers(table, {name: name for name in kinds}, LADDERS)}


def srcc(truth: Floats, table: pa.Table, weights: dict[str, float]) -> float:
    mean, _ = fit_consensus(table, IDS[:500], list(weights), weights=weights).scores(IDS)
    return float(spearmanr(truth, mean).statistic)


def gain_over_best_equal_mean(seed: int, kinds: list[str]) -> float:
    """SRCC with the truth of the weighted consensus, less that of the best equal mean of any subset."""
    truth, table = made_up(seed, kinds)
    weighted = srcc(truth, table, {name: row.weight for name, row in weigh(table, kinds).items()})
    sound = [
        name for name in kinds if name not in ("noise", "inverted")
    ]  # the others carry no signal to gain
    subsets = (names for size in range(1, len(sound) + 1) for names in combinations(sound, size))
    return weighted - max(srcc(truth, table, dict.fromkeys(names, 1.0)) for names in subsets)


class TestSyntheticAgreement:
    def test_a_perfect_order_is_1_its_opposite_minus_1_and_ties_0(self) -> None:
        falling = [np.full(len(SELECT), -float(level)) for level in range(LEVELS + 1)]
        for sign in (1, -1, 0):
            scores = [rows_of("a", SELECT, sign * row, level) for level, row in enumerate(falling)]
            found = synthetic_agreement(pa.concat_tables(scores), "a", LADDERS)
            assert found == (sign, (sign, sign), len(SELECT) * LEVELS * (LEVELS + 1) // 2)

    def test_families_count_alike_however_many_simulators_they_have(self) -> None:
        seen = ("jpeg", "banding", "gaussian_noise")  # two of compression, both in order, noise upside-down
        ladders, scores = [], [rows_of("a", SELECT, np.zeros(len(SELECT)))]
        for name, sign in zip(seen, (-1, -1, 1), strict=True):
            simulator = DISTORTIONS[name]
            for level in range(1, len(simulator.levels) + 1):
                fallen = np.full(len(SELECT), float(sign * level))
                scores.append(rows_of("a", SELECT, fallen, level, simulator))
                ladders += [Request(request.video, simulator, level) for request in LADDERS[::LEVELS]]
        table = pa.concat_tables(scores)
        assert synthetic_agreement(table, "a", ladders)[:2] == (0, (0, 0))
        in_order = [request for request in ladders if request.simulator is not DISTORTIONS["gaussian_noise"]]
        gain = agreement_change((table, "a"), (table, "a"), in_order)
        assert gain.value == 0
        assert gain.comparisons == synthetic_agreement(table, "a", in_order).comparisons

    def test_an_incomplete_ladder_does_not_count(self) -> None:
        _, table = made_up(0, ["good"])
        found = synthetic_agreement(table.slice(0, len(table) - 10), "good", LADDERS)
        assert found.comparisons == (len(SELECT) - 10) * LEVELS * (LEVELS + 1) // 2

    def test_the_interval_is_over_contents(self) -> None:
        _, table = made_up(0, ["good"])
        alone = synthetic_agreement(table, "good", LADDERS)
        one = [Request(Video(r.video.video_id, "", content="one"), SIMULATOR, r.level) for r in LADDERS]
        low, high = alone.interval
        assert low < alone.value < high
        together = synthetic_agreement(table, "good", one)
        assert together.interval == (together.value, together.value)  # one content: nothing to resample


class TestWeighTeachers:
    @pytest.mark.parametrize("seed", range(3))
    def test_noise_and_an_inverted_teacher_are_found(self, seed: int) -> None:
        kinds = list(KINDS)
        found = weigh(made_up(seed, kinds)[1], kinds)
        assert [found[name].verdict for name in ("good", "fair", "saturating", "heavy")] == ["sound"] * 4
        assert found["inverted"].verdict == "upside-down"
        assert found["inverted"].weight == 0
        assert found["noise"].weight < 0.02  # the square of a chance deviation of a few hundredths
        assert abs(found["noise"].agreement.value) < 0.2  # four standard errors of 60 ladders
        assert found["good"].weight == max(row.weight for row in found.values())
        assert sum(row.weight for row in found.values()) == pytest.approx(1)

    def test_normal_errors_make_the_weighted_consensus_better_than_the_best_equal_mean(self) -> None:
        for seed in range(4):
            assert gain_over_best_equal_mean(seed, ["good", "good 2", "good 3", "fair", "fair 2"]) > 0

    def test_with_errors_of_every_kind_it_is_as_good_as_the_best_equal_mean(self) -> None:
        gains = [gain_over_best_equal_mean(seed, list(KINDS)) for seed in range(6)]
        # The best of 15 subsets is chosen by the truth itself, and weights come from 60 contents: gains
        # scatter by .007 between seeds, .003 in the mean of six. Two of each.
        assert min(gains) > -0.015
        assert np.mean(gains) > -0.006

    def test_it_is_far_above_the_equal_mean_of_all(self) -> None:
        truth, table = made_up(0, list(KINDS))
        weights = {name: row.weight for name, row in weigh(table, list(KINDS)).items()}
        assert srcc(truth, table, weights) > srcc(truth, table, dict.fromkeys(KINDS, 1.0)) + 0.03

    @pytest.mark.parametrize("seed", range(3))
    def test_scores_files_are_judged_by_the_others(self, seed: int) -> None:
        kinds = ["good", "fair", "good file", "noise file", "inverted file"]
        found = weigh(made_up(seed, kinds)[1], kinds)
        assert [row.by_order for row in found.values()] == [True, True, False, False, False]
        assert found["good file"].verdict == "sound"
        assert found["good file"].weight > found["fair"].weight
        assert found["noise file"].weight < 0.03
        assert found["inverted file"].weight == 0
        assert found["inverted file"].verdict == "upside-down"

    @pytest.mark.parametrize("seed", range(3))
    def test_a_noisy_file_beside_one_teacher_is_found(self, seed: int) -> None:
        kinds = ["good", "noise file"]
        # .25 is two standard errors of a correlation over 60 videos; its square is the weight.
        assert weigh(made_up(seed, kinds)[1], kinds)["noise file"].weight < 0.08

    def test_files_alone_are_judged_by_each_other(self) -> None:
        kinds = ["good file", "saturating file", "noise file"]
        found = weigh(made_up(0, kinds)[1], kinds)
        assert found["noise file"].weight < 0.05
        assert min(found["good file"].weight, found["saturating file"].weight) > 0.2

    def test_one_file_alone_is_unjudged(self) -> None:
        found = weigh(made_up(0, ["good file"])[1], ["good file"])["good file"]
        assert (found.weight, found.verdict) == (1, "unjudged")

    def test_an_inverted_teacher_alone_has_no_weight(self) -> None:
        assert weigh(made_up(0, ["inverted"])[1], ["inverted"])["inverted"].weight == 0
