import math

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import ndtr

from vqa_lightning.metrics.reliability import reliability
from vqa_lightning.scoring import ErrorModel
from vqa_lightning.scoring.calibration import fit_errors, ladder_pairs, with_errors


def ladders(errors: ErrorModel, videos: int = 400, seed: int = 0) -> pa.Table:
    """Sources and three levels of falling quality, whose scores have errors that follow the given model from
    spreads of very different size."""
    generator = np.random.default_rng(seed)
    spread = generator.lognormal(-1, 1, (videos, 4))
    # Phi(difference / error) is the chance of an order where any true difference is as likely as any other.
    quality = -np.sort(generator.uniform(0, 30, (videos, 4)))
    score = quality + errors.stderr(spread) * generator.normal(size=(videos, 4))
    return pa.Table.from_pylist(
        [
            {
                "video_id": f"v{video}",
                "simulator": "jpeg" if level else None,
                "level": level,
                "score": score[video, level],
                "stderr": spread[video, level],
            }
            for video in range(videos)
            for level in range(4)
        ]
    )


class TestFitErrors:
    @pytest.mark.parametrize("floor", [0.7, 2.0])
    def test_the_floor_that_made_the_errors_is_found_again(self, floor: float) -> None:
        found = fit_errors(ladders(ErrorModel(1.0, floor), videos=1500))
        assert found.factor == 1
        # Over seeds 1500 ladders leave a deviation of a twentieth; the ends of the range of qualities make
        # errors some hundredths too large.
        assert found.floor == pytest.approx(floor, rel=0.15)

    def test_more_mistakes_ask_for_larger_errors(self) -> None:
        found = [fit_errors(ladders(ErrorModel(1.0, floor))) for floor in (0.3, 1.0, 3.0)]
        assert [errors.floor for errors in found] == sorted(errors.floor for errors in found)

    def test_probabilities_of_other_ladders_come_true(self) -> None:
        truth = ErrorModel(1.5, 1.5)  # a factor that is not looked for, but its mean effect is found
        factor, floor = fit_errors(ladders(truth))
        difference, spread = ladder_pairs(ladders(truth, seed=1))
        chance = ndtr(difference / np.sqrt(factor**2 * spread + 2 * floor**2))
        # 2400 pairs in ten bins scatter by .02 where the probabilities are exact.
        assert reliability(chance, np.ones(len(chance))).ece < 0.04

    def test_scores_in_another_unit_have_errors_in_that_unit(self) -> None:
        table = ladders(ErrorModel(2.0, 1.0))
        larger = [pa.array(1000 * table[name].to_numpy()) for name in ("score", "stderr")]
        table, scaled = table, table.drop_columns(["score", "stderr"])
        for name, column in zip(("score", "stderr"), larger, strict=True):
            scaled = scaled.append_column(name, column)
        one, other = fit_errors(table), fit_errors(scaled)
        assert other.factor == pytest.approx(one.factor)
        assert other.floor == pytest.approx(1000 * one.floor)

    def test_a_faultless_order_leaves_the_spread(self) -> None:
        table = ladders(ErrorModel(0.0, 0.0))
        assert 0 < fit_errors(table).floor < table["stderr"].to_numpy().mean()

    def test_a_faultless_order_without_spread_is_not_taken_for_certain(self) -> None:
        table = ladders(ErrorModel(0.0, 0.0), videos=10)
        place = table.schema.get_field_index("stderr")
        table = table.set_column(place, "stderr", pa.array(np.zeros(len(table))))
        assert fit_errors(table).floor > 0.1  # of a median difference of 10, for half a wrong answer in 60

    def test_an_order_that_is_all_wrong_leaves_a_coin_to_throw(self) -> None:
        table = ladders(ErrorModel(0.0, 0.0), videos=10)
        place = table.schema.get_field_index("score")
        table = table.set_column(place, "score", pa.array(-table["score"].to_numpy()))
        difference, spread = ladder_pairs(table)
        factor, floor = fit_errors(table)
        assert (ndtr(np.abs(difference) / np.sqrt(factor**2 * spread + 2 * floor**2)) < 0.6).all()

    def test_scores_that_are_all_equal_stay_finite(self) -> None:
        table = ladders(ErrorModel(1.0, 0.0))
        place = table.schema.get_field_index("score")
        table = table.set_column(place, "score", pa.array(np.zeros(len(table))))
        assert all(math.isfinite(number) for number in fit_errors(table))

    def test_without_ladders_nothing_is_changed(self) -> None:
        table = ladders(ErrorModel(1.0, 1.0), videos=2)
        assert fit_errors(table.filter(pa.array([False] * len(table)))) == (1.0, 0.0)


class TestLadderPairs:
    def test_every_two_versions_are_compared_the_milder_first(self) -> None:
        difference, spread = ladder_pairs(ladders(ErrorModel(0.0, 0.0), videos=1))
        upper, middle, lower = difference[[0, 3, 5]]
        assert (difference > 0).all()
        np.testing.assert_allclose(
            difference[[1, 2, 4]], [upper + middle, upper + middle + lower, middle + lower], atol=1e-12
        )
        assert (spread > 0).all()

    def test_versions_of_different_simulators_are_not_compared(self) -> None:
        table = ladders(ErrorModel(0.0, 0.0), videos=1)
        place = table.schema.get_field_index("simulator")
        table = table.set_column(place, "simulator", pa.array([None, "a", "a", "b"]))
        assert len(ladder_pairs(table)[0]) == 3 + 1

    def test_a_version_without_a_spread_is_left_out(self) -> None:
        table = ladders(ErrorModel(0.0, 0.0), videos=1)
        place = table.schema.get_field_index("stderr")
        table = table.set_column(place, "stderr", pa.array([1.0, 1.0, None, 1.0]))
        assert len(ladder_pairs(table)[0]) == 3


class TestWithErrors:
    def test_spreads_become_standard_errors_and_unknown_ones_stay_unknown(self) -> None:
        table = pa.table({"score": [1.0, 2.0], "stderr": pa.array([3.0, None], pa.float64())})
        found = with_errors(table, ErrorModel(2.0, 8.0))
        assert found["stderr"].to_pylist() == [10.0, None]
        assert found["score"].to_pylist() == [1.0, 2.0]
