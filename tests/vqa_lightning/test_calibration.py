import numpy as np
import pyarrow as pa
import pytest

from vqa_lightning.calibration import error_factor


def ladders(noise: float, stderr: float, videos: int = 60) -> pa.Table:
    """Sources and five levels whose scores fall by one a level, plus noise of which the annotator claims
    `stderr`."""
    generator = np.random.default_rng(0)
    return pa.Table.from_pylist(
        [
            {
                "video_id": f"v{video}",
                "simulator": "jpeg" if level else None,
                "level": level,
                "score": -level + noise * generator.normal(),
                "stderr": stderr,
            }
            for video in range(videos)
            for level in range(6)
        ]
    )


class TestErrorFactor:
    def test_errors_that_say_half_are_doubled_beside_those_that_say_all(self) -> None:
        half, full = (error_factor(ladders(2.0, stderr)) for stderr in (1.0, 2.0))
        assert half == pytest.approx(2 * full, rel=1e-3)  # the likelihood depends on their product alone

    def test_more_mistakes_ask_for_a_larger_factor(self) -> None:
        factors = [error_factor(ladders(noise, 1.0)) for noise in (0.2, 1.0, 3.0)]
        assert factors == sorted(factors)

    def test_a_faultless_order_stays_finite(self) -> None:
        assert 0.01 <= error_factor(ladders(0.0, 1.0)) < 1

    def test_without_ladders_nothing_is_changed(self) -> None:
        table = ladders(1.0, 1.0).filter(pa.array([False] * 360))
        assert error_factor(table) == 1
