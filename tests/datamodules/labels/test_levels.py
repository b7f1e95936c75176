import math

import pytest
import torch

from datamodules.labels import LEVELS, hard_levels, preference
from datamodules.labels.levels import severity_levels, soft_levels


class TestSoftLevels:
    @pytest.mark.parametrize(
        ("margin", "level"),
        [
            (2.5, "superior"),
            (2.0, "better"),  # METHOD section 2: sD < D <= 2 sD
            (1.5, "better"),
            (1.0, "similar"),  # |D| <= sD
            (0.0, "similar"),
            (-1.0, "similar"),
            (-1.5, "worse"),
            (-2.0, "worse"),  # -2 sD <= D < -sD
            (-2.1, "inferior"),
        ],
    )
    def test_without_blur_is_the_rule_of_the_method(self, margin: float, level: str) -> None:
        levels = soft_levels(torch.tensor([margin]), blur=0)
        assert levels.tolist() == [[float(name == level) for name in LEVELS]]

    def test_mass_of_the_gaussian_between_the_cuts(self) -> None:
        # N(1, .5^2) between -2, -1, 1, 2: by hand from Phi(-6), Phi(-4), Phi(0), Phi(2).
        phi = [0.5 * (1 + math.erf(z / math.sqrt(2))) for z in (-6, -4, 0, 2)]
        expected = [phi[0], phi[1] - phi[0], phi[2] - phi[1], phi[3] - phi[2], 1 - phi[3]]
        levels = soft_levels(torch.tensor([1.0], dtype=torch.float64), blur=0.5)
        assert levels[0].tolist() == pytest.approx(expected, abs=1e-12)

    def test_swapping_the_videos_mirrors_the_levels(self) -> None:
        margin = torch.linspace(-4, 4, 33, dtype=torch.float64)
        assert torch.allclose(soft_levels(margin), soft_levels(-margin).flip(-1))

    def test_tends_to_the_hard_label(self) -> None:
        margin = torch.tensor([-3.0, -1.5, 0.3, 1.7, 2.2], dtype=torch.float64)
        assert torch.allclose(soft_levels(margin, blur=1e-3), soft_levels(margin, blur=0))


class TestSeverityLevels:
    def test_steps(self) -> None:
        first = torch.tensor([0, 0, 1, 2, 5, 3])
        second = torch.tensor([1, 4, 0, 2, 0, 4])
        named = [LEVELS[i] for i in hard_levels(severity_levels(first, second)).tolist()]
        assert named == ["worse", "inferior", "better", "similar", "superior", "worse"]


def test_preference_weighs_the_levels() -> None:
    assert preference(torch.eye(5)).tolist() == [0, 0.25, 0.5, 0.75, 1]
