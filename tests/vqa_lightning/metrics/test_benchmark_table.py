import numpy as np
import pytest

from datamodules.opinions import BENCHMARKS
from vqa_lightning.metrics import srcc
from vqa_lightning.metrics.benchmark_figures import (
    DomainAverage,
    ScoredSet,
    SetFigures,
    domain_averages,
    set_figures,
)
from vqa_lightning.metrics.benchmark_table import notes, print_benchmarks, table_rows

DRAWS = 100  # an interval that is only compared needs no more


def a_set(name: str, n: int, seed: int = 0, copies: int = 1) -> ScoredSet:
    """Opinions from 1 to 5 and scores with noise; each video comes `copies` times with one content."""
    generator = np.random.default_rng(seed)
    mos = generator.uniform(1, 5, n)
    scores = 50 + 4 * mos + 5 * generator.normal(size=n)
    contents = [str(index) for index in range(n)] * copies
    scores, mos = np.tile(scores, copies), np.tile(mos, copies)
    nothing = np.full(n * copies, np.nan)
    return ScoredSet(name, None, scores, nothing, mos, nothing, contents, missing=0, unreadable=[])


@pytest.fixture(scope="module")
def figures() -> list[SetFigures]:
    return [
        set_figures(a_set(name, n, n), DRAWS) for name, n in (("KoNViD-1k", 40), ("LIVE-VQC", 8), ("mine", 6))
    ]


@pytest.fixture(scope="module")
def averages(figures: list[SetFigures]) -> list[DomainAverage]:
    return domain_averages(figures, DRAWS)


def test_averages_weigh_sets_by_their_videos(
    figures: list[SetFigures], averages: list[DomainAverage]
) -> None:
    inside, outside = averages
    large, small, _ = (one.figures["srcc"] for one in figures)
    assert inside.srcc == pytest.approx((40 * large + 8 * small) / 48, abs=1e-12)  # float64
    assert inside.interval[0] < inside.srcc < inside.interval[1]
    assert inside.n == 48
    assert inside.present == ["KoNViD-1k", "LIVE-VQC"]
    assert inside.missing == ["LSVQ-test", "LSVQ-1080p", "YouTube-UGC"]
    assert np.isnan(outside.srcc)
    assert outside.missing == [name for name, known in BENCHMARKS.items() if known.domain == "out-of-domain"]


def test_versions_of_a_content_do_not_narrow_an_interval() -> None:
    once, thrice = (set_figures(a_set("mine", 30, copies=copies), DRAWS) for copies in (1, 3))
    assert thrice.figures["srcc"] == pytest.approx(once.figures["srcc"], abs=1e-12)  # ties in full
    assert thrice.intervals["srcc"] == pytest.approx(once.intervals["srcc"], abs=1e-12)


def test_a_set_without_figures_is_told_and_counts_in_no_average() -> None:
    whole = a_set("KoNViD-1k", 12)
    cases = {
        "2 scored: figures need 3 videos.": a_set("KoNViD-1k", 2),
        "all 12 opinions are 3": whole._replace(mos=np.full(12, 3.0)),
        "all 12 scores are 50": whole._replace(scores=np.full(12, 50.0)),
    }
    for sentence, scored in cases.items():
        found = set_figures(scored, DRAWS)
        assert notes(found)[0].startswith(sentence)
        inside, _ = domain_averages([found], DRAWS)
        assert not inside.present
        (row,) = table_rows([found], [inside], "model")
        assert row["n"] == len(scored.mos)
        assert all(row[name] is None for name in ("srcc", "krcc", "plcc", "rmse", "srcc_low", "rmse_high"))


def test_a_curve_through_too_few_scores_gives_no_figure() -> None:
    scored = a_set("mine", 4)
    found = set_figures(scored, DRAWS)
    assert found.figures["srcc"] == srcc(scored.scores, scored.mos)
    assert np.isnan([found.figures["plcc"], found.figures["rmse"], *found.intervals["plcc"]]).all()
    assert "4 different scores" in notes(found)[0]


def test_all_sets_fit_a_terminal_of_80_columns(
    figures: list[SetFigures],
    averages: list[DomainAverage],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    worst = {"srcc": -0.123, "krcc": -0.123, "plcc": 0.123, "rmse": 12.34, "plcc_raw": -0.123}
    wide = {"srcc": (-0.41, -0.1), "krcc": (-0.41, -0.1), "plcc": (0.1, 0.41), "rmse": (10.1, 12.4)}
    scored = a_set("", 4)
    sets = [SetFigures(scored._replace(name=name), worst, wide) for name in BENCHMARKS]
    print_benchmarks(sets, averages)
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80
    assert all(name in told for name in BENCHMARKS)
    assert "2 of 5" in told
