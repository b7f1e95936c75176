"""A calibration to a human scale: what it maps, what it keeps, and what it refuses to read."""

import json
from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import InputError
from vqa_lightning.metrics import agreement
from vqa_lightning.metrics.human_scale import HumanScale


@pytest.fixture
def fitted() -> tuple[HumanScale, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    scores = 50 + 10 * generator.normal(size=300)
    mos = 3 + np.tanh((scores - 50) / 12) + 0.2 * generator.normal(size=300)
    return HumanScale.fit(scores, mos, name="KoNViD-1k", model="RankingModule-abc"), scores, mos


def test_it_maps_to_opinions_as_agreement_says(fitted: tuple[HumanScale, np.ndarray, np.ndarray]) -> None:
    scale, scores, mos = fitted
    found = agreement(scores, mos)
    assert (scale.n, scale.srcc, scale.rmse) == (300, found["srcc"], found["rmse"])
    assert np.sqrt(np.mean((scale(scores) - mos) ** 2)) == pytest.approx(scale.rmse, rel=1e-12)
    assert np.isnan(scale([np.nan, 50.0])).tolist() == [True, False]


def test_order_is_kept_far_outside(fitted: tuple[HumanScale, np.ndarray, np.ndarray]) -> None:
    scale = fitted[0]
    assert (np.diff(scale(np.linspace(-50, 150, 400))) > 0).all()
    assert scale(1e9) == pytest.approx(scale.b1)
    assert scale(-1e9) == pytest.approx(scale.b2)


def test_it_comes_back_from_its_file(
    fitted: tuple[HumanScale, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    fitted[0].save(tmp_path / "scale.json")
    assert HumanScale.load(tmp_path / "scale.json") == fitted[0]
    with pytest.raises(InputError, match="cannot be written"):
        fitted[0].save(tmp_path / "absent" / "scale.json")


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"name": "x"}', '{"name": 1, "model": null, "b1": "high"}'])
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"give a JSON file that HumanScale\.save wrote"):
        HumanScale.load(path)
    with pytest.raises(InputError, match="No such file"):
        HumanScale.load(tmp_path / "absent.json")


def test_a_flat_curve_is_refused(fitted: tuple[HumanScale, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "scale.json"
    fitted[0].save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"b4": 0.0}))
    with pytest.raises(InputError, match="no rising or falling logistic"):
        HumanScale.load(path)
