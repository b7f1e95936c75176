"""The choice matches its target far better than chance, keeps shares, and says what cannot be done."""

import csv
import json
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from datamodules.corpus import build_corpus
from datamodules.errors import InputError
from datamodules.selection.corpus_metrics import METRICS
from datamodules.selection.matching import Array, bin_edges, histograms, select
from datamodules.selection.select_command import select_videos

DATA = Path(__file__).resolve().parents[3].parent / "shared/data"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real clips under ../shared/data are absent")


def made_up(count: int, seed: int, shift: float = 0.0) -> Array:
    """Correlated, skewed metrics (count, 9)."""
    generator = np.random.default_rng(seed)
    loadings = np.random.default_rng(7).normal(size=(3, 9))
    values: Array = np.exp(
        0.3 * (generator.normal(size=(count, 3)) @ loadings + generator.normal(size=(count, 9)))
    )
    return values * np.exp(shift * np.linspace(-1, 1, 9))


def difference(metrics: Array, edges: Array, target: Array) -> float:
    return float(np.abs(histograms(metrics, edges) - target).sum())


def test_five_times_nearer_than_chance() -> None:
    pool, other = made_up(4000, 0), made_up(500, 1, shift=0.2)
    edges = bin_edges(pool, other, 10)
    target = histograms(other, edges)
    chosen = select(pool, 400, edges=edges, target=target, seconds=12)
    assert len(set(chosen.indices.tolist())) == 400
    drawn = np.random.default_rng(0).choice(len(pool), 400, replace=False)
    least = difference(pool[chosen.indices], edges, target)
    assert 5 * least < difference(pool[drawn], edges, target)
    assert least == pytest.approx(chosen.differences.sum())
    assert chosen.bound <= least <= chosen.bound + 0.1  # proven: near the best there is


def test_the_best_choice_of_a_small_pool() -> None:
    """All choices of 3 of 8 are tried."""
    pool = made_up(8, 3)[:, :2]
    edges = bin_edges(pool, None, 3)
    target = np.full((2, 3), 1 / 3)
    least = min(difference(pool[list(rows)], edges, target) for rows in combinations(range(8), 3))
    assert select(pool, 3, edges=edges, target=target).differences.sum() == pytest.approx(least)


def test_shares_are_met_within_one_video() -> None:
    pool = made_up(2000, 0)
    labels = np.random.default_rng(1).choice(["TikTok", "YouTube", "other"], 2000, p=[0.2, 0.7, 0.1]).tolist()
    edges = bin_edges(pool, None, 8)
    target = np.full((9, 8), 1 / 8)
    chosen = select(
        pool, 203, edges=edges, target=target, labels=labels, shares={"TikTok": 0.35, "YouTube": 0.25}
    )
    got = [labels[index] for index in chosen.indices]
    assert abs(got.count("TikTok") - 0.35 * 203) < 1
    assert abs(got.count("YouTube") - 0.25 * 203) < 1


