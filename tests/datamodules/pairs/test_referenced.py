"""Reference pairs: balanced across sources, of known order within them, all on one scale."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import torch

from datamodules.circuits import drawn_circuits
from datamodules.circuits.steps import STRENGTHS
from datamodules.errors import InputError
from datamodules.labels import Consensus, Labelling, Versions, hard_levels
from datamodules.labels.references import CIRCUITS
from datamodules.pairs.referenced import reference_pairs

IDS = [f"{n:03d}" for n in range(30)]
HARD = Labelling(blur=0)


@pytest.fixture(scope="module")
def versions() -> Versions:
    """The sources, and twenty versions of each that a metric has scored."""
    drawn = drawn_circuits(CIRCUITS, IDS, 20)
    ids = [*IDS, *np.repeat(IDS, 20)]
    score = np.concatenate([np.ones(30), np.random.default_rng(0).random(600)])
    levels = np.concatenate([np.zeros(30, dtype=np.int64), drawn.flatten()])
    simulators = ("",) * 30 + ("circuits",) * 600
    return Versions(Consensus(tuple(ids), score, np.full(630, 0.06**2)), simulators, levels)


def drawn(versions: Versions | None, count: int, within: float, seed: int = 0) -> pa.Table:
    return reference_pairs(np.random.default_rng(seed), versions, count, within, HARD)


def number(side: list[dict[str, object]]) -> int:
    return int(side[0]["level"]) if side else 0  # type: ignore[call-overload]


def test_across_sources_the_levels_are_in_balance(versions: Versions) -> None:
    pairs = drawn(versions, 200, 0)
    levels = Counter(hard_levels(torch.tensor(pairs["levels"].to_pylist())).tolist())
    assert [levels[i] for i in range(5)] == [40] * 5
    score = dict(zip(zip(versions.consensus.video_ids, versions.levels.tolist(), strict=True),
                     versions.consensus.score, strict=True))  # fmt: skip
    for row in pairs.to_pylist():
        assert row["source"] == "reference"
        assert row["first"] != row["second"]
        assert row["draw_first"] == row["draw_second"] == 0  # what the metric has seen
        first, second = (score[row[side], number(row[f"distortions_{side}"])] for side in ("first", "second"))
        margin = (second - first) / (2**0.5 * 0.06)
        assert row["margin"] == pytest.approx(margin, rel=1e-4, abs=1e-4)
        assert row["place_second"] - row["place_first"] == pytest.approx(margin, rel=1e-4, abs=1e-4)


def test_within_a_source_most_are_of_one_simulator_in_the_order_of_its_strengths(versions: Versions) -> None:
    pairs = drawn(versions, 400, 1.0).to_pylist()
    alone = STRENGTHS * len(CIRCUITS.kinds)
    of_kind, with_source = 0, 0
    for row in pairs:
        assert row["first"] == row["second"]
        first, second = number(row["distortions_first"]), number(row["distortions_second"])
        assert first != second
        if max(first, second) > alone or (first and second and (first - 1) // 48 != (second - 1) // 48):
            continue
        by_metric = (row["place_second"] - row["place_first"]) == pytest.approx(row["margin"], rel=1e-3)
        if not by_metric:
            of_kind += 1
            with_source += 0 in (first, second)
            severity = [(one - 1) % 48 + 1 if one else 0 for one in (first, second)]
            assert row["margin"] == pytest.approx((severity[0] - severity[1]) / 48 / 0.1, rel=1e-4)
    assert of_kind == pytest.approx(300, abs=8)  # now and then the metric says what severity says
    assert with_source == pytest.approx(200, abs=30)


def test_the_share_within_is_kept(versions: Versions) -> None:
    pairs = drawn(versions, 120, 0.25).to_pylist()
    assert sum(row["first"] == row["second"] for row in pairs) == 30


def test_the_same_seed_draws_the_same(versions: Versions) -> None:
    assert drawn(versions, 100, 0.5) == drawn(versions, 100, 0.5)
    assert drawn(versions, 100, 0.5) != drawn(versions, 100, 0.5, seed=1)


def test_without_scored_versions_there_are_none() -> None:
    with pytest.raises(InputError, match=r"data\.counts\.reference must be 0 where .*; got 5\."):
        drawn(None, 5, 0.5)
