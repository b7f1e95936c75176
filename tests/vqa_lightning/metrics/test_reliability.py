import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from vqa_lightning.metrics.reliability import plot_reliability, reliability


def draws(pairs: int, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and outcomes of which those are the chances if the sharpness is 1."""
    generator = np.random.default_rng(0)
    chance = generator.uniform(0.02, 0.98, pairs)
    odds = (chance / (1 - chance)) ** sharpness
    return odds / (1 + odds), (generator.uniform(size=pairs) < chance).astype(float)


class TestReliability:
    def test_the_error_is_torchmetrics_own(self) -> None:
        chance, won = draws(5000, sharpness=2)
        sure = torch.tensor(np.maximum(chance, 1 - chance))
        right = torch.tensor((chance > 0.5) == (won > 0.5)).long()
        # Ten bins from .5 to 1 are the upper ones of twenty from 0 to 1.
        expected = binary_calibration_error(sure, right, n_bins=20, norm="l1")
        assert reliability(chance, won).ece == pytest.approx(expected.item(), abs=1e-6)  # its float32

    def test_chances_that_come_true_have_no_error_but_the_draws(self) -> None:
        chance, won = draws(100_000)
        assert reliability(chance, won).ece < 0.01  # a bin of 10 000 pairs scatters by .005

    def test_overconfidence_lies_below_the_diagonal(self) -> None:
        found = reliability(*draws(5000, sharpness=3))
        assert found.mean_confidence > found.mean_accuracy + 0.05

    def test_a_pair_turned_round_counts_alike(self) -> None:
        chance, won = draws(500)
        one, other = reliability(chance, won), reliability(1 - chance, 1 - won)
        for mine, its in zip(one, other, strict=True):
            np.testing.assert_allclose(mine, its, atol=1e-12)  # 1 - (1 - p) rounds

    def test_nobody_predicted_is_right_half_the_time(self) -> None:
        found = reliability([0.5, 0.5, 0.5], [1, 1, 1])
        assert found.ece == 0

    def test_a_draw_is_half_a_win(self) -> None:
        assert reliability([0.9, 0.1], [0.5, 0.5]).mean_accuracy == 0.5

    def test_certainty_falls_into_the_last_bin(self) -> None:
        found = reliability([1.0, 0.96, 0.0], [1, 1, 1])
        assert found.share.tolist() == [1]
        assert found.accuracy == pytest.approx([2 / 3])


class TestPlotReliability:
    def test_the_legend_names_each_curve_with_its_error(self) -> None:
        found = reliability(*draws(500))
        upper, lower = plot_reliability({"scaled": found, "raw": found}).axes
        names = [text.get_text() for text in upper.get_legend().get_texts()]
        assert names == [f"{name}: ECE {found.ece:.3f}" for name in ("scaled", "raw")]
        assert lower.get_xlabel()