def test_the_same_seed_gives_the_same_choice() -> None:
    pool = np.repeat(made_up(50, 0), 10, axis=0)  # ten alike of each
    edges = bin_edges(pool, None, 5)
    target = np.full((9, 5), 1 / 5)
    first, again, other = (select(pool, 60, edges=edges, target=target, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.indices, again.indices)
    assert not np.array_equal(first.indices, other.indices)


def test_candidates_without_metrics_are_counted() -> None:
    pool = made_up(100, 0)
    pool[:30, 4] = np.nan
    edges = bin_edges(pool[30:], None, 5)
    chosen = select(pool, 70, edges=edges, target=np.full((9, 5), 1 / 5))
    assert chosen.left_out == 30
    assert chosen.indices.tolist() == list(range(30, 100))
    with pytest.raises(InputError, match=r"--count must be from 1 to 70, .*; got 71\.$"):
        select(pool, 71, edges=edges, target=np.full((9, 5), 1 / 5))


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"a": 0.9}, "90 videos of 'a', but the candidates have 50"),
        ({"a": 0.2, "b": 0.2}, "leave 60 of 100"),
        ({"a": 0.7, "b": 0.5}, "at most 1"),
        ({"a": -0.1}, "above 0"),
    ],
)
def test_impossible_shares_are_named(shares: dict[str, float], words: str) -> None:
    pool = made_up(150, 0)
    edges = bin_edges(pool, None, 5)
    labels = ["a"] * 50 + ["b"] * 100
    with pytest.raises(InputError, match=words):
        select(pool, 100, edges=edges, target=np.full((9, 5), 1 / 5), labels=labels, shares=shares)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small real clips with a manifest, one of them twice and one broken."""
    place = tmp_path_factory.mktemp("pool")
    names = ["carphone_distorted.mp4", "carphone_pristine.mp4", "nasa_13013.mp4", "Seeking_10_288_375.mp4"]
    for name in names:
        shutil.copyfile(DATA / "clips" / name, place / name)
    shutil.copyfile(place / names[0], place / "again.mp4")
    (place / "broken.mp4").write_text("no video")
    rows = [f"{name},s{index},{'phone' if 'car' in name else 'other'}" for index, name in enumerate(names)]
    (place / "pool.csv").write_text("\n".join(["path,content,source", *rows, "again.mp4,,", "broken.mp4,,"]))
    return place


@needs_data
def test_the_command_writes_a_manifest(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    chosen = folder / "chosen.csv"
    select_videos(str(folder / "pool.csv"), 2, chosen, shares={"phone": 0.5}, bins=3)
    rows = list(csv.DictReader(chosen.open()))
    assert sorted(row["source"] for row in rows) == ["other", "phone"]
    assert all(row["content"] and (folder / row["path"]).is_file() for row in rows)
    assert all(float(row[name]) >= 0 for row in rows for name in METRICS)
    assert build_corpus(chosen, progress=False)["status"].to_pylist() == ["ok", "ok"]
    assert "2 of 4 videos" in capsys.readouterr().out

    dark = {"luminance": {"edges": [0, 60, 255], "counts": [1, 0]}}
    (tmp_path / "dark.json").write_text(json.dumps(dark))
    select_videos(str(folder), 2, tmp_path / "dark.csv", target=str(tmp_path / "dark.json"))
    rows = list(csv.DictReader((tmp_path / "dark.csv").open()))
    assert sorted(Path(row["path"]).name for row in rows) == ["Seeking_10_288_375.mp4", "nasa_13013.mp4"]

    select_videos(str(folder), 1, tmp_path / "like.csv", target=str(folder / "nasa_13013.mp4"), bins=4)
    assert "nasa_13013" in (tmp_path / "like.csv").read_text()


@needs_data
def test_mistakes_end_in_one_sentence(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "odd.json").write_text('{"contrast": [1, 2]}')
    (tmp_path / "unknown.json").write_text('{"charm": {"edges": [0, 1, 2], "counts": [1, 1]}}')
    (tmp_path / "falling.json").write_text('{"blur": {"edges": [0, 2, 1], "counts": [1, 1]}}')
    for target, words in (("odd", "odd.json is not"), ("unknown", "charm"), ("falling", "do not rise")):
        with pytest.raises(InputError, match=words):
            select_videos(str(folder), 2, tmp_path / "x.csv", target=str(tmp_path / f"{target}.json"))
    with pytest.raises(InputError, match="does not have"):
        select_videos(str(folder), 2, tmp_path / "x.csv", shares={"a": 1.0})
    with pytest.raises(InputError, match=r"\.csv"):
        select_videos(str(folder), 2, tmp_path / "x.txt")
    with pytest.raises(InputError, match="cannot be written"):
        select_videos(str(folder), 2, tmp_path / "absent" / "x.csv")
