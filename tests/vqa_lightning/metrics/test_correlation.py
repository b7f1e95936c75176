"""Agreement statistics against scipy, published figures and hand-counted cases."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat
from scipy.stats import spearmanr

from datamodules.errors import InputError
from vqa_lightning.metrics import agreement, rank_accuracy, srcc
from vqa_lightning.metrics.correlation import agreement_intervals

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("ties", [False, True])
def test_srcc_agrees_with_scipy(ties: bool) -> None:
    for _ in range(20):
        x, y = RANDOM.normal(size=30), RANDOM.normal(size=30)
        if ties:
            x, y = x.round(), y.round()
        assert srcc(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)


def test_srcc_by_hand() -> None:
    assert srcc([1, 2, 3], [10, 100, 1000]) == 1
    assert srcc([1, 2, 3], [3, 2, 1]) == -1
    assert math.isnan(srcc([1, 1, 1], [1, 2, 3]))
    assert math.isnan(srcc([1], [1]))
    assert math.isnan(srcc([1, 2, math.nan], [1, 2, 3]))
    with pytest.raises(InputError, match=r"\(2,\) and \(3,\)"):
        srcc([1, 2], [1, 2, 3])


def test_rank_accuracy_by_hand() -> None:
    # right, wrong, tie, and one without an order
    assert rank_accuracy([0.3, 0.2, 0.0, -5.0], [2, -1, 1, 0]) == pytest.approx(0.5)
    assert rank_accuracy([-1, 2], [-0.5, 3]) == 1
    assert math.isnan(rank_accuracy([1.0], [0]))
    assert math.isnan(rank_accuracy([math.nan, 1.0], [1, 1]))
    with pytest.raises(InputError, match="Every pair needs a difference and an order"):
        rank_accuracy([1.0], [1, 2])


LISTS = {
    "kv1k": "KoNViD_labels",
    "livevqc": "LIVE_VQC_labels",
    "ytugc": "YouTubeUGC_labels",
    "cvd2014": "CVD2014_labels",
    "ltest": "LSVQ_labels_test",
    "l1080p": "LSVQ_labels_1080p",
}


@pytest.fixture(scope="session")
def reference_folder() -> Path:
    folder = Path(__file__).resolve().parents[4] / "shared" / "data" / "reference"
    if not folder.is_dir():
        pytest.skip(f"no reference figures at {folder}")
    return folder


def published(reference: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and opinions of one case of the reference."""
    family, dataset, *head = name.split("/")
    if family == "videval_niqe":
        found = loadmat(reference / f"predictions/videval_niqe/{dataset}_NIQE_scores.mat")
        return found["y_pred"].ravel(), found["MOS"].ravel()
    lines = (reference.parent / f"labels/dover_fastvqa/{LISTS[dataset]}.txt").read_text().split("\n")
    mos = np.array([float(line.rsplit(",", 1)[1]) for line in lines if line])
    heads = np.load(reference / f"predictions/dover/val-{dataset}.npz")
    aesthetic, technical = (heads[key].astype(np.float64) for key in ("aesthetic", "technical"))
    if head[0].startswith("0.428"):
        z = [(values - values.mean()) / values.std() for values in (aesthetic, technical)]
        return 0.428 * z[0] + 0.572 * z[1], mos
    return aesthetic if head[0].startswith("aesthetic") else technical, mos


class TestAgreement:
    def test_published_predictions(self, reference_folder: Path) -> None:
        expected = json.loads((reference_folder / "expected_metrics.json").read_text())["metrics"]
        assert len(expected) == 21
        for name, figures in expected.items():
            found = agreement(*published(reference_folder, name))
            assert found["n"] == figures["n"]
            for ours, theirs in (("srcc", "srcc"), ("krcc", "krcc_b"), ("plcc_raw", "plcc_raw")):
                assert found[ours] == pytest.approx(figures[theirs], abs=1e-12), name
            assert found["plcc"] == pytest.approx(figures["plcc_log4"], abs=1e-6), name
            # relative: in three cases the optimum is a limit at infinity, before which every search ends
            assert found["rmse"] == pytest.approx(figures["rmse_log4"], rel=1e-6), name

    def test_fit_and_correlation_are_of_one_curve(self) -> None:
        generator = np.random.default_rng(0)
        mos = generator.uniform(1, 5, size=60)
        found = agreement(-np.exp(mos) + generator.normal(size=60), mos)
        assert found["srcc"] < -0.9 < 0.9 < found["plcc"]  # falling: the sign stays in ranks alone
        assert found["rmse"] == pytest.approx(mos.std() * math.sqrt(1 - found["plcc"] ** 2), rel=1e-9)

    def test_ties(self) -> None:
        generator = np.random.default_rng(0)
        mos = generator.integers(1, 6, size=80)
        predicted = (mos + generator.normal(size=80)).round()
        pairs = [(a, b) for a in range(80) for b in range(a)]
        signs = [[np.sign(v[a] - v[b]) for a, b in pairs] for v in (predicted, mos)]
        tau_b = np.dot(*signs) / math.sqrt(np.abs(signs[0]).sum() * np.abs(signs[1]).sum())
        assert agreement(predicted, mos)["krcc"] == pytest.approx(tau_b, abs=1e-12)

    def test_undefined_figures_are_nan(self) -> None:
        for predicted, mos in (([], []), ([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [2, 2, 2])):
            found = agreement(predicted, mos)
            assert found.pop("n") == len(mos)
            assert all(math.isnan(value) for value in found.values())
            assert all(math.isnan(low) for low, _ in agreement_intervals(predicted, mos).values())

    def test_bad_input(self) -> None:
        with pytest.raises(InputError, match=r"Scores must be finite; got nan in row 2, 1 such"):
            agreement([1, math.nan, 3], [1, 2, 3])
        with pytest.raises(InputError, match=r"Opinions must be finite; got inf in row 3"):
            agreement([1, 2, 3], [1, 2, math.inf])
        with pytest.raises(InputError, match=r"shapes \(3,\) and \(2,\)"):
            agreement([1, 2, 3], [1, 2])

    def test_intervals_hold_the_truth(self) -> None:
        """Of 25 samples of a known correlation the 90 % intervals miss it two or three times."""
        generator = np.random.default_rng(0)
        truth = 0.8
        misses = 0
        for seed in range(25):
            mos = generator.normal(size=100)
            predicted = truth * mos + math.sqrt(1 - truth**2) * generator.normal(size=100)
            low, high = agreement_intervals(predicted, mos, draws=40, seed=seed, level=0.9)["plcc"]
            misses += not low < truth < high
        assert misses <= 7  # three binomial deviations above 2.5

    def test_intervals_over_contents_are_wider(self) -> None:
        generator = np.random.default_rng(0)
        content = np.repeat(np.arange(12), 10)
        mos = generator.normal(size=12)[content] + 0.1 * generator.normal(size=120)
        predicted = mos + generator.normal(size=12)[content]
        widths = [
            np.ptp(agreement_intervals(predicted, mos, groups, draws=80)["srcc"])
            for groups in (None, content)
        ]
        assert widths[1] > 1.5 * widths[0]
